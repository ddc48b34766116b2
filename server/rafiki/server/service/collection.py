"""Garbage collection: checkpoints that nobody needs, then blobs that nothing names."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeAlias, TypeVar

from sqlalchemy import Connection

from rafiki.server.domain.blobs import BlobStore, StoredBlob
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.names import CheckpointName, StudyName
from rafiki.server.domain.retention import collectable
from rafiki.server.store.database import Database
from rafiki.server.store.retention import (
    StudyCheckpoints,
    checkpoints_of_study,
    collect_checkpoint,
    forget_blobs,
    studies_with_checkpoints,
    unreferenced,
)

logger = logging.getLogger(__name__)

# What the advisor of each running study needs, as it is when asked.
Needs: TypeAlias = Callable[[], Mapping[StudyName, frozenset[str]]]

_Item = TypeVar("_Item")

# Looked at, and perhaps removed, in one transaction, for which every other write waits.
_BLOBS = 200
_CHECKPOINTS = 10


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be: `size_bytes` are those of the blobs."""

    checkpoints: tuple[str, ...] = ()
    blobs: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Garbage:
    """The checkpoints of a study to be collected, and what its advisor needed then."""

    names: Sequence[str]
    needed: frozenset[str]


class _Undo(Exception):
    """Rolls a transaction back."""


class Collector:
    """Collects garbage. Thread-safe; one collection at a time.

    Checkpoints: see `rafiki.server.domain.retention`. What an advisor needs is asked after the
    checkpoints were listed, and only listed ones are collected. An advisor never comes back to
    a checkpoint that it needed no more, so none is collected that it might propose from.

    Blobs: those that nothing names and that were neither stored nor renewed (found to be there
    already, when somebody was about to upload them) for `grace`. They are looked for outside of
    any transaction, and removed in one that first looks again. Whoever names blobs requires
    them in a transaction of its own: so he either names them in time, or learns that they are
    missing, and uploads them again.

    Args:
        database: Where checkpoints are.
        blobs: Where blobs are.
        clock: The time.
        needs: What advisors need.
        grace: How long a blob that nothing names is kept.
        keep_best: How many of the best trials of each study keep their checkpoints.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        clock: Clock,
        needs: Needs,
        *,
        grace: timedelta,
        keep_best: int,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._needs = needs
        self._grace = grace
        self._keep_best = keep_best
        self._collecting = threading.Lock()

    def collect(self) -> Collected:
        """Removes what nobody needs."""
        with self._collecting:
            names = self._collect_checkpoints(None)
            sizes: list[int] = []
            for batch in _batches(self._old_blobs()):
                sizes += self._collect_blobs(batch)
        if names or sizes:
            logger.info(
                "garbage collected checkpoints=%d blobs=%d bytes=%d",
                len(names),
                len(sizes),
                sum(sizes),
            )
        return Collected(tuple(names), len(sizes), sum(sizes))

    def collect_checkpoints(self, job: str) -> Sequence[str]:
        """Removes the checkpoints of a job that nobody needs; their blobs go another time."""
        with self._collecting:
            return self._collect_checkpoints(job)

    def preview(self) -> Collected:
        """What `collect` would remove now."""
        with self._collecting:
            found = self._find(None)
            sizes = {blob.digest.sha256: blob.digest.size_bytes for blob in self._old_blobs()}
            names: list[str] = []
            free: set[str] = set()
            try:
                with self._database.write() as connection:
                    for study, garbage in found.items():
                        names += self._remove(connection, study, garbage.names, garbage.needed)
                    for batch in _batches(sizes):
                        free |= unreferenced(connection, batch)
                    raise _Undo
            except _Undo:
                return Collected(tuple(names), len(free), sum(sizes[sha256] for sha256 in free))

    def _collect_checkpoints(self, job: str | None) -> list[str]:
        collected: list[str] = []
        for study, garbage in self._find(job).items():
            for names in _batches(garbage.names, _CHECKPOINTS):
                with self._database.write() as connection:
                    collected += self._remove(connection, study, names, garbage.needed)
        return collected

    def _remove(
        self, connection: Connection, study: StudyName, names: Sequence[str], needed: frozenset[str]
    ) -> list[str]:
        """Removes those of a study's checkpoints that are still free."""
        found = checkpoints_of_study(connection, study, keep_best=self._keep_best)
        free = _free(found, needed)
        now = self._clock()
        removed = [name for name in names if name in free]
        for name in removed:
            collect_checkpoint(connection, CheckpointName.parse(name), now)
        return removed

    def _find(self, job: str | None) -> dict[StudyName, _Garbage]:
        with self._database.read() as connection:
            listed = {
                study: checkpoints_of_study(connection, study, keep_best=self._keep_best)
                for study in studies_with_checkpoints(connection, job)
            }
        needs = self._needs()
        garbage: dict[StudyName, _Garbage] = {}
        for study, found in listed.items():
            needed = needs.get(study)
            if needed is None and found.is_running:
                continue  # a study that is being started
            names = sorted(_free(found, needed or frozenset()))
            garbage[study] = _Garbage(names, needed or frozenset())
        return garbage

    def _old_blobs(self) -> Iterator[StoredBlob]:
        return (blob for blob in self._blobs.stored() if blob.unused_for >= self._grace)

    def _collect_blobs(self, batch: Sequence[StoredBlob]) -> list[int]:
        """The sizes of the blobs removed."""
        with self._database.read() as connection:
            candidates = unreferenced(connection, [blob.digest.sha256 for blob in batch])
        if not candidates:
            return []
        with self._database.write() as connection:
            free = unreferenced(connection, candidates)
            forget_blobs(connection, free)
            sizes = [self._blobs.remove(sha256, unused_for=self._grace) for sha256 in free]
        return [size for size in sizes if size is not None]


def _free(found: StudyCheckpoints, needed: frozenset[str]) -> set[str]:
    return collectable(found.saved, starts=found.starts, needed=needed, best=found.best)


def _batches(items: Iterable[_Item], size: int = _BLOBS) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
