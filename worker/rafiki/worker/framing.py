"""Frames between a worker and its child process: a JSON message and named tensors.

A frame is the length of its header (4 bytes, little-endian), the header (JSON), and the
bytes of the tensors in the header's order, C order, in the byte order of the machine.
Frames never leave the machine; what does is `rafiki.wire`'s.
"""

import json
import os
import struct
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

# One JSON object with a "type". Its values are whatever JSON holds, NaN included.
Message: TypeAlias = "dict[str, Any]"
Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

MAX_HEADER_BYTES = 256 * 2**20
_LENGTH = struct.Struct("<I")


class BrokenFrame(Exception):
    """The peer wrote no frame, or died in the middle of one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message and the tensors that came with it, by path."""

    message: Message
    tensors: Mapping[str, Array] = field(default_factory=dict)


class FrameWriter:
    """Writes frames to a file descriptor it owns. Safe to use from several threads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def write(self, message: Message, tensors: Mapping[str, Array] | None = None) -> None:
        """Writes one frame; blocks while the pipe is full.

        Raises:
            BrokenPipeError: The peer is gone.
        """
        parts: list[memoryview] = []
        entries: list[tuple[str, str, tuple[int, ...]]] = []
        for path, array in (tensors or {}).items():
            entries.append((path, array.dtype.name, array.shape))
            parts.append(_raw_bytes(array))
        header = json.dumps({"message": message, "tensors": entries}).encode()
        if len(header) > MAX_HEADER_BYTES:
            raise ValueError(f"a message takes at most {MAX_HEADER_BYTES} bytes")
        with self._lock:
            self._write_all(memoryview(_LENGTH.pack(len(header)) + header))
            for part in parts:
                self._write_all(part)

    def close(self) -> None:
        """Closes the descriptor: the peer reads the end of the file."""
        with self._lock:
            os.close(self._fd)

    def _write_all(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._fd, data) :]


class FrameReader:
    """Reads frames from a file descriptor it owns. For one thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._fd

    def read(self) -> Frame | None:
        """The next frame; blocks until all of it is there. None at the end of the file.

        Raises:
            BrokenFrame: What came is no frame, or ended early.
        """
        prefix = bytearray(_LENGTH.size)
        first = os.readv(self._fd, [prefix])
        if first == 0:
            return None
        self._fill(memoryview(prefix)[first:])
        (size,) = _LENGTH.unpack(prefix)
        if size > MAX_HEADER_BYTES:
            raise BrokenFrame(f"a header of {size} bytes")
        header = bytearray(size)
        self._fill(memoryview(header))
        try:
            fields = json.loads(header)
            message = fields["message"]
            entries = [
                (path, _dtype(name), tuple(shape)) for path, name, shape in fields["tensors"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenFrame(f"a header that cannot be read: {error}") from error
        if not isinstance(message, dict):
            raise BrokenFrame("a message that is no object")
        return Frame(message, self._tensors(entries))

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self._fd)

    def _tensors(
        self, entries: Iterable[tuple[str, np.dtype[Any], tuple[int, ...]]]
    ) -> dict[str, Array]:
        tensors: dict[str, Array] = {}
        for path, dtype, shape in entries:
            array = np.empty(shape, dtype)
            self._fill(_raw_bytes(array))
            tensors[path] = array
        return tensors

    def _fill(self, view: memoryview) -> None:
        while view:
            count = os.readv(self._fd, [view])
            if count == 0:
                raise BrokenFrame("the peer died in the middle of a frame")
            view = view[count:]


def _raw_bytes(array: Array) -> memoryview:
    """The bytes of an array, without a copy where it is contiguous and native.

    Types of ml_dtypes have no buffer protocol of their own, hence the view as bytes.
    """
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return native.reshape(-1).view(np.uint8).data


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # bfloat16 and the float8 types; registers their names

        return np.dtype(getattr(ml_dtypes, name, name))
