"""The steps of a study: each writes in one transaction, then moves the state in memory.

Whoever takes a step holds the lock of the study. A step that fails leaves the state in doubt:
it must then be loaded again.
"""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta

from rafiki.resources import (
    Candidate,
    EndReason,
    StopReason,
    StudyState,
    Trial,
    TrialPhase,
    TrialState,
    TrialTimings,
)
from rafiki.server.domain.advisor import Decision, Merge, Proposal, Proposed, Situation
from rafiki.server.domain.attempts import LiveTrial, after_cancel, next_attempt
from rafiki.server.domain.budget_clock import BudgetClock
from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.domain.leases import Lease
from rafiki.server.domain.names import CheckpointName, TrialName
from rafiki.server.domain.outcomes import is_behind
from rafiki.server.domain.seeds import derive_seed
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.workers import Worker
from rafiki.server.service.report_log import LoggedReport, Report, log_report, log_scores
from rafiki.server.service.study_fold import StudyFold
from rafiki.server.service.study_log import (
    StudyView,
    is_deployable,
    log_best,
    log_end,
    log_merge,
    log_progress,
    log_proposal,
    log_study_end,
)
from rafiki.server.service.surroundings import Surroundings
from rafiki.server.store.changes import add_trial_change
from rafiki.server.store.jobs import budget_times, start_budget_clock
from rafiki.server.store.rankings import rank_of
from rafiki.server.store.trials import (
    end_attempt,
    end_trial,
    has_checkpoint,
    lose_attempt,
    note_stop,
    start_attempt,
)

# The plan of a study is compared with the stored one at most so often.
_LOOK_INTERVAL = timedelta(seconds=1)


