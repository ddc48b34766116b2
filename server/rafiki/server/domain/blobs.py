"""The port to where blobs are kept: immutable bytes, named by their SHA-256.

A stored blob is whole and on the disk (or whatever stands for it), unless that is damaged:
then reading finds it out, and storing it again heals it. Blobs that nothing names are removed
some time after they were last stored, or renewed.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, Protocol, TypeAlias

from rafiki.resources import Digest
from rafiki.server.domain.errors import BlobsMissing

CHUNK_BYTES = 1024 * 1024

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that is stored, and how long ago it was last stored or renewed."""

    digest: Digest
    unused_for: timedelta


class StagedBlob(Protocol):
    """The bytes of one blob as they come in. Not thread-safe."""

    @property
    def digest(self) -> Digest:
        """Of the blob."""
        ...

    @property
    def remaining_bytes(self) -> int:
        """How many are still to come."""
        ...

    def write(self, chunk: Buffer) -> None:
        """Takes the next bytes, at most `remaining_bytes`. They may change afterwards."""
        ...


class Staging(Protocol):
    """Blobs on their way into the store, one after the other. Not thread-safe."""

    def add(self, digest: Digest) -> StagedBlob:
        """Begins a blob."""
        ...

    def verify(self) -> None:
        """Ends the blob begun last.

        Raises:
            DigestMismatch: Its bytes are not those of its digest; they are removed.
        """
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """The bytes of a verified blob as a file. Raises BlobsMissing."""
        ...

    def publish(self) -> None:
        """Stores the blobs verified since the last time, to last, on return."""
        ...


class BlobStore(Protocol):
    """Thread-safe. Several uploads of one blob at a time all succeed."""

    def has(self, digest: Digest) -> bool:
        """Whether the blob is stored, with this very size."""
        ...

    def renew(self, digest: Digest) -> bool:
        """As `has`, and counts the blob as stored just now."""
        ...

    def stage(self) -> AbstractContextManager[Staging]:
        """A place to upload blobs to. Leaving it removes what was not published."""
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """The bytes of a stored blob as a file, not verified again. Raises BlobsMissing."""
        ...

    def chunks(self, digest: Digest, offset_bytes: int = 0) -> Iterator[Buffer]:
        """The bytes of a blob from `offset_bytes` on, in chunks of 1 MiB, none for no bytes.

        The whole blob is verified on the way; the reader of the last chunk knows.

        Raises:
            BlobsMissing: It is not stored.
            BlobCorrupt: At the latest after the last chunk: the bytes do not match the digest,
                or cannot be read. The blob is no longer stored.
        """
        ...

    def stored(self) -> Iterator[StoredBlob]:
        """All blobs, in no order; those stored or removed meanwhile may be among them or not."""
        ...

    def remove(self, sha256: str, *, unused_for: timedelta) -> int | None:
        """Removes a blob that was not stored or renewed for so long; returns its bytes.

        None if it was, or if there is no such blob.
        """
        ...


def read_blob(store: BlobStore, digest: Digest) -> Buffer:
    """The verified bytes of a blob as a whole. Raises as `BlobStore.chunks`."""
    parts = list(store.chunks(digest))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def missing_blobs(store: BlobStore, digests: Iterable[Digest]) -> list[Digest]:
    """Those that are not stored, each once, in the order given; the others are renewed."""
    return [digest for digest in dict.fromkeys(digests) if not store.renew(digest)]


def require_blobs(store: BlobStore, digests: Iterable[Digest]) -> None:
    """Raises BlobsMissing unless all of them are stored."""
    missing = [digest for digest in dict.fromkeys(digests) if not store.has(digest)]
    if missing:
        raise BlobsMissing(missing)
