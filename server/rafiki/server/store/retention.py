"""What is kept and what is collected, as rows of checkpoints and blobs."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, update

from rafiki.resources import Direction, StudyState, TrialPhase, TrialState
from rafiki.server.domain.names import CheckpointName, StudyName
from rafiki.server.domain.retention import SavedCheckpoint
from rafiki.server.store.rankings import list_deployable
from rafiki.server.store.tables import (
    blobs,
    checkpoint_tensors,
    checkpoints,
    datasets,
    models,
    studies,
    train_jobs,
    trials,
)

_C, _T = checkpoints.c, trials.c
_UNFINISHED = tuple(state for state in TrialState if not state.is_end)
_REFERENCES = (models.c.source_sha256, datasets.c.sha256, checkpoint_tensors.c.sha256)


@dataclass(frozen=True, slots=True)
class StudyCheckpoints:
    """The checkpoints of a study that have not been collected, and what pins some of them."""

    saved: Sequence[SavedCheckpoint]
    starts: frozenset[str]
    best: frozenset[str]
    is_running: bool


def studies_with_checkpoints(connection: Connection, job: str | None) -> list[StudyName]:
    """The studies, of one job or of all, with checkpoints that have not been collected."""
    statement = select(_C.job, _C.study).where(_C.collect_time.is_(None)).distinct()
    if job is not None:
        statement = statement.where(_C.job == job)
    return [StudyName(row.job, row.study) for row in connection.execute(statement)]


def checkpoints_of_study(
    connection: Connection, study: StudyName, *, keep_best: int
) -> StudyCheckpoints:
    """The checkpoints of a study, and those that start an unfinished trial or are of the best."""
    facts = connection.execute(
        select(studies.c.state, train_jobs.c.direction)
        .join(train_jobs, train_jobs.c.id == studies.c.job)
        .where(studies.c.job == study.job, studies.c.number == study.study)
    ).one()
    starts = connection.scalars(
        select(_T.start_checkpoint).where(
            _T.job == study.job, _T.study == study.study, _T.state.in_(_UNFINISHED)
        )
    )
    direction = Direction(facts.direction)
    best = list_deployable(
        connection, study.job, study.study, direction, after=None, most=keep_best
    )
    return StudyCheckpoints(
        saved=_saved(connection, study),
        starts=frozenset(starts),
        best=frozenset(trial.final_checkpoint for trial in best),
        is_running=StudyState(facts.state) is StudyState.RUNNING,
    )


def _saved(connection: Connection, study: StudyName) -> list[SavedCheckpoint]:
    statement = (
        select(
            *(_C.trial, _C.attempt, _C.shard_count),
            *(_T.phase, _T.state, _T.round, _T.control, _T.final_checkpoint),
        )
        .join(trials, (_T.job == _C.job) & (_T.study == _C.study) & (_T.number == _C.trial))
        .where(_C.job == study.job, _C.study == study.study, _C.collect_time.is_(None))
    )
    saved = []
    for row in connection.execute(statement):
        name = str(CheckpointName(study.job, study.study, row.trial, row.attempt))
        saved.append(
            SavedCheckpoint(
                name=name,
                trial=row.trial,
                phase=TrialPhase(row.phase),
                state=TrialState(row.state),
                round=row.round,
                control=row.control,
                is_merged=row.attempt == 0,
                is_final=row.final_checkpoint == name,
                is_shard=row.shard_count is not None,
            )
        )
    return saved


def collect_checkpoint(connection: Connection, name: CheckpointName, now: datetime) -> bool:
    """Removes the tensors of a checkpoint, of which a line remains; whether it had not been."""
    changed = connection.execute(
        update(checkpoints)
        .where(
            _C.job == name.job,
            _C.study == name.study,
            _C.id == name.checkpoint_id,
            _C.collect_time.is_(None),
        )
        .values(collect_time=now)
    )
    tensors = checkpoint_tensors.c
    connection.execute(
        delete(checkpoint_tensors).where(
            tensors.job == name.job,
            tensors.study == name.study,
            tensors.checkpoint == name.checkpoint_id,
        )
    )
    return changed.rowcount == 1


def unreferenced(connection: Connection, sha256s: Collection[str]) -> set[str]:
    """Those of some blobs that no model, data set or checkpoint names."""
    left = set(sha256s)
    for column in _REFERENCES:
        if left:
            named = select(column).where(column.in_(left)).distinct()
            left.difference_update(connection.scalars(named).all())
    return left


def forget_blobs(connection: Connection, sha256s: Iterable[str]) -> None:
    """Removes the rows of blobs that nothing names."""
    connection.execute(delete(blobs).where(blobs.c.sha256.in_(set(sha256s))))


def checkpoint_bytes(connection: Connection, job: str) -> int:
    """The sizes of all checkpoints of a job that have not been collected."""
    statement = select(func.coalesce(func.sum(_C.size_bytes), 0)).where(
        _C.job == job, _C.collect_time.is_(None)
    )
    return int(connection.scalar(statement) or 0)
