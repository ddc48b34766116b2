"""One running study: assigns its trials, takes their outcomes and ends it, one step at a time.

Should a step fail halfway, the state is read again from the database before the next one,
so that memory and database never differ.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from rafiki.program import lease_id
from rafiki.resources import EndReason, StudyState, Trial, TrialState, TrialTimings
from rafiki.server.domain.advisor import Finish, Merge, Proposal, Wait
from rafiki.server.domain.attempts import LiveTrial, after_hand_back, after_loss, after_outcome
from rafiki.server.domain.budget_clock import BudgetClock
from rafiki.server.domain.errors import DomainError
from rafiki.server.domain.leases import Lease
from rafiki.server.domain.names import TrialName
from rafiki.server.domain.outcomes import Outcome
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.workers import Worker
from rafiki.server.service.repeats import recorded_outcome
from rafiki.server.service.report_log import LoggedReport, Report
from rafiki.server.service.study_log import StudyView
from rafiki.server.service.study_steps import StudySteps
from rafiki.server.service.surroundings import Assignment, Surroundings
from rafiki.server.store.studies import find_study

logger = logging.getLogger(__name__)

# How long a reader waits for a study that is busy before it is shown an older view.
_VIEW_TIMEOUT_S = 0.05

# Trials that take longer, on average, are not sent ahead: what a worker gains by having the
# next one at hand would be little, and another worker may be free to run it first.
_SHORT_S = 1.0
_PACE_WEIGHT = 0.2

_LOST = "lease lost trial=%s attempt=%d worker=%s lease=%s"
_HANDED_BACK = "trial handed back trial=%s attempt=%d worker=%s lease=%s"

_END_MESSAGES = {
    EndReason.STOPPED: "the job was stopped",
    EndReason.GOAL_REACHED: "the goal of the job is reached",
}


class _Pace:
    """How long trials take, the latest counting most."""

    def __init__(self) -> None:
        self._mean_s: float | None = None

    def note(self, duration: timedelta) -> None:
        """Takes in the duration of a trial, from its assignment to its outcome."""
        last_s = duration.total_seconds()
        mean_s = last_s if self._mean_s is None else self._mean_s
        self._mean_s = mean_s + _PACE_WEIGHT * (last_s - mean_s)

    @property
    def is_short(self) -> bool:
        """Whether trials are so short that the wait for the next one matters."""
        return self._mean_s is not None and self._mean_s < _SHORT_S


class StudyRunner:
    """Runs one study until it ends. Thread-safe: what it is asked to do waits for its turn.

    Args:
        facts: The study as it was created.
        budget: The time budget, shared with the other studies of the job.
        surroundings: The rest of the server.
        on_goal: Called, without the lock, once a trial has reached the goal of the job.
        ending: Why the study is to end, where that is known already.
    """

    def __init__(
        self,
        facts: StudyFacts,
        budget: BudgetClock,
        surroundings: Surroundings,
        *,
        on_goal: Callable[[], None],
        ending: EndReason | None = None,
    ) -> None:
        self.facts = facts
        self.is_ended = False
        self._budget = budget
        self._around = surroundings
        self._on_goal = on_goal
        self._ending = ending
        self._turn = threading.Lock()
        self._is_stale = False
        self._steps = StudySteps(facts, budget, surroundings)
        self._proposes_ahead = self._steps.fold.advisor.proposes_ahead
        self._pace = _Pace()
        self._view = self._steps.view(surroundings.clock())

    def assign(self, worker: Worker, workers: int) -> Assignment | None:
        """Gives the worker a trial; None if there is none for it now.

        `workers` is how many, this one included, can run trials of the study.
        """
        with self._taking_turn() as (steps, now):
            steps.settle(now)
            if self._rests(steps, now):
                return None
            waiting = steps.pending_for(worker, workers)
            if waiting is not None:
                assigned = steps.assign_again(waiting, worker, now)
            else:
                decision, now = self._decide(steps, workers, now)
                match decision:
                    case Proposal() as proposal:
                        assigned = steps.propose(proposal, worker, now)
                    case Finish() as finish:
                        self._finish(steps, finish, now)
                        return None
                    case Wait():
                        return None
        if assigned is None:
            return None
        live, lease = assigned
        logger.info(
            "trial assigned trial=%s attempt=%d worker=%s lease=%s",
            live.trial.name,
            live.trial.attempt,
            live.trial.worker,
            lease_id(lease.token),
        )
        self._around.signals.job_changed(self.facts.name.job)
        return Assignment(
            facts=self.facts,
            trial=live.trial,
            lease=lease,
            evaluate=live.evaluate,
            save=live.save,
        )

    def advance(self, workers: int) -> None:
        """Does what needs no worker: learns, looks at the clock, ends the study."""
        with self._taking_turn() as (steps, now):
            steps.settle(now)
            if self._rests(steps, now) or steps.fold.live:
                return
            decision, now = self._decide(steps, max(1, workers), now)
            if isinstance(decision, Finish):
                self._finish(steps, decision, now)

    def complete(
        self,
        name: TrialName,
        token: str,
        outcome: Outcome,
        timings: TrialTimings | None,
        *,
        is_followed: bool = False,
    ) -> Trial:
        """Records what an attempt came to; returns the trial after the commit.

        The advisor learns of it before it next decides, not here. `is_followed`: the caller
        has it decide at once, by `assign`.

        Raises:
            LeaseLost: The trial was assigned again, or has ended otherwise.
            InvalidArgument: The trial cannot have this outcome.
        """
        with self._taking_turn() as (steps, now):
            live = steps.fold.live.get(name.trial)
            if live is None or live.lease_token != token or live.attempt_error is not None:
                return recorded_outcome(self._around.database, name, token)
            after = after_outcome(
                live,
                outcome,
                timings,
                facts=self.facts,
                may_retry=self._may_retry(live),
                now=now,
            )
            is_goal = steps.store_outcome(name, after, now)
            if is_goal and self._ending is None:
                self._ending = EndReason.GOAL_REACHED
            lease = self._around.leases.drop(token)
        logger.info(
            "trial reported trial=%s attempt=%d state=%s worker=%s lease=%s",
            name,
            after.trial.attempt,
            after.trial.state,
            after.trial.worker,
            lease_id(token),
        )
        if lease is not None:
            self._around.signals.lease_ended(lease)
        if after.trial.start_time is not None:
            self._pace.note(now - after.trial.start_time)
        if is_followed:
            self._around.signals.job_changed(self.facts.name.job)
        else:
            self._tell()
        if is_goal:
            self._on_goal()
        return after.trial

    def report(self, name: TrialName, token: str, report: Report) -> LoggedReport:
        """Stores a report with intermediate scores, and tells trials to stop that are behind.

        Raises:
            ResourceNotFound: There is no such trial.
            LeaseLost: The lease is not that of its latest attempt, or the trial has ended.
        """
        with self._taking_turn() as (steps, now):
            logged = steps.report(name, token, report, now)
            steps.settle(now)
            stopped = steps.stop_behind(now)
        for trial in stopped:
            logger.info("trial is behind and is told to stop trial=%s", trial)
        if stopped:
            self._around.signals.job_changed(self.facts.name.job)
        return logged

    def lose(self, lease: Lease, *, is_handed_back: bool = False) -> None:
        """Takes back a trial whose lease, removed from the table, is lost or given up.

        `is_handed_back`: in good order, or before the worker had it; this costs no attempt.
        """
        self._around.signals.lease_ended(lease)
        with self._taking_turn() as (steps, now):
            live = steps.fold.live.get(lease.trial.trial)
            if (
                live is None
                or live.lease_token != lease.token
                or live.trial.state is not TrialState.RUNNING
            ):
                return
            if self._ending is not None:
                steps.give_up(live, now)
            else:
                after = (
                    after_hand_back(live, now=now)
                    if is_handed_back
                    else after_loss(live, may_retry=self._may_retry(live), now=now)
                )
                steps.store_loss(after, now)
            self._around.leases.drop(lease.token)  # a study read again grants its leases afresh
        logger.info(
            _HANDED_BACK if is_handed_back else _LOST,
            lease.trial,
            live.trial.attempt,
            lease.worker_id,
            lease_id(lease.token),
        )
        self._tell()

    def stop(self, reason: EndReason) -> None:
        """Has the study end: nothing more is assigned, running trials are told to stop."""
        with self._taking_turn() as (steps, now):
            if self._ending is None or reason is EndReason.STOPPED:
                self._ending = reason
            self._rests(steps, now)
        self._tell()

    def needed_checkpoints(self) -> frozenset[str]:
        """What the advisor may yet have a trial start from, or merged; waits for its turn."""
        with self._taking_turn() as (steps, _):
            steps.fold.settle()
            return steps.fold.advisor.needed_checkpoints()

    def view(self) -> StudyView:
        """How far the search has come; somewhat old while the study is busy."""
        if self._turn.acquire(timeout=_VIEW_TIMEOUT_S):
            try:
                if not self._is_stale:
                    self._view = self._steps.view(self._around.clock())
            finally:
                self._turn.release()
        return self._view

    @property
    def sends_ahead(self) -> bool:
        """Whether trials may be given to workers before these have room to run them."""
        return self._proposes_ahead and self._pace.is_short

    @property
    def is_due(self) -> bool:
        """Whether there may be something to do although no worker is free."""
        return not self._steps.fold.live or self._ending is not None or self.is_time_over

    @property
    def avoided(self) -> frozenset[str]:
        """Workers whose attempts failed in a way that another worker's may not."""
        fold = self._steps.fold
        lives = [fold.live.get(number) for number in tuple(fold.pending)]
        return frozenset(x.trial.worker for x in lives if x is not None and x.attempt_error)

    @property
    def is_time_over(self) -> bool:
        """Whether the time budget is used up."""
        return self._budget.is_over(self._around.clock(), self.facts.time_s)

    @contextmanager
    def _taking_turn(self) -> Iterator[tuple[StudySteps, datetime]]:
        with self._turn:
            if self._is_stale:
                logger.warning("reading study again study=%s", self.facts.name)
                self._steps = StudySteps(self.facts, self._budget, self._around)
                self._notice_end()
            self._is_stale = True
            try:
                yield self._steps, self._around.clock()
            except DomainError:  # raised before anything was written, or rolled back
                self._is_stale = False
                raise
            self._is_stale = False

    def _notice_end(self) -> None:
        """The commit that ended the study may have been made although it seemed to fail."""
        with self._around.database.read() as connection:
            stored = find_study(connection, self.facts.name)
        if stored is not None and stored.study.state is not StudyState.RUNNING:
            self.is_ended = True
            self._around.signals.study_ended(self.facts.name)
            self._tell()

    def _rests(self, steps: StudySteps, now: datetime) -> bool:
        """Whether nothing may be assigned; does what that calls for."""
        if self.is_ended:
            return True
        if self._ending is not None:
            steps.wind_down(now)
            if not steps.fold.live:
                self._end(steps, self._ending, _END_MESSAGES[self._ending], now)
            return True
        if self._budget.is_paused:
            return True
        if self._budget.is_over(now, self.facts.time_s):
            steps.hurry(now)
        return False

    def _decide(
        self, steps: StudySteps, workers: int, now: datetime
    ) -> tuple[Proposal | Wait | Finish, datetime]:
        """What the advisor would do next, and when, once all is merged that it wants merged."""
        while isinstance(decision := steps.decide(workers, now), Merge):
            steps.merge(decision, now)
            now = self._around.clock()
            steps.settle(now)
        return decision, now

    def _finish(self, steps: StudySteps, finish: Finish, now: datetime) -> None:
        if not steps.fold.live:
            self._end(steps, finish.reason, finish.message, now)

    def _end(self, steps: StudySteps, reason: EndReason, message: str, now: datetime) -> None:
        state = steps.end(reason, message, now)
        self.is_ended = True
        self._view = steps.view(now)
        logger.info("study ended study=%s state=%s reason=%s", self.facts.name, state, reason)
        self._around.signals.study_ended(self.facts.name)
        self._tell()

    def _may_retry(self, live: LiveTrial) -> bool:
        return self._ending is None and live.attempts_lost + 1 < self._around.max_attempts

    def _tell(self) -> None:
        self._around.signals.study_moved(self.facts.name)
        self._around.signals.job_changed(self.facts.name.job)
