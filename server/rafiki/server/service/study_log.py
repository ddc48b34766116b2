"""What a study writes, inside a transaction of its runner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from rafiki.resources import (
    Checkpoint,
    ControlArm,
    EndReason,
    StudyPlan,
    StudyRound,
    StudyState,
    TrainJobState,
    Trial,
    TrialPhase,
    TrialState,
)
from rafiki.server.domain.advisor import Advisor, Ended, Merge, Merged, Proposed
from rafiki.server.domain.attempts import LiveTrial
from rafiki.server.domain.names import CheckpointName, StudyName, TrialName
from rafiki.server.domain.studies import DEPLOYABLE_PHASES, StudyFacts
from rafiki.server.store.blob_records import record_blobs
from rafiki.server.store.changes import (
    add_job_change,
    add_round_change,
    add_study_change,
    add_trial_change,
)
from rafiki.server.store.checkpoints import insert_checkpoint
from rafiki.server.store.events import EventKind, Snapshot, add_event, ended_event, save_snapshot
from rafiki.server.store.jobs import end_job, job_state, set_best_of_job
from rafiki.server.store.rankings import best_trial
from rafiki.server.store.studies import (
    count_end,
    end_study,
    has_succeeded,
    insert_rounds,
    running_studies,
    set_best_of_study,
    set_progress,
    study_numbers,
)
from rafiki.server.store.trials import insert_trial


@dataclass(frozen=True, slots=True)
class StudyView:
    """How far the search of a study has come."""

    phase: TrialPhase
    plan: StudyPlan
    control_arm: ControlArm | None

    @classmethod
    def of(cls, advisor: Advisor, elapsed_s: float) -> "StudyView":
        """The view of an advisor at `elapsed_s` of the time budget."""
        return cls(advisor.phase(), advisor.plan(elapsed_s), advisor.control_arm())

    @property
    def outline(self) -> tuple[object, ...]:
        """What of it is worth telling watchers when it changes."""
        plan = self.plan
        return (
            self.phase,
            plan.rounds,
            plan.completed_rounds,
            plan.trials,
            plan.final_trains,
            plan.measured,
        )


def is_deployable(facts: StudyFacts, trial: Trial) -> bool:
    """Whether a trial may be the best of its study."""
    return (
        trial.state is TrialState.COMPLETED
        and trial.phase in DEPLOYABLE_PHASES
        and not trial.control
        and trial.score is not None
        and (facts.is_external or bool(trial.final_checkpoint))
    )


def log_proposal(
    connection: Connection, live: LiveTrial, event: Proposed, *, sequence: int, now: datetime
) -> None:
    """Stores a proposed trial as the event `sequence`."""
    name = TrialName.parse(live.trial.name)
    insert_trial(connection, live)
    add_event(
        connection,
        name.parent,
        sequence=sequence,
        kind=EventKind.PROPOSED,
        trial=name.trial,
        at_s=event.at_s,
        time=now,
    )
    add_trial_change(connection, name, now)


def log_end(
    connection: Connection, live: LiveTrial, *, sequence: int, at_s: float, now: datetime
) -> Ended:
    """Stores that a trial, whose row is updated, has ended as the event `sequence`."""
    name = TrialName.parse(live.trial.name)
    add_event(
        connection,
        name.parent,
        sequence=sequence,
        kind=EventKind.ENDED,
        trial=name.trial,
        at_s=at_s,
        time=now,
    )
    count_end(connection, name.parent, live.trial.state)
    add_trial_change(connection, name, now)
    return ended_event(name.trial, at_s, live)


def log_merge(
    connection: Connection,
    study: StudyName,
    merge: Merge,
    merged: Checkpoint | None,
    *,
    error: str,
    sequence: int,
    at_s: float,
    merge_s: float,
    now: datetime,
) -> Merged:
    """Stores what a merge came to, a checkpoint or an error, as the event `sequence`."""
    if merged is not None:
        record_blobs(connection, (tensor.digest for tensor in merged.tensors), now)
        insert_checkpoint(connection, CheckpointName.parse(merged.name), merged)
    checkpoint = merged.name if merged is not None else ""
    add_event(
        connection,
        study,
        sequence=sequence,
        kind=EventKind.MERGED,
        trial=merge.number,
        at_s=at_s,
        time=now,
        round=merge.round,
        checkpoint=checkpoint,
        merge_s=merge_s,
        message=error,
    )
    return Merged(
        number=merge.number,
        at_s=at_s,
        round=merge.round,
        checkpoint=checkpoint,
        merge_s=merge_s,
        error=error,
    )


def log_best(connection: Connection, facts: StudyFacts, trial: Trial, now: datetime) -> None:
    """Stores that a trial, whose row is updated, is the best of its study; perhaps of its job."""
    job_id = facts.name.job
    set_best_of_study(connection, facts.name, trial.name)
    add_study_change(connection, facts.name, now)
    best = best_trial(connection, job_id, study_numbers(connection, job_id), facts.direction)
    assert best is not None
    set_best_of_job(connection, job_id, str(best[0]))
    add_job_change(connection, job_id, now)


def log_progress(
    connection: Connection,
    study: StudyName,
    *,
    view: StudyView | None,
    rounds: Sequence[StudyRound],
    snapshot: Snapshot | None,
    now: datetime,
) -> None:
    """Stores what is new of a search."""
    insert_rounds(connection, study, rounds)
    for item in rounds:
        add_round_change(connection, study, item.round, now)
    if view is not None:
        _set_view(connection, study, view)
        add_study_change(connection, study, now)
    if snapshot is not None:
        save_snapshot(connection, study, snapshot, now)


def log_study_end(
    connection: Connection,
    facts: StudyFacts,
    view: StudyView,
    *,
    reason: EndReason,
    message: str,
    now: datetime,
) -> StudyState:
    """Ends a study, and its job with the last of its studies; returns the study's state."""
    study, job_id = facts.name, facts.name.job
    if reason is EndReason.STOPPED:
        state = StudyState.STOPPED
    elif best_trial(connection, job_id, [study.study], facts.direction) is not None:
        state = StudyState.SUCCEEDED
    else:
        state = StudyState.FAILED
    _set_view(connection, study, view)
    if not end_study(connection, study, state=state, reason=reason, message=message, time=now):
        raise RuntimeError(f"{study} has ended already")
    add_study_change(connection, study, now)
    if not running_studies(connection, job_id):
        _end_job(connection, job_id, now)
    return state


def _end_job(connection: Connection, job_id: str, now: datetime) -> None:
    if job_state(connection, job_id) is TrainJobState.STOPPING:
        state = TrainJobState.STOPPED
    elif has_succeeded(connection, job_id):
        state = TrainJobState.SUCCEEDED
    else:
        state = TrainJobState.FAILED
    if end_job(connection, job_id, state, now):
        add_job_change(connection, job_id, now)


def _set_view(connection: Connection, study: StudyName, view: StudyView) -> None:
    set_progress(connection, study, phase=view.phase, plan=view.plan, control_arm=view.control_arm)
