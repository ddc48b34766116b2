"""The change log: what watchers are told, in the order of the commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from rafiki.server.domain.names import StudyName, TrialName
from rafiki.server.store.prepared import Prepared
from rafiki.server.store.tables import changes


class ChangeKind(StrEnum):
    """What a change is of."""

    JOB = "JOB"
    STUDY = "STUDY"
    TRIAL = "TRIAL"
    ROUND = "ROUND"


@dataclass(frozen=True, slots=True)
class Change:
    """Entry `change_id` of the log; `number` is that of a trial or a round."""

    change_id: int
    kind: ChangeKind
    study: int | None
    number: int | None


_INSERT = Prepared(insert(changes))
_LAST = select(func.max(changes.c.id))
_OLDEST = select(func.min(changes.c.id))
_AFTER = (
    select(changes.c.id, changes.c.kind, changes.c.study, changes.c.number)
    .where(changes.c.job == bindparam("job"), changes.c.id > bindparam("after"))
    .order_by(changes.c.id)
    .limit(bindparam("most"))
)


def add_job_change(connection: Connection, job_id: str, time: datetime) -> None:
    """Notes that a job has changed."""
    _add(connection, job_id, ChangeKind.JOB, None, None, time)


def add_study_change(connection: Connection, study: StudyName, time: datetime) -> None:
    """Notes that a study has changed."""
    _add(connection, study.job, ChangeKind.STUDY, study.study, None, time)


def add_trial_change(connection: Connection, trial: TrialName, time: datetime) -> None:
    """Notes that a trial has changed."""
    _add(connection, trial.job, ChangeKind.TRIAL, trial.study, trial.trial, time)


def add_round_change(connection: Connection, study: StudyName, number: int, time: datetime) -> None:
    """Notes that a round is complete."""
    _add(connection, study.job, ChangeKind.ROUND, study.study, number, time)


def read_changes(connection: Connection, job_id: str, after: int, most: int) -> list[Change]:
    """The next changes of a job after the entry `after`, at most `most`."""
    rows = connection.execute(_AFTER, {"job": job_id, "after": after, "most": most})
    return [Change(row.id, ChangeKind(row.kind), row.study, row.number) for row in rows]


def last_change(connection: Connection) -> int:
    """The id of the newest entry there ever was; 0 for none. It is never pruned."""
    return int(connection.execute(_LAST).scalar() or 0)


def is_kept(connection: Connection, change_id: int) -> bool:
    """Whether every entry after `change_id` is still in the log."""
    oldest = int(connection.execute(_OLDEST).scalar() or 1)
    return oldest - 1 <= change_id <= last_change(connection)


def prune_changes(connection: Connection, keep: int) -> int:
    """Removes all but the newest `keep` entries, 1 or more; returns how many were removed."""
    oldest = last_change(connection) - max(1, keep)
    return connection.execute(delete(changes).where(changes.c.id <= oldest)).rowcount


def _add(
    connection: Connection,
    job_id: str,
    kind: ChangeKind,
    study: int | None,
    number: int | None,
    time: datetime,
) -> None:
    values = {"job": job_id, "kind": kind, "study": study, "number": number, "time": time}
    _INSERT.execute(connection, values)


def latest_of_each(log: Sequence[Change]) -> list[Change]:
    """The last entry of every resource, in order: what is left to tell of a stretch of the log."""
    latest = {(entry.kind, entry.study, entry.number): entry for entry in log}
    return sorted(latest.values(), key=lambda entry: entry.change_id)
