"""Attempts: what becomes of a trial when one of them ends, and whether another follows."""

from dataclasses import dataclass, replace
from datetime import datetime

from rafiki.resources import (
    StopReason,
    Trial,
    TrialCosts,
    TrialError,
    TrialErrorKind,
    TrialOutcome,
    TrialPhase,
    TrialState,
    TrialTimings,
)
from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.domain.outcomes import Cancelled, Outcome, completed
from rafiki.server.domain.studies import StudyFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTrial:
    """A trial that has not ended, with what only the server knows of it.

    `lease_token` is that of the latest attempt; it stays good for an outcome until the trial
    is assigned again, unless `attempt_error` says that this attempt is over. `handed_back`
    counts the attempts that ended in good order, before their time. `costs` are set once a
    PROBE has completed.
    """

    trial: Trial
    evaluate: bool
    save: bool
    lease_token: str | None
    pending_since: datetime | None = None
    attempt_error: TrialError | None = None
    costs: TrialCosts | None = None
    handed_back: int = 0

    @property
    def attempts_lost(self) -> int:
        """The attempts before the latest that were lost, or ended with an error."""
        return self.trial.attempt - 1 - self.handed_back


def after_outcome(
    live: LiveTrial,
    outcome: Outcome,
    timings: TrialTimings | None,
    *,
    facts: StudyFacts,
    may_retry: bool,
    now: datetime,
) -> LiveTrial:
    """The trial once a worker has reported an outcome: ended, or PENDING for another attempt.

    Raises:
        InvalidArgument: The trial cannot have this outcome.
    """
    trial = replace(live.trial, timings=_timings(live.trial, timings), progress=None)
    live = replace(live, pending_since=None)
    match outcome:
        case TrialOutcome():
            trial = completed(
                trial,
                outcome,
                evaluate=live.evaluate,
                save=live.save,
                direction=facts.direction,
                has_test_dataset=facts.test_dataset is not None,
            )
            costs = outcome.costs if trial.phase is TrialPhase.PROBE else None
            return replace(live, trial=replace(trial, end_time=now), costs=costs)
        case Cancelled():
            if trial.stop_reason is None:
                rule = "the trial was not told to stop; to hand it back, close the session"
                raise InvalidArgument([("cancelled", rule)])
            trial = replace(trial, state=TrialState.CANCELLED, end_time=now)
            return replace(live, trial=trial)
        case TrialError():
            if outcome.kind is TrialErrorKind.WORKER_LOST:
                raise InvalidArgument([("error.kind", "WORKER_LOST is set by the server only")])
            if outcome.kind.is_retried and may_retry:
                trial = replace(trial, state=TrialState.PENDING)
                return replace(live, trial=trial, pending_since=now, attempt_error=outcome)
            trial = replace(trial, state=TrialState.ERRORED, error=outcome, end_time=now)
            return replace(live, trial=trial, attempt_error=outcome)


def after_loss(live: LiveTrial, *, may_retry: bool, now: datetime) -> LiveTrial:
    """The trial once its lease is lost: PENDING again, or ERRORED if attempts ran out."""
    if may_retry:
        trial = replace(live.trial, state=TrialState.PENDING)
        return replace(live, trial=trial, pending_since=now)
    message = f"the worker was lost in attempt {live.trial.attempt}, the last: {live.trial.worker}"
    error = TrialError(kind=TrialErrorKind.WORKER_LOST, message=message)
    trial = replace(live.trial, state=TrialState.ERRORED, error=error, end_time=now)
    return replace(live, trial=trial, lease_token=None, attempt_error=error)


def after_hand_back(live: LiveTrial, *, now: datetime) -> LiveTrial:
    """The trial once its worker has handed it back, or never had it: PENDING again."""
    trial = replace(live.trial, state=TrialState.PENDING)
    return replace(live, trial=trial, pending_since=now, handed_back=live.handed_back + 1)


def after_cancel(live: LiveTrial, reason: StopReason, *, now: datetime) -> LiveTrial:
    """The trial once the server has given it up."""
    trial = replace(
        live.trial,
        state=TrialState.CANCELLED,
        stop_reason=live.trial.stop_reason or reason,
        end_time=now,
    )
    return replace(live, trial=trial, lease_token=None)


def next_attempt(live: LiveTrial, *, worker_id: str, lease_token: str, now: datetime) -> LiveTrial:
    """The PENDING trial, RUNNING its next attempt."""
    queue_s = (now - live.pending_since).total_seconds() if live.pending_since else 0.0
    trial = replace(
        live.trial,
        state=TrialState.RUNNING,
        attempt=live.trial.attempt + 1,
        worker=worker_id,
        start_time=now,
        timings=TrialTimings(queue_s=max(0.0, queue_s)),
        progress=None,
    )
    return replace(
        live, trial=trial, lease_token=lease_token, pending_since=None, attempt_error=None
    )


def _timings(trial: Trial, reported: TrialTimings | None) -> TrialTimings:
    queue_s = trial.timings.queue_s if trial.timings else 0.0
    return replace(reported or TrialTimings(), queue_s=queue_s)
