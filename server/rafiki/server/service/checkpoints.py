"""Checkpoints: publish and read."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from rafiki.resources import Checkpoint, Tensor
from rafiki.server.domain.blobs import BlobStore, require_blobs
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import (
    InvalidArgument,
    LeaseLost,
    QuotaExceeded,
    ResourceAlreadyExists,
    ResourceNotFound,
)
from rafiki.server.domain.names import CheckpointName, JobName, StudyName
from rafiki.server.store.blob_records import record_blobs
from rafiki.server.store.checkpoints import (
    checkpoint_tensors_of,
    find_checkpoint,
    find_origin,
    has_study,
    insert_checkpoint,
    is_collected,
    list_checkpoints,
)
from rafiki.server.store.database import Database
from rafiki.server.store.retention import checkpoint_bytes


class CheckpointService:
    """The use cases around checkpoints. Thread-safe.

    Args:
        database: Where manifests are.
        blobs: Where the bytes of tensors are.
        clock: The time.
        quota_bytes: What the checkpoints of one job may take together, each in full, whether
            it shares blobs with others or not; 0 for no limit.
        make_room: Collects what a job needs no more, when it is at its quota.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        clock: Clock,
        *,
        quota_bytes: int = 0,
        make_room: Callable[[str], object] = lambda job: None,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._quota_bytes = quota_bytes
        self._make_room = make_room

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
            QuotaExceeded: The job has too many bytes of checkpoints.
        """
        try:
            return self._create(study, checkpoint.tensors, lease_token)
        except QuotaExceeded:
            self._make_room(study.job)
            return self._create(study, checkpoint.tensors, lease_token)

    def _create(
        self, study: StudyName, tensors: tuple[Tensor, ...], lease_token: str
    ) -> Checkpoint:
        with self._database.write() as connection:
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
                if is_collected(connection, name):
                    raise LeaseLost(str(origin.trial))
                if checkpoint_tensors_of(connection, name) != tensors:
                    raise ResourceAlreadyExists(str(name))
                return replace(existing, tensors=tensors)
            if origin.is_over:
                raise LeaseLost(str(origin.trial))
            # Here, where no garbage is collected meanwhile.
            require_blobs(self._blobs, (tensor.digest for tensor in tensors))
            size_bytes = sum(tensor.digest.size_bytes for tensor in tensors)
            if self._quota_bytes:
                self._check_quota(connection, study.job, size_bytes)
            now = self._clock()
            record_blobs(connection, (tensor.digest for tensor in tensors), now)
            created = Checkpoint(
                name=str(name),
                tensors=tensors,
                trial=str(origin.trial),
                attempt=origin.attempt,
                parents=(origin.start_checkpoint,) if origin.start_checkpoint else (),
                shard=origin.shard,
                size_bytes=size_bytes,
                create_time=now,
            )
            insert_checkpoint(connection, name, created)
        return created

    def _check_quota(self, connection: Connection, job: str, more_bytes: int) -> None:
        used_bytes = checkpoint_bytes(connection, job)
        if used_bytes + more_bytes > self._quota_bytes:
            raise QuotaExceeded(
                str(JobName(job)),
                used_bytes=used_bytes,
                more_bytes=more_bytes,
                limit_bytes=self._quota_bytes,
            )

    def get(self, name: CheckpointName) -> Checkpoint:
        """Reads a manifest. Raises ResourceNotFound, also if the checkpoint was collected."""
        with self._database.read() as connection:
            checkpoint = find_checkpoint(connection, name)
            if checkpoint is None:
                raise ResourceNotFound(str(name))
            if is_collected(connection, name):
                raise ResourceNotFound(
                    str(name), f"{name} has been collected: nothing needed it any more"
                )
            return replace(checkpoint, tensors=checkpoint_tensors_of(connection, name))

    def list(
        self, study: StudyName, *, limit: int, after: CheckpointName | None
    ) -> Sequence[Checkpoint]:
        """Reads the checkpoints of a study without their tensors, newest first.

        Collected ones are left out.

        Raises:
            ResourceNotFound: There is no such study.
        """
        with self._database.read() as connection:
            if not has_study(connection, study):
                raise ResourceNotFound(str(study))
            return list_checkpoints(connection, study, limit=limit, after=after)
