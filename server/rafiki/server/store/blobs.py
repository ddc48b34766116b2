"""Blobs: immutable bytes in files named by their SHA-256.

    {folder}/ab/abcdef...    a blob, the first two digits of its digest as folder
    {folder}/incoming/...    bytes not verified yet; removed when the server starts

A file gets its name once its bytes are verified and on the disk, so a name always stands for
whole content. A name itself may be lost with the power of the machine: then the blob is
missing, and is uploaded again.
"""

import hashlib
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from rafiki.resources import Digest
from rafiki.server.domain.errors import BlobCorrupt, BlobsMissing, DigestMismatch

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1024 * 1024

# From this many files on, one sync of the whole disk is cheaper than one per file.
_MANY_FILES = 16
_SHA256 = re.compile(r"[0-9a-f]{64}")


def blob_file(folder: Path, sha256: str) -> Path:
    """Where the blob of a digest is in a folder of blobs."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256 in lower-case hexadecimal")
    return folder / sha256[:2] / sha256


class BlobStore:
    """The blobs of one data folder. Thread-safe; used by one server at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def has(self, digest: Digest) -> bool:
        """Whether the blob is stored, with this very size."""
        try:
            return os.stat(self._path(digest)).st_size == digest.size_bytes
        except FileNotFoundError:
            return False

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Those that are not stored, each once, in the order given."""
        return [digest for digest in dict.fromkeys(digests) if not self.has(digest)]

    def require(self, digests: Iterable[Digest]) -> None:
        """Raises BlobsMissing unless all of them are stored."""
        missing = self.missing(digests)
        if missing:
            raise BlobsMissing(missing)

    def stage(self) -> "Staging":
        """A place to upload blobs to; use it as a context manager."""
        return Staging(self)

    def open(self, digest: Digest) -> BinaryIO:
        """The bytes of a stored blob as a file, not verified again.

        Raises:
            BlobsMissing: It is not stored.
        """
        try:
            file = open(self._path(digest), "rb")
        except FileNotFoundError:
            raise BlobsMissing([digest]) from None
        if os.fstat(file.fileno()).st_size != digest.size_bytes:
            file.close()
            raise BlobsMissing([digest])
        return file

    def chunks(self, digest: Digest, offset_bytes: int = 0) -> Iterator[bytes]:
        """The bytes of a blob from `offset_bytes` on, in chunks of 1 MiB, none for no bytes.

        The whole blob is verified on the way; the reader of the last chunk knows.

        Raises:
            BlobsMissing: It is not stored.
            BlobCorrupt: After the last chunk: the bytes do not match the digest. The blob
                is no longer stored.
        """
        hashed = hashlib.sha256()
        with self.open(digest) as file:
            position = 0
            while position < offset_bytes:
                skipped = file.read(min(CHUNK_BYTES, offset_bytes - position))
                if not skipped:
                    break
                hashed.update(skipped)
                position += len(skipped)
            while chunk := file.read(CHUNK_BYTES):
                hashed.update(chunk)
                yield chunk
            if hashed.hexdigest() != digest.sha256:
                self._drop(digest, file)
                raise BlobCorrupt(digest.sha256)

    def read(self, digest: Digest) -> bytes:
        """The verified bytes of a blob; for small ones. Raises as `chunks`."""
        return b"".join(self.chunks(digest))

    def _drop(self, digest: Digest, file: BinaryIO) -> None:
        path = self._path(digest)
        try:
            # Another upload may have put good bytes in its place.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                path.unlink()
        except FileNotFoundError:
            pass
        logger.error("blob is corrupt, dropped sha256=%s", digest.sha256)

    def _path(self, digest: Digest) -> Path:
        return blob_file(self._folder, digest.sha256)


class StagedBlob:
    """The bytes of one blob as they come in. Not thread-safe."""

    def __init__(self, digest: Digest, path: Path | None) -> None:
        """`path` None: the blob is stored already, its bytes are verified but not kept."""
        self.digest = digest
        self.path = path
        self.remaining_bytes = digest.size_bytes
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None if path is None else open(path, "wb")

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes, at most `remaining_bytes`."""
        if len(chunk) > self.remaining_bytes:
            raise ValueError("more bytes than the blob has")
        self._hash.update(chunk)
        self.remaining_bytes -= len(chunk)
        if self._file is not None:
            self._file.write(chunk)

    def verify(self) -> None:
        """Raises DigestMismatch unless all bytes came and match the digest."""
        self.close()
        actual = self._hash.hexdigest()
        if self.remaining_bytes or actual != self.digest.sha256:
            raise DigestMismatch(self.digest.sha256, actual)

    def close(self) -> None:
        """Closes the file; no more bytes can be written."""
        if self._file is not None:
            self._file.close()

    def discard(self) -> None:
        """Closes and removes the file."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Staging:
    """Blobs on their way into the store. Not thread-safe.

    Leaving it removes what was not published. One blob is added, written and verified after
    the other; `publish` stores all that are verified.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._open: StagedBlob | None = None
        self._verified: dict[str, Path] = {}

    def add(self, digest: Digest) -> StagedBlob:
        """Begins a blob."""
        stored = digest.sha256 in self._verified or self._store.has(digest)
        path = None if stored else self._store._incoming / secrets.token_hex(16)
        self._open = StagedBlob(digest, path)
        return self._open

    def verify(self) -> None:
        """Ends the blob begun last.

        Raises:
            DigestMismatch: Its bytes are not those of its digest; they are removed.
        """
        if self._open is None:
            raise ValueError("no blob is open")
        blob, self._open = self._open, None
        try:
            blob.verify()
        except DigestMismatch:
            blob.discard()
            raise
        if blob.path is not None:
            self._verified[blob.digest.sha256] = blob.path

    def open(self, digest: Digest) -> BinaryIO:
        """The bytes of a verified blob as a file. Raises BlobsMissing."""
        path = self._verified.get(digest.sha256)
        return self._store.open(digest) if path is None else open(path, "rb")

    def publish(self) -> None:
        """Stores the blobs verified since the last time, all on the disk on return."""
        if len(self._verified) >= _MANY_FILES:
            os.sync()
        else:
            for path in self._verified.values():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        for sha256, path in self._verified.items():
            target = self._store._folder / sha256[:2] / sha256
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        self._verified.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._open is not None:
            self._open.discard()
        for path in self._verified.values():
            path.unlink(missing_ok=True)
