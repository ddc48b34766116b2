"""The event log of a study, and the snapshots that shorten its reading."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, func, insert, select

from rafiki.resources import TrialState
from rafiki.server.domain.advisor import AdvisorState, Ended, Event, Merged, Proposed, Reported
from rafiki.server.domain.attempts import LiveTrial
from rafiki.server.domain.names import StudyName
from rafiki.server.store.prepared import Prepared
from rafiki.server.store.tables import snapshots, study_events, trials
from rafiki.server.store.trials import live_trial, proposal_of
from rafiki.server.store.upserts import insert_or_replace


class EventKind(StrEnum):
    """What happened to a trial."""

    PROPOSED = "PROPOSED"
    REPORTED = "REPORTED"
    ENDED = "ENDED"
    MERGED = "MERGED"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of an advisor after the event `after_sequence`."""

    after_sequence: int
    state: AdvisorState


_INSERT = Prepared(insert(study_events))
_AFTER = (
    select(
        trials,
        study_events.c.sequence,
        study_events.c.kind,
        study_events.c.at_s,
        study_events.c.step,
        study_events.c.score.label("step_score"),
        study_events.c.round.label("merged_round"),
        study_events.c.checkpoint.label("merged_checkpoint"),
        study_events.c.merge_s,
        study_events.c.message.label("merge_error"),
    )
    .join_from(
        study_events,
        trials,
        (trials.c.job == study_events.c.job)
        & (trials.c.study == study_events.c.study)
        & (trials.c.number == study_events.c.trial),
    )
    .where(
        study_events.c.job == bindparam("job"),
        study_events.c.study == bindparam("study"),
        study_events.c.sequence > bindparam("after"),
    )
    .order_by(study_events.c.sequence)
)


def add_event(
    connection: Connection,
    study: StudyName,
    *,
    sequence: int,
    kind: EventKind,
    trial: int,
    at_s: float,
    time: datetime,
    step: int | None = None,
    score: float | None = None,
    round: int | None = None,
    checkpoint: str | None = None,
    merge_s: float | None = None,
    message: str | None = None,
) -> None:
    """Appends an event; a sequence that is taken is an IntegrityError."""
    _INSERT.execute(
        connection,
        {
            "job": study.job,
            "study": study.study,
            "sequence": sequence,
            "kind": kind,
            "trial": trial,
            "at_s": at_s,
            "time": time,
            "step": step,
            "score": score,
            "round": round,
            "checkpoint": checkpoint,
            "merge_s": merge_s,
            "message": message,
        },
    )


def read_events(
    connection: Connection, study: StudyName, after: int
) -> Iterator[tuple[int, Event]]:
    """The events after the sequence `after`, each with its own, in order."""
    parameters = {"job": study.job, "study": study.study, "after": after}
    for row in connection.execute(_AFTER, parameters):
        yield row.sequence, _event(row)


def last_sequence(connection: Connection, study: StudyName) -> int:
    """The sequence of the latest event; 0 for none."""
    statement = select(func.max(study_events.c.sequence)).where(
        study_events.c.job == study.job, study_events.c.study == study.study
    )
    return int(connection.execute(statement).scalar() or 0)


def last_number(connection: Connection, study: StudyName) -> int:
    """The number of the latest trial; 0 for none."""
    statement = select(func.max(trials.c.number)).where(
        trials.c.job == study.job, trials.c.study == study.study
    )
    return int(connection.execute(statement).scalar() or 0)


def ended_event(number: int, at_s: float, live: LiveTrial) -> Ended:
    """The event of a trial that has ended: the same at once and when read again."""
    trial = live.trial
    run_s = 0.0
    if trial.start_time is not None and trial.end_time is not None:
        run_s = (trial.end_time - trial.start_time).total_seconds()
    return Ended(
        number=number,
        at_s=at_s,
        state=trial.state,
        score=trial.score,
        candidates=trial.candidates,
        checkpoint=trial.final_checkpoint,
        error=trial.error,
        costs=live.costs,
        run_s=run_s,
        compile_s=trial.timings.compile_s if trial.timings else 0.0,
    )


def save_snapshot(
    connection: Connection, study: StudyName, snapshot: Snapshot, time: datetime
) -> None:
    """Replaces the snapshot of a study."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **snapshot.state.arrays)
    values = {
        "job": study.job,
        "study": study.study,
        "after_sequence": snapshot.after_sequence,
        "state": dict(snapshot.state.values),
        "arrays": buffer.getvalue(),
        "time": time,
    }
    connection.execute(insert_or_replace(connection, snapshots), values)


def load_snapshot(connection: Connection, study: StudyName) -> Snapshot | None:
    """The snapshot of a study, if there is one."""
    statement = select(snapshots).where(
        snapshots.c.job == study.job, snapshots.c.study == study.study
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    with np.load(io.BytesIO(row.arrays), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Snapshot(row.after_sequence, AdvisorState(values=row.state, arrays=arrays))


def _event(row: Row[Any]) -> Event:
    match EventKind(row.kind):
        case EventKind.PROPOSED:
            return Proposed(number=row.number, at_s=row.at_s, proposal=proposal_of(row))
        case EventKind.REPORTED:
            return Reported(number=row.number, at_s=row.at_s, step=row.step, score=row.step_score)
        case EventKind.MERGED:
            return Merged(
                number=row.number,
                at_s=row.at_s,
                round=row.merged_round,
                checkpoint=row.merged_checkpoint or "",
                merge_s=row.merge_s,
                error=row.merge_error or "",
            )
        case EventKind.ENDED:
            stored = live_trial(row)
            if not TrialState(stored.trial.state).is_end:
                raise ValueError(f"the log says that {stored.trial.name} ended, its row does not")
            return ended_event(row.number, row.at_s, stored)
