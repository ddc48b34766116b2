"""A blob store in memory, for tests; it can lose, damage and count."""

import hashlib
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import BinaryIO

from rafiki.resources import Digest
from rafiki.server.domain.blobs import CHUNK_BYTES, Buffer, StoredBlob
from rafiki.server.domain.errors import BlobCorrupt, BlobsMissing, DigestMismatch


class MemoryBlobs:
    """See `BlobStore`. `reads` counts how often each blob was read."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.renewed_s: dict[str, float] = {}
        self.reads: dict[str, int] = {}
        self.lock = threading.Lock()

    def has(self, digest: Digest) -> bool:
        data = self.contents.get(digest.sha256)
        return data is not None and len(data) == digest.size_bytes

    def renew(self, digest: Digest) -> bool:
        with self.lock:
            if self.has(digest):
                self.renewed_s[digest.sha256] = time.monotonic()
            return self.has(digest)

    @contextmanager
    def stage(self) -> "Iterator[MemoryStaging]":
        yield MemoryStaging(self)

    def open(self, digest: Digest) -> BinaryIO:
        if not self.has(digest):
            raise BlobsMissing([digest])
        return io.BytesIO(self.contents[digest.sha256])

    def chunks(self, digest: Digest, offset_bytes: int = 0) -> Iterator[Buffer]:
        with self.open(digest) as file:
            data = file.read()
        with self.lock:
            self.reads[digest.sha256] = self.reads.get(digest.sha256, 0) + 1
        yield from (
            data[at : at + CHUNK_BYTES] for at in range(offset_bytes, len(data), CHUNK_BYTES)
        )
        if hashlib.sha256(data).hexdigest() != digest.sha256:
            del self.contents[digest.sha256]
            raise BlobCorrupt(digest.sha256)

    def stored(self) -> Iterator[StoredBlob]:
        for sha256, data in list(self.contents.items()):
            yield StoredBlob(Digest(sha256, len(data)), self._unused_for(sha256))

    def remove(self, sha256: str, *, unused_for: timedelta) -> int | None:
        with self.lock:
            if sha256 not in self.contents or self._unused_for(sha256) < unused_for:
                return None
            return len(self.contents.pop(sha256))

    def _unused_for(self, sha256: str) -> timedelta:
        return timedelta(seconds=time.monotonic() - self.renewed_s[sha256])


@dataclass
class MemoryBlob:
    """See `StagedBlob`."""

    digest: Digest
    data: bytearray = field(default_factory=bytearray)

    @property
    def remaining_bytes(self) -> int:
        return self.digest.size_bytes - len(self.data)

    def write(self, chunk: Buffer) -> None:
        if len(chunk) > self.remaining_bytes:
            raise ValueError("more bytes than the blob has")
        self.data += chunk


class MemoryStaging:
    """See `Staging`."""

    def __init__(self, store: MemoryBlobs) -> None:
        self._store = store
        self._open: MemoryBlob | None = None
        self._verified: dict[str, bytes] = {}

    def add(self, digest: Digest) -> MemoryBlob:
        self._store.renew(digest)
        self._open = MemoryBlob(digest)
        return self._open

    def verify(self) -> None:
        assert self._open is not None
        blob, self._open = self._open, None
        actual = hashlib.sha256(blob.data).hexdigest()
        if blob.remaining_bytes or actual != blob.digest.sha256:
            raise DigestMismatch(blob.digest.sha256, actual)
        self._verified[actual] = bytes(blob.data)

    def open(self, digest: Digest) -> BinaryIO:
        data = self._verified.get(digest.sha256)
        return self._store.open(digest) if data is None else io.BytesIO(data)

    def publish(self) -> None:
        with self._store.lock:
            for sha256, data in self._verified.items():
                self._store.contents[sha256] = data
                self._store.renewed_s[sha256] = time.monotonic()
        self._verified.clear()
