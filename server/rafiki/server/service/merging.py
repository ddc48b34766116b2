"""Merging the checkpoints of shards: reads their blobs and stores those of the result."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rafiki.model.params import decode_tensor, encode_tensor
from rafiki.resources import Checkpoint, Digest, Tensor
from rafiki.server.domain.advisor import Merge
from rafiki.server.domain.blobs import BlobStore, Staging, read_blob, require_blobs
from rafiki.server.domain.errors import BlobCorrupt, BlobsMissing
from rafiki.server.domain.merging import CannotMerge, TensorMerge, align, merge_arrays
from rafiki.server.domain.names import CheckpointName, StudyName
from rafiki.server.store.checkpoints import checkpoint_tensors_of
from rafiki.server.store.database import Database

logger = logging.getLogger(__name__)


class Merger:
    """Merges checkpoints. Thread-safe; writes nothing to the database."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def try_merge(self, study: StudyName, merge: Merge) -> tuple[Checkpoint | None, str]:
        """As `merge`, or None and what it raises, in words."""
        try:
            return self.merge(study, merge), ""
        except (CannotMerge, BlobsMissing, BlobCorrupt) as error:
            logger.error("shards not merged study=%s round=%d: %s", study, merge.round, error)
            return None, str(error)

    def merge(self, study: StudyName, merge: Merge) -> Checkpoint:
        """The merged checkpoint, its blobs stored but itself not: that is for the caller.

        Reads one tensor at a time, of each shard. The same `merge` gives the same bytes, so
        one that was cut short is simply done again.

        Raises:
            CannotMerge: The shards do not hold the same tensors.
            BlobsMissing, BlobCorrupt: Bytes of a shard or of the base are lost.
        """
        base, *shards = (self._tensors(name) for name in (merge.base, *merge.shards))
        with self._blobs.stage() as staging:
            tensors = tuple(self._tensor(plan, staging) for plan in align(base, shards))
            staging.publish()
        return Checkpoint(
            name=str(CheckpointName(study.job, study.study, merge.number, 0)),
            tensors=tensors,
            parents=merge.shards,
            size_bytes=sum(tensor.digest.size_bytes for tensor in tensors),
        )

    def _tensors(self, checkpoint: str) -> Sequence[Tensor]:
        with self._database.read() as connection:
            return checkpoint_tensors_of(connection, CheckpointName.parse(checkpoint))

    def _tensor(self, plan: TensorMerge, staging: Staging) -> Tensor:
        whole = plan.whole
        if whole is not None:
            require_blobs(self._blobs, [whole.digest])
            return replace(whole, updates=plan.updates)
        merged = merge_arrays(
            self._read(plan.base), [self._read(tensor) for tensor in plan.touched], plan.weights
        )
        data = encode_tensor(merged)
        digest = Digest(hashlib.sha256(data).hexdigest(), len(data))
        staging.add(digest).write(data)
        staging.verify()
        return replace(plan.base, digest=digest, updates=plan.updates)

    def _read(self, tensor: Tensor) -> np.ndarray:
        return decode_tensor(read_blob(self._blobs, tensor.digest), tensor.dtype, tensor.shape)
