"""Rows of `checkpoints` and `checkpoint_tensors`, and what `trials` says of their origin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from rafiki.resources import Checkpoint, Digest, Shard, Tensor, TrialState
from rafiki.server.domain.names import CheckpointName, StudyName, TrialName
from rafiki.server.store.paging import newest_first
from rafiki.server.store.tables import checkpoint_tensors, checkpoints, studies, trials

_HAS_STUDY = select(studies.c.number).where(
    studies.c.job == bindparam("job"), studies.c.number == bindparam("study")
)
_ORIGIN = select(
    trials.c.job,
    trials.c.study,
    trials.c.number,
    trials.c.attempt,
    trials.c.state,
    trials.c.error_kind,
    trials.c.start_checkpoint,
    trials.c.shard_index,
    trials.c.shard_count,
).where(trials.c.lease_token == bindparam("lease_token"))
_FIND = select(checkpoints).where(
    checkpoints.c.job == bindparam("job"),
    checkpoints.c.study == bindparam("study"),
    checkpoints.c.id == bindparam("id"),
)
_TENSORS = (
    select(checkpoint_tensors)
    .where(
        checkpoint_tensors.c.job == bindparam("job"),
        checkpoint_tensors.c.study == bindparam("study"),
        checkpoint_tensors.c.checkpoint == bindparam("id"),
    )
    .order_by(checkpoint_tensors.c.path)
)
_INSERT = insert(checkpoints)
_INSERT_TENSORS = insert(checkpoint_tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The attempt of a trial that holds, or held last, a lease."""

    trial: TrialName
    attempt: int
    is_over: bool  # it has an outcome, so it can save no more
    start_checkpoint: str
    shard: Shard | None


def has_study(connection: Connection, study: StudyName) -> bool:
    """Whether the study exists."""
    key = {"job": study.job, "study": study.study}
    return connection.execute(_HAS_STUDY, key).one_or_none() is not None


def find_origin(connection: Connection, lease_token: str) -> Origin | None:
    """The attempt a lease is of; None once its trial has been assigned again."""
    row = connection.execute(_ORIGIN, {"lease_token": lease_token}).mappings().one_or_none()
    if row is None:
        return None
    return Origin(
        trial=TrialName(row["job"], row["study"], row["number"]),
        attempt=row["attempt"],
        is_over=TrialState(row["state"]).is_end or row["error_kind"] is not None,
        start_checkpoint=row["start_checkpoint"],
        shard=_shard(row),
    )


def insert_checkpoint(connection: Connection, name: CheckpointName, checkpoint: Checkpoint) -> None:
    """Adds a checkpoint under `name`, whatever it says itself. Its blobs must be recorded."""
    shard = checkpoint.shard
    connection.execute(
        _INSERT,
        {
            **_key(name),
            "trial": name.trial,
            "attempt": name.attempt,
            "parents": list(checkpoint.parents),
            "shard_index": None if shard is None else shard.index,
            "shard_count": None if shard is None else shard.count,
            "size_bytes": checkpoint.size_bytes,
            "create_time": checkpoint.create_time,
        },
    )
    rows = [
        {
            "job": name.job,
            "study": name.study,
            "checkpoint": name.checkpoint_id,
            "path": tensor.path,
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "sha256": tensor.digest.sha256,
            "size_bytes": tensor.digest.size_bytes,
            "updates": tensor.updates,
        }
        for tensor in checkpoint.tensors
    ]
    if rows:
        connection.execute(_INSERT_TENSORS, rows)


def find_checkpoint(connection: Connection, name: CheckpointName) -> Checkpoint | None:
    """The checkpoint called `name` without its tensors, or None."""
    row = connection.execute(_FIND, _key(name)).mappings().one_or_none()
    return None if row is None else _checkpoint(row)


def is_collected(connection: Connection, name: CheckpointName) -> bool:
    """Whether the checkpoint called `name` has lost its tensors to garbage collection."""
    row = connection.execute(_FIND, _key(name)).mappings().one_or_none()
    return row is not None and row["collect_time"] is not None


def checkpoint_tensors_of(connection: Connection, name: CheckpointName) -> tuple[Tensor, ...]:
    """The tensors of a checkpoint, sorted by path; none if it does not exist."""
    rows = connection.execute(_TENSORS, _key(name)).mappings()
    return tuple(
        Tensor(
            path=row["path"],
            dtype=row["dtype"],
            shape=tuple(row["shape"]),
            digest=Digest(row["sha256"], row["size_bytes"]),
            updates=row["updates"],
        )
        for row in rows
    )


def list_checkpoints(
    connection: Connection, study: StudyName, *, limit: int, after: CheckpointName | None
) -> Sequence[Checkpoint]:
    """At most `limit` checkpoints of a study without tensors, newest first.

    Those that were collected are left out.
    """
    last = None
    if after is not None:
        last = connection.execute(_FIND, _key(after)).mappings().one_or_none()
        if last is None:
            return []
    key = (checkpoints.c.create_time, checkpoints.c.trial, checkpoints.c.attempt)
    query = newest_first(select(checkpoints), key, last).where(
        checkpoints.c.job == study.job,
        checkpoints.c.study == study.study,
        checkpoints.c.collect_time.is_(None),
    )
    return [_checkpoint(row) for row in connection.execute(query.limit(limit)).mappings()]


def _key(name: CheckpointName) -> dict[str, Any]:
    return {"job": name.job, "study": name.study, "id": name.checkpoint_id}


def _checkpoint(row: RowMapping) -> Checkpoint:
    # What the server has merged is of no single trial.
    trial = TrialName(row["job"], row["study"], row["trial"]) if row["attempt"] else ""
    return Checkpoint(
        name=str(CheckpointName(row["job"], row["study"], row["trial"], row["attempt"])),
        trial=str(trial),
        attempt=row["attempt"],
        parents=tuple(row["parents"]),
        shard=_shard(row),
        size_bytes=row["size_bytes"],
        create_time=row["create_time"],
    )


def _shard(row: RowMapping) -> Shard | None:
    if row["shard_count"] is None:
        return None
    return Shard(row["shard_index"], row["shard_count"])
