"""Blobs in files named by their SHA-256.

    {folder}/ab/abcdef...    a blob, the first two digits of its digest as folder
    {folder}/incoming/...    bytes not verified yet; removed when the server starts

A file gets its name once its bytes are verified and on the disk, and the name is on the disk
before anybody is told: so a name always stands for whole content. `sync=False` leaves both to
the operating system: the death of the server still loses nothing, that of the machine may lose
what was stored in the last half minute, which is then missing, or found damaged when it is read.

The time of a file says when its blob was last stored or renewed.
"""

import errno
import hashlib
import logging
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from rafiki.resources import Digest
from rafiki.server.domain.blobs import CHUNK_BYTES, Buffer, StoredBlob
from rafiki.server.domain.errors import BlobCorrupt, BlobsMissing, DigestMismatch

logger = logging.getLogger(__name__)

# Files of so many bytes are written to the disk while more come in, so many side by side.
_EARLY_SYNC_BYTES = 256 * 1024
_SYNC_THREADS = 4
# So many at most are kept open for it.
_OPEN_FILES = 64
# From so many small files on, one sync of the whole disk is cheaper than one per file.
_MANY_FILES = 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


def blob_file(folder: Path, sha256: str) -> Path:
    """Where the blob of a digest is in a folder of blobs."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256 in lower-case hexadecimal")
    return folder / sha256[:2] / sha256


class FileBlobs:
    """The blobs of one folder; see `BlobStore`. Used by one server at a time.

    Args:
        folder: Made if need be.
        sync: Whether a blob is on the disk before it is stored.
    """

    def __init__(self, folder: Path, *, sync: bool = True) -> None:
        self._folder = folder
        self.incoming = folder / "incoming"
        # Between a look at the time of a file and its removal nobody may renew it.
        self._removing = threading.Lock()
        self._syncing = ThreadPoolExecutor(_SYNC_THREADS, "rafiki-sync") if sync else None
        self.incoming.mkdir(parents=True, exist_ok=True)
        for leftover in self.incoming.iterdir():
            leftover.unlink()

    def has(self, digest: Digest) -> bool:
        """Whether the blob is stored, with this very size."""
        try:
            return os.stat(self._path(digest.sha256)).st_size == digest.size_bytes
        except FileNotFoundError:
            return False

    def renew(self, digest: Digest) -> bool:
        """As `has`, and counts the blob as stored just now."""
        with self._removing:
            if not self.has(digest):
                return False
            os.utime(self._path(digest.sha256))
            return True

    def stage(self) -> "FileStaging":
        """A place to upload blobs to; use it as a context manager."""
        return FileStaging(self)

    def open(self, digest: Digest) -> BinaryIO:
        """The bytes of a stored blob as a file, not verified again. Raises BlobsMissing."""
        try:
            file = open(self._path(digest.sha256), "rb", buffering=0)
        except FileNotFoundError:
            raise BlobsMissing([digest]) from None
        if os.fstat(file.fileno()).st_size != digest.size_bytes:
            file.close()
            raise BlobsMissing([digest])
        return file

    def chunks(self, digest: Digest, offset_bytes: int = 0) -> Iterator[Buffer]:
        """See `BlobStore`."""
        hashed = hashlib.sha256()
        with self.open(digest) as file:
            try:
                position = 0
                while chunk := file.read(CHUNK_BYTES):
                    hashed.update(chunk)
                    position += len(chunk)
                    if position > offset_bytes:
                        yield memoryview(chunk)[max(0, len(chunk) - (position - offset_bytes)) :]
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                logger.exception("blob cannot be read sha256=%s", digest.sha256)
                self._drop(digest.sha256, file)
                raise BlobCorrupt(digest.sha256) from error
            if hashed.hexdigest() != digest.sha256:
                self._drop(digest.sha256, file)
                raise BlobCorrupt(digest.sha256)

    def stored(self) -> Iterator[StoredBlob]:
        """See `BlobStore`."""
        for folder in self._folder.iterdir():
            if folder == self.incoming or not folder.is_dir():
                continue
            for entry in os.scandir(folder):
                if not _SHA256.fullmatch(entry.name):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield StoredBlob(Digest(entry.name, status.st_size), _unused_for(status))

    def remove(self, sha256: str, *, unused_for: timedelta) -> int | None:
        """See `BlobStore`."""
        path = self._path(sha256)
        with self._removing:
            try:
                status = path.stat()
                if _unused_for(status) < unused_for:
                    return None
                path.unlink()
            except FileNotFoundError:
                return None
        return status.st_size

    def close(self) -> None:
        """Ends the threads."""
        if self._syncing is not None:
            self._syncing.shutdown()

    def begin_sync(self, file: BinaryIO) -> "Future[None] | None":
        """Begins to write a file to the disk; None where that is left to the system."""
        return None if self._syncing is None else self._syncing.submit(os.fdatasync, file.fileno())

    def sync(self, paths: Sequence[Path]) -> None:
        """Has files on the disk on return, unless that is left to the system."""
        if self._syncing is None:
            return
        if len(paths) >= _MANY_FILES:
            os.sync()
        else:
            list(self._syncing.map(_sync_path, paths))

    def put(self, files: dict[str, Path]) -> None:
        """Gives files on the disk the names of their digests."""
        folders = set()
        for sha256, path in files.items():
            target = self._path(sha256)
            if not target.parent.exists():
                target.parent.mkdir(exist_ok=True)
                folders.add(self._folder)
            os.utime(path)  # it may have waited long for the others of its stream
            path.rename(target)
            folders.add(target.parent)
        self.sync_folders(folders)

    def sync_folders(self, folders: Iterable[Path]) -> None:
        """Has the names of files on the disk on return, unless that is left to the system."""
        if self._syncing is not None:
            for folder in folders:
                _sync_path(folder)

    def _drop(self, sha256: str, file: BinaryIO) -> None:
        path = self._path(sha256)
        with self._removing:
            try:
                # Another upload may have put good bytes in its place.
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    path.unlink()
            except FileNotFoundError:
                pass
            except OSError:
                logger.exception("corrupt blob cannot be removed sha256=%s", sha256)
        logger.error("blob is corrupt, dropped sha256=%s", sha256)

    def _path(self, sha256: str) -> Path:
        return blob_file(self._folder, sha256)


class StagedFile:
    """The bytes of one blob as they come in; see `StagedBlob`."""

    def __init__(self, digest: Digest, path: Path | None) -> None:
        """`path` None: the blob is stored already, its bytes are verified but not kept."""
        self.digest = digest
        self.path = path
        self.remaining_bytes = digest.size_bytes
        self._hash = hashlib.sha256()
        self.file: BinaryIO | None = None if path is None else open(path, "wb", buffering=0)

    def write(self, chunk: Buffer) -> None:
        """Takes the next bytes, at most `remaining_bytes`."""
        if len(chunk) > self.remaining_bytes:
            raise ValueError("more bytes than the blob has")
        self._hash.update(chunk)
        if self.file is not None:
            rest = memoryview(chunk)
            while rest:
                rest = rest[self.file.write(rest) :]
        self.remaining_bytes -= len(chunk)

    def verify(self) -> None:
        """Raises DigestMismatch unless all bytes came and match the digest."""
        actual = self._hash.hexdigest()
        if self.remaining_bytes or actual != self.digest.sha256:
            raise DigestMismatch(self.digest.sha256, actual)

    def discard(self) -> None:
        """Closes and removes the file."""
        if self.file is not None:
            self.file.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class FileStaging:
    """Blobs on their way into files; see `Staging`.

    Large files are written to the disk as soon as they are verified, while the next come in.
    """

    def __init__(self, store: FileBlobs) -> None:
        self._store = store
        self._open: StagedFile | None = None
        self._verified: dict[str, Path] = {}
        self._unsynced: set[str] = set()
        self._syncs: deque[tuple[BinaryIO, Future[None]]] = deque()

    def add(self, digest: Digest) -> StagedFile:
        """Begins a blob."""
        stored = digest.sha256 in self._verified or self._store.renew(digest)
        path = None if stored else self._store.incoming / secrets.token_hex(16)
        self._open = StagedFile(digest, path)
        return self._open

    def verify(self) -> None:
        """Ends the blob begun last. Raises DigestMismatch."""
        if self._open is None:
            raise ValueError("no blob is open")
        blob, self._open = self._open, None
        try:
            blob.verify()
        except DigestMismatch:
            blob.discard()
            raise
        if blob.file is None or blob.path is None:
            return
        sha256 = blob.digest.sha256
        self._verified[sha256] = blob.path
        sync = None
        if blob.digest.size_bytes >= _EARLY_SYNC_BYTES:
            sync = self._store.begin_sync(blob.file)
        if sync is None:
            blob.file.close()
            self._unsynced.add(sha256)
        else:
            self._syncs.append((blob.file, sync))
            self._wait_for_syncs(_OPEN_FILES)

    def open(self, digest: Digest) -> BinaryIO:
        """The bytes of a verified blob as a file. Raises BlobsMissing."""
        path = self._verified.get(digest.sha256)
        return self._store.open(digest) if path is None else open(path, "rb", buffering=0)

    def publish(self) -> None:
        """Stores the blobs verified since the last time, to last, on return."""
        self._wait_for_syncs(0)
        self._store.sync([self._verified[sha256] for sha256 in self._unsynced])
        self._unsynced.clear()
        self._store.put(self._verified)
        self._verified.clear()

    def _wait_for_syncs(self, most: int) -> None:
        """Waits until at most so many files are on their way to the disk."""
        while len(self._syncs) > most:
            file, sync = self._syncs.popleft()
            with file:
                sync.result()

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
        for file, sync in self._syncs:
            with file:  # not closed before its sync has ended
                sync.exception()
        for path in self._verified.values():
            path.unlink(missing_ok=True)


def _unused_for(status: os.stat_result) -> timedelta:
    # Times ahead of the clock, which was set back, are not taken for old.
    return timedelta(seconds=max(0.0, time.time() - status.st_mtime))


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