class StudySteps:
    """A study as it is in the database, and the steps it can take from there.

    Args:
        facts: The study as it was created.
        budget: The time budget of its job; set here from the database.
        around: The rest of the server. Leases of running trials that are in nobody's hands
            are granted afresh.
    """

    def __init__(self, facts: StudyFacts, budget: BudgetClock, around: Surroundings) -> None:
        self._facts = facts
        self._budget = budget
        self._around = around
        advisor = around.create_advisor(facts.advisor_config())
        with budget.turn, around.database.read() as connection:
            budget.times = budget_times(connection, facts.name.job)
        with around.database.read() as connection:
            self.fold = StudyFold.load(connection, facts.name, advisor, facts.direction)
        self._stored_view = self.view(around.clock())
        self._looked_at = around.clock()
        self._take_leases()

    def view(self, now: datetime) -> StudyView:
        """How far the search has come."""
        return StudyView.of(self.fold.advisor, self._budget.elapsed_s(now))

    def settle(self, now: datetime) -> None:
        """Lets the advisor learn from what has happened, and stores what is new of the search."""
        fold = self.fold
        fold.settle()
        rounds = fold.advisor.rounds()[fold.stored_rounds :]
        view = None
        if rounds or fold.advisor.phase() != self._stored_view.phase or self._is_look_due(now):
            self._looked_at = now
            view = self.view(now)
            if not rounds and view.outline == self._stored_view.outline:
                view = None
        snapshot = fold.snapshot() if rounds or fold.is_snapshot_due else None
        if view is None and snapshot is None:
            return
        with self._around.database.write() as connection:
            log_progress(
                connection, self._facts.name, view=view, rounds=rounds, snapshot=snapshot, now=now
            )
        fold.stored_rounds += len(rounds)
        if snapshot is not None:
            fold.snapshot_sequence = snapshot.after_sequence
        if view is not None:
            self._stored_view = view
            self._around.signals.job_changed(self._facts.name.job)

    def decide(self, workers: int, now: datetime) -> Decision:
        """What the advisor would do next."""
        elapsed_s = self._budget.elapsed_s(now)
        situation = Situation(number=self.fold.number + 1, elapsed_s=elapsed_s, workers=workers)
        return self.fold.advisor.decide(situation)

    def pending_for(self, worker: Worker, workers: int) -> LiveTrial | None:
        """What waits for another attempt; after an error rather with another worker."""
        for number in sorted(self.fold.pending):
            live = self.fold.live[number]
            is_same = live.trial.worker == worker.worker_id
            if not (is_same and live.attempt_error is not None and workers > 1):
                return live
        return None

    def assign_again(
        self, waiting: LiveTrial, worker: Worker, now: datetime
    ) -> tuple[LiveTrial, Lease] | None:
        """Starts the next attempt of a PENDING trial; None if the job is paused."""
        name = TrialName.parse(waiting.trial.name)
        live = next_attempt(waiting, worker_id=worker.worker_id, lease_token=_token(), now=now)
        with self._budget.turn:
            if self._budget.is_paused:
                return None
            with self._around.database.write() as connection:
                _must(start_attempt(connection, name, live), name)
                add_trial_change(connection, name, now)
        self.fold.keep(live)
        return live, self._grant(live)

    def propose(
        self, proposal: Proposal, worker: Worker, now: datetime
    ) -> tuple[LiveTrial, Lease] | None:
        """Makes a trial of a proposal, and starts its first attempt; None if the job is paused."""
        study, number = self._facts.name, self.fold.number + 1
        proposal = replace(
            proposal,
            # An external worker has no model whose parameters could be kept.
            save=proposal.save and not self._facts.is_external,
            basis={key: float(value) for key, value in proposal.basis.items()},
        )
        live = LiveTrial(
            trial=self._proposed_trial(number, proposal, worker, now),
            evaluate=proposal.evaluate,
            save=proposal.save,
            lease_token=_token(),
        )
        with self._budget.turn:
            times = self._budget.times
            if self._budget.is_paused:
                return None
            with self._around.database.write() as connection:
                if times.start is None and proposal.phase is not TrialPhase.PROBE:
                    # Not `now`: the first decision may have taken long.
                    start = start_budget_clock(connection, study.job, self._around.clock())
                    times = replace(times, start=start)
                at_s = times.elapsed_s(now)
                event = Proposed(number=number, at_s=at_s, proposal=proposal)
                log_proposal(connection, live, event, sequence=self.fold.sequence + 1, now=now)
            self._budget.times = times
        self.fold.number = number
        self.fold.note(event)
        self.fold.keep(live)
        return live, self._grant(live)

    def store_outcome(self, name: TrialName, after: LiveTrial, now: datetime) -> bool:
        """Stores what an attempt came to; returns whether that reaches the goal of the job."""
        fold, trial = self.fold, after.trial
        is_best = is_goal = False
        if trial.score is not None and is_deployable(self._facts, trial):
            is_best = self._is_best(trial.score, rank_of(trial))
            is_goal = self._facts.reaches_goal(trial.score)
        event = None
        with self._around.database.write() as connection:
            if trial.final_checkpoint:
                checkpoint = CheckpointName.parse(trial.final_checkpoint, "completed.checkpoint")
                if not has_checkpoint(connection, checkpoint):
                    raise InvalidArgument([("completed.checkpoint", "must be created before")])
            _must(end_attempt(connection, name, after), name)
            if trial.state.is_end:
                event = log_end(
                    connection,
                    after,
                    sequence=fold.sequence + 1,
                    at_s=self._budget.elapsed_s(now),
                    now=now,
                )
                if is_best:
                    log_best(connection, self._facts, trial, now)
            else:
                add_trial_change(connection, name, now)
        fold.keep(after)
        if event is not None:
            fold.note(event)
        if is_best and trial.score is not None:
            fold.best = (rank_of(trial), trial.score)
        return is_goal

    def merge(self, merge: Merge, now: datetime) -> None:
        """Merges the shards of a round, and stores the result; or why that cannot be done."""
        merged, error = self._around.merge(self._facts.name, merge)
        end = self._around.clock()
        with self._around.database.write() as connection:
            event = log_merge(
                connection,
                self._facts.name,
                merge,
                replace(merged, create_time=end) if merged is not None else None,
                error=error,
                sequence=self.fold.sequence + 1,
                at_s=self._budget.elapsed_s(end),
                merge_s=max(0.0, (end - now).total_seconds()),
                now=end,
            )
        self.fold.note(event)

    def report(self, name: TrialName, token: str, report: Report, now: datetime) -> LoggedReport:
        """Stores a report; its scores are events, where they are of a running TUNE trial."""
        fold = self.fold
        with self._around.database.write() as connection:
            logged = log_report(connection, name, token, report, now)
            events = log_scores(
                connection,
                name,
                logged,
                sequence=fold.sequence + 1,
                at_s=self._budget.elapsed_s(now),
                now=now,
            )
        for event in events:
            fold.note(event)
        return logged

    def stop_behind(self, now: datetime) -> list[str]:
        """Tells the running trials to stop that the advisor wants stopped; returns their names."""
        stops = self.fold.advisor.stops()
        behind = [
            live
            for live in self.fold.running
            if live.trial.stop_reason is None and TrialName.parse(live.trial.name).trial in stops
        ]
        for live in behind:
            self._tell_to_stop(live, StopReason.EARLY_STOPPED, now)
        return [live.trial.name for live in behind]

    def store_loss(self, after: LiveTrial, now: datetime) -> None:
        """Stores that a trial whose lease was lost waits for another attempt, or has ended."""
        if after.trial.state.is_end:
            self._end_here(after, now)
            return
        name = TrialName.parse(after.trial.name)
        with self._around.database.write() as connection:
            _must(lose_attempt(connection, name, after), name)
            add_trial_change(connection, name, now)
        self.fold.keep(after)

    def give_up(self, live: LiveTrial, now: datetime) -> None:
        """Ends a trial that is not wanted any more."""
        self._end_here(after_cancel(live, StopReason.JOB_ENDED, now=now), now)

    def wind_down(self, now: datetime) -> None:
        """Gives up what waits, and tells all that runs to stop at once."""
        for number in sorted(self.fold.pending):
            self.give_up(self.fold.live[number], now)
        for live in self.fold.running:
            if live.trial.stop_reason in (None, StopReason.EARLY_STOPPED):
                self._tell_to_stop(live, StopReason.JOB_ENDED, now)

    def hurry(self, now: datetime) -> None:
        """The time is over: what can be done without is not tried again, the rest cut short."""
        if self.fold.best is not None:
            for number in sorted(self.fold.pending):
                self.give_up(self.fold.live[number], now)
        for live in self.fold.running:
            if live.trial.phase is TrialPhase.TUNE and live.trial.stop_reason is None:
                self._tell_to_stop(live, StopReason.EARLY_STOPPED, now)

    def end(self, reason: EndReason, message: str, now: datetime) -> StudyState:
        """Ends the study, and its job with the last of its studies."""
        self.fold.settle()
        view = self.view(now)
        with self._around.database.write() as connection:
            state = log_study_end(
                connection, self._facts, view, reason=reason, message=message, now=now
            )
        self._stored_view = view
        return state

    def _end_here(self, after: LiveTrial, now: datetime) -> None:
        """Ends a trial from the side of the server."""
        name = TrialName.parse(after.trial.name)
        with self._around.database.write() as connection:
            _must(end_trial(connection, name, after), name)
            at_s = self._budget.elapsed_s(now)
            event = log_end(connection, after, sequence=self.fold.sequence + 1, at_s=at_s, now=now)
        self.fold.keep(after)
        self.fold.note(event)

    def _tell_to_stop(self, live: LiveTrial, reason: StopReason, now: datetime) -> None:
        name, token = TrialName.parse(live.trial.name), live.lease_token or ""
        with self._around.database.write() as connection:
            _must(note_stop(connection, name, lease_token=token, reason=reason), name)
            add_trial_change(connection, name, now)
        self.fold.keep(replace(live, trial=replace(live.trial, stop_reason=reason)))
        lease = self._around.leases.mark_stopped(token, reason)
        if lease is not None:
            self._around.signals.lease_stopped(lease)

    def _take_leases(self) -> None:
        """Makes the leases that are held those of the trials that run."""
        around = self._around
        running = {live.lease_token for live in self.fold.running}
        held = {lease.token for lease in around.leases.of_study(self._facts.name)}
        for token in held - running:
            lease = around.leases.drop(token)
            if lease is not None:
                around.signals.lease_ended(lease)
        for live in self.fold.running:
            if live.lease_token not in held:
                self._grant(live)

    def _grant(self, live: LiveTrial) -> Lease:
        now = self._around.clock()
        lease = Lease(
            token=live.lease_token or "",
            trial=TrialName.parse(live.trial.name),
            worker_id=live.trial.worker,
            grant_time=now,
            expire_time=now + self._around.lease_duration,
            gpu_count=1 if self._facts.gpu_count else 0,
            stop_reason=live.trial.stop_reason,
        )
        self._around.leases.grant(lease)
        return lease

    def _proposed_trial(
        self, number: int, proposal: Proposal, worker: Worker, now: datetime
    ) -> Trial:
        study = self._facts.name
        return Trial(
            name=str(TrialName(study.job, study.study, number)),
            phase=proposal.phase,
            knobs=proposal.knobs,
            candidates=tuple(Candidate(archs=archs) for archs in proposal.candidates),
            policies=proposal.policies,
            seed=derive_seed(self._facts.seed, "trial", number),
            start_checkpoint=proposal.start_checkpoint,
            round=proposal.round,
            shard=proposal.shard,
            data_seed=proposal.data_seed,
            control=proposal.control,
            state=TrialState.RUNNING,
            attempt=1,
            worker=worker.worker_id,
            timings=TrialTimings(queue_s=0.0),
            create_time=now,
            start_time=now,
            basis=proposal.basis,
        )

    def _is_best(self, score: float, rank: int) -> bool:
        if self.fold.best is None:
            return True
        best_rank, best_score = self.fold.best
        if rank != best_rank:
            return rank < best_rank
        return is_behind(best_score, score, self._facts.direction)

    def _is_look_due(self, now: datetime) -> bool:
        return not timedelta(0) <= now - self._looked_at < _LOOK_INTERVAL


def _token() -> str:
    return secrets.token_hex(16)


def _must(is_updated: bool, name: TrialName) -> None:
    """Raises unless the row of the trial was in the state that memory has it in."""
    if not is_updated:
        raise RuntimeError(f"the row of {name} is not in the state it was last seen in")
