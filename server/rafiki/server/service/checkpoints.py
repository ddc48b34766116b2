"""Checkpoints: publish and read."""

from collections.abc import Sequence
from dataclasses import replace

from rafiki.resources import Checkpoint
from rafiki.server.domain.blobs import BlobStore, require_blobs
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import (
    InvalidArgument,
    LeaseLost,
    ResourceAlreadyExists,
    ResourceNotFound,
)
from rafiki.server.domain.names import CheckpointName, StudyName
from rafiki.server.store.blob_records import record_blobs
from rafiki.server.store.checkpoints import (
    checkpoint_tensors_of,
    find_checkpoint,
    find_origin,
    has_study,
    insert_checkpoint,
    list_checkpoints,
)
from rafiki.server.store.database import Database


class CheckpointService:
    """The use cases around checkpoints. Thread-safe."""

    def __init__(self, database: Database, blobs: BlobStore, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock

    def create(self, study: StudyName, checkpoint: Checkpoint, lease_token: str) -> Checkpoint:
        """Publishes what the attempt holding a lease has saved, one checkpoint per attempt.

        Only the tensors of `checkpoint` are read; the rest follows from the lease. Repeating
        it with equal tensors returns the same checkpoint, also once the trial has ended.

        Raises:
            ResourceNotFound: There is no such study.
            InvalidArgument: The lease is of a trial of another study.
            LeaseLost: The trial was assigned again or has ended, or the token is unknown.
            ResourceAlreadyExists: The attempt has saved other tensors.
            BlobsMissing: A tensor's bytes are not stored.
        """
        tensors = checkpoint.tensors
        with self._database.write() as connection:
            # Inside, where nothing is collected meanwhile.
            require_blobs(self._blobs, (tensor.digest for tensor in tensors))
            if not has_study(connection, study):
                raise ResourceNotFound(str(study))
            origin = find_origin(connection, lease_token)
            if origin is None:
                raise LeaseLost("")
            if origin.trial.parent != study:
                rule = f"must be {origin.trial.parent}, the study of the lease"
                raise InvalidArgument([("parent", rule)])
            name = CheckpointName(study.job, study.study, origin.trial.trial, origin.attempt)
            existing = find_checkpoint(connection, name)
            if existing is not None:
                if checkpoint_tensors_of(connection, name) != tensors:
                    raise ResourceAlreadyExists(str(name))
                return replace(existing, tensors=tensors)
            if origin.is_over:
                raise LeaseLost(str(origin.trial))
            now = self._clock()
            record_blobs(connection, (tensor.digest for tensor in tensors), now)
            created = Checkpoint(
                name=str(name),
                tensors=tensors,
                trial=str(origin.trial),
                attempt=origin.attempt,
                parents=(origin.start_checkpoint,) if origin.start_checkpoint else (),
                shard=origin.shard,
                size_bytes=sum(tensor.digest.size_bytes for tensor in tensors),
                create_time=now,
            )
            insert_checkpoint(connection, name, created)
        return created

    def get(self, name: CheckpointName) -> Checkpoint:
        """Reads a manifest. Raises ResourceNotFound."""
        with self._database.read() as connection:
            checkpoint = find_checkpoint(connection, name)
            if checkpoint is None:
                raise ResourceNotFound(str(name))
            return replace(checkpoint, tensors=checkpoint_tensors_of(connection, name))

    def list(
        self, study: StudyName, *, limit: int, after: CheckpointName | None
    ) -> Sequence[Checkpoint]:
        """Reads the checkpoints of a study without their tensors, newest first.

        Raises:
            ResourceNotFound: There is no such study.
        """
        with self._database.read() as connection:
            if not has_study(connection, study):
                raise ResourceNotFound(str(study))
            return list_checkpoints(connection, study, limit=limit, after=after)
