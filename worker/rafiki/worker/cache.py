"""What a worker keeps of what it downloaded: files on disk, tensors in memory, by digest.

Sources and data sets are files: templates want a path, and they serve many trials.
Tensors are read once per weight version and stay in memory.
"""

import contextlib
import hashlib
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rafiki.resources import Digest
from rafiki.wire.blobs import Buffer

_HASH_BYTES = 1 << 20


class FileCache:
    """Blobs as files below a folder, the least recently used deleted first.

    Several workers may share the folder: a file appears whole or not at all.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        # Files seen to match their digest by this process.
        self._verified: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, digest: Digest) -> Path | None:
        """The file of a blob, verified; None if it is not here."""
        path = self._path(digest)
        try:
            if digest.sha256 not in self._verified or path.stat().st_size != digest.size_bytes:
                with path.open("rb") as file:
                    if _sha256(file) != digest.sha256:
                        path.unlink()
                        return None
                self._verified.add(digest.sha256)
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    @contextlib.contextmanager
    def writing(self, digest: Digest) -> Iterator[BinaryIO]:
        """A file to write a blob to, which is kept if the block ends well.

        The writer has verified the bytes by then.
        """
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            try:
                yield file  # type: ignore[misc]  # a wrapper of a BinaryIO, without its type
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
        self._verified.add(digest.sha256)

    def prune(self, keep: set[str]) -> None:
        """Deletes the files used longest ago beyond the limit, but none with a digest in `keep`."""
        prune_folder(self._folder, self._limit_bytes, keep)

    def _path(self, digest: Digest) -> Path:
        return self._folder / digest.sha256[:2] / digest.sha256


class MemoryCache:
    """Blobs in memory by SHA-256, the least recently used dropped first. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Buffer] = OrderedDict()
        self._size_bytes = 0

    def get(self, sha256: str) -> Buffer | None:
        """The bytes of a blob, if they are here."""
        with self._lock:
            data = self._held.get(sha256)
            if data is not None:
                self._held.move_to_end(sha256)
            return data

    def put(self, sha256: str, data: Buffer) -> None:
        """Keeps a blob."""
        with self._lock:
            if sha256 in self._held or len(data) > self._limit_bytes:
                return
            self._held[sha256] = data
            self._size_bytes += len(data)
            while self._size_bytes > self._limit_bytes:
                self._size_bytes -= len(self._held.popitem(last=False)[1])


def prune_folder(folder: Path, limit_bytes: int, keep: set[str]) -> None:
    """Deletes the files below `folder` used longest ago until the rest takes `limit_bytes`.

    Files whose name is in `keep` stay. Files that others delete meanwhile do no harm.
    """
    files: list[tuple[float, int, Path]] = []
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except OSError:
            continue
        if path.is_file():
            files.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in files) - limit_bytes
    for _, size, path in sorted(files):
        if excess <= 0:
            return
        if path.name not in keep:
            path.unlink(missing_ok=True)
            excess -= size


def _sha256(file: BinaryIO) -> str:
    state = hashlib.sha256()
    while data := file.read(_HASH_BYTES):
        state.update(data)
    return state.hexdigest()
