"""A blob store in front of another, which keeps in memory what is asked for again and again."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import BinaryIO

from rafiki.resources import Digest
from rafiki.server.domain.blobs import (
    CHUNK_BYTES,
    BlobStore,
    Buffer,
    Staging,
    StoredBlob,
    read_blob,
)


class CachedBlobs:
    """See `BlobStore`. Blobs are verified when they are read into memory, not each time.

    Those that several ask for at once are read once, the others wait. The least recently used
    are dropped first.

    Args:
        store: Where the blobs are.
        limit_bytes: What may be kept together; a blob of more than a quarter of it is not kept.
    """

    def __init__(self, store: BlobStore, limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Buffer] = OrderedDict()
        self._reading: dict[str, threading.Lock] = {}
        self._size_bytes = 0

    def has(self, digest: Digest) -> bool:
        """See `BlobStore`."""
        return self._store.has(digest)

    def renew(self, digest: Digest) -> bool:
        """See `BlobStore`."""
        return self._store.renew(digest)

    def stage(self) -> AbstractContextManager[Staging]:
        """See `BlobStore`."""
        return self._store.stage()

    def open(self, digest: Digest) -> BinaryIO:
        """See `BlobStore`."""
        return self._store.open(digest)

    def chunks(self, digest: Digest, offset_bytes: int = 0) -> Iterator[Buffer]:
        """See `BlobStore`."""
        if digest.size_bytes > self._limit_bytes // 4:
            return self._store.chunks(digest, offset_bytes)
        view = memoryview(self._read(digest))
        return (view[at : at + CHUNK_BYTES] for at in range(offset_bytes, len(view), CHUNK_BYTES))

    def stored(self) -> Iterator[StoredBlob]:
        """See `BlobStore`."""
        return self._store.stored()

    def remove(self, sha256: str, *, unused_for: timedelta) -> int | None:
        """See `BlobStore`."""
        size_bytes = self._store.remove(sha256, unused_for=unused_for)
        if size_bytes is not None:
            with self._lock:
                held = self._held.pop(sha256, None)
                self._size_bytes -= 0 if held is None else len(held)
        return size_bytes

    def _read(self, digest: Digest) -> Buffer:
        held = self._find(digest)
        if held is not None:
            return held
        with self._lock:
            reading = self._reading.setdefault(digest.sha256, threading.Lock())
        with reading:
            held = self._find(digest)  # somebody else may have read it while this waited
            if held is None:
                try:
                    held = read_blob(self._store, digest)
                    self._keep(digest.sha256, held)
                finally:
                    with self._lock:
                        self._reading.pop(digest.sha256, None)
        return held

    def _find(self, digest: Digest) -> Buffer | None:
        with self._lock:
            held = self._held.get(digest.sha256)
            if held is None or len(held) != digest.size_bytes:
                return None
            self._held.move_to_end(digest.sha256)
            return held

    def _keep(self, sha256: str, data: Buffer) -> None:
        with self._lock:
            if sha256 not in self._held:
                self._held[sha256] = data
                self._size_bytes += len(data)
            while self._size_bytes > self._limit_bytes:
                self._size_bytes -= len(self._held.popitem(last=False)[1])
