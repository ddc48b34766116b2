"""Image data sets as arrays: NumPy's `.npz` and the IDX files of MNIST.

Both are zip archives to Rafiki. Nothing is read before its size is known and allowed, and
nothing is ever unpickled. Letters: `N` images, `H` rows, `W` columns, `C` channels.
"""

import ast
import gzip
import lzma
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np

from rafiki.model.datasets import InvalidDataset

MAX_IMAGES = 1_000_000
MAX_CLASSES = 100_000
MAX_PIXELS = 2**26
MAX_TOTAL_BYTES = 4 * 2**30
# More than so many bytes must not be packed to less than the so-manieth of them.
MAX_PACKED_BYTES = 256 * 2**20
MAX_PACKING = 200
# Of images and of labels, the widest integers.
_MOST_BYTES = (MAX_TOTAL_BYTES, 8 * MAX_IMAGES)

# What zipfile raises when an archive or one of its members is damaged or of a foreign kind.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)

NPZ_MEMBERS = ("images.npy", "labels.npy")
_NPY_MAGIC = b"\x93NUMPY"
# NumPy's own headers have 128 bytes.
_MAX_NPY_HEADER = 4096
_GZIP_MAGIC = b"\x1f\x8b"
# Two zeros, then the type: unsigned bytes.
_IDX_MAGIC = b"\x00\x00\x08"

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray]
Content: TypeAlias = IO[bytes] | gzip.GzipFile


def read_npz(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> Arrays:
    """The images `[N, H, W, C]` and labels `[N]` of an `.npz` called `name`.

    Its array `images` is uint8 `[N, H, W]` or `[N, H, W, C]`, its array `labels` `[N]`
    integers. Other arrays are left alone.

    Raises:
        InvalidDataset: It is damaged, or the arrays are others or too large.
    """
    arrays = []
    for member, most_bytes in zip(NPZ_MEMBERS, _MOST_BYTES, strict=True):
        where = f"{name}: {member}"
        if member not in members:
            raise InvalidDataset(f"{name} has no array {member.removesuffix('.npy')!r}")
        info = members[member]
        with _damage(where), archive.open(info) as file:
            packed = packed_bytes(archive, [info])
            arrays.append(_read_npy(file, info.file_size, packed, most_bytes, where))
    return _checked(arrays[0], arrays[1], name)


def idx_members(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> dict[int, zipfile.ZipInfo] | None:
    """The two IDX files of an archive by their dimensions, gzipped or not; None if it has none.

    Archives of other than two members are none.
    """
    if len(members) != 2:
        return None
    found = {}
    for info in members.values():
        try:
            with archive.open(info) as file, _unzipped(file) as content:
                head = content.read(4)
        except ZIP_ERRORS:
            return None
        if len(head) < 4 or head[:3] != _IDX_MAGIC:
            return None
        found[head[3]] = info
    return found


def read_idx(archive: zipfile.ZipFile, members: Mapping[int, zipfile.ZipInfo], name: str) -> Arrays:
    """The images `[N, H, W, C]` and labels `[N]` of the two IDX files of an archive.

    Images are bytes of three dimensions (or four, with channels), labels of one; see "The
    MNIST database of handwritten digits" by LeCun, Cortes and Burges for the format.

    Raises:
        InvalidDataset: They are damaged, of other dimensions, or too large.
    """
    pictures = members.get(3, members.get(4))
    if pictures is None or 1 not in members:
        dimensions = " and ".join(map(str, sorted(members)))
        raise InvalidDataset(
            f"{name}: of two IDX files one has labels in 1 dimension and one images in 3 or 4; "
            f"these have {dimensions}"
        )
    arrays = []
    for info, most_bytes in zip((pictures, members[1]), _MOST_BYTES, strict=True):
        where = f"{name}: {info.filename!r}"
        with _damage(where), archive.open(info) as file, _unzipped(file) as content:
            axes = content.read(4)[3]
            shape = struct.unpack(f">{axes}I", content.read(4 * axes))
            packed = packed_bytes(archive, [info])
            arrays.append(_read_array(content, np.dtype("u1"), shape, packed, most_bytes, where))
    return _checked(arrays[0], arrays[1], name)


def packed_bytes(archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo]) -> int:
    """What members take in an archive on disk; their own word for it is not taken."""
    assert archive.filename is not None
    return min(sum(info.compress_size for info in members), Path(archive.filename).stat().st_size)


def check_packing(size_bytes: int, packed: int, where: str) -> None:
    """Raises InvalidDataset for what unpacks to far more than data sets do."""
    if size_bytes > max(MAX_PACKED_BYTES, MAX_PACKING * packed):
        raise InvalidDataset(
            f"{where} unpacks to {size_bytes} bytes or more, from {packed}: it is a zip bomb, "
            "not images"
        )


@contextmanager
def _damage(where: str) -> Iterator[None]:
    """Turns what damaged archives raise into InvalidDataset."""
    try:
        yield
    except InvalidDataset:
        raise
    except ZIP_ERRORS as error:
        raise InvalidDataset(f"{where} is damaged: {error}") from error


def _unzipped(file: IO[bytes]) -> Content:
    """The content of a file that may be gzipped."""
    is_gzipped = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if is_gzipped else file


def _read_npy(
    file: Content, size_bytes: int, packed: int, most_bytes: int, where: str
) -> np.ndarray:
    """An array; see `numpy.lib.format` for the format, of which 1.0 to 3.0 are read."""
    head = file.read(8)
    wide = head[6:7] != b"\x01"
    length_bytes = file.read(4 if wide else 2)
    if head[:6] != _NPY_MAGIC or head[6:7] not in (b"\1", b"\2", b"\3"):
        raise InvalidDataset(f"{where} is no array of NumPy")
    length = int.from_bytes(length_bytes, "little")
    if length > _MAX_NPY_HEADER:
        raise InvalidDataset(f"{where} has a header of {length} bytes")
    dtype, is_fortran, shape = _npy_header(file.read(length), where)
    expected = len(head) + len(length_bytes) + length + math.prod(shape) * dtype.itemsize
    if expected != size_bytes:
        raise InvalidDataset(
            f"{where} has {size_bytes} bytes; a {dtype} array {list(shape)} takes {expected}"
        )
    if is_fortran:
        return _read_array(file, dtype, shape[::-1], packed, most_bytes, where).T
    return _read_array(file, dtype, shape, packed, most_bytes, where)


def _npy_header(header: bytes, where: str) -> tuple[np.dtype, bool, tuple[int, ...]]:
    """Dtype, whether in Fortran's order, and shape."""
    try:
        fields = ast.literal_eval(header.decode().strip())
        descr, is_fortran, shape = (fields[key] for key in ("descr", "fortran_order", "shape"))
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError) as error:
        raise InvalidDataset(f"{where} has no readable header") from error
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=]?[iu][1248]", descr):
        raise InvalidDataset(f"{where} holds {descr!r:.80}, not integers")
    is_shape = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not is_shape or not isinstance(is_fortran, bool):
        raise InvalidDataset(f"{where} has no readable header")
    return np.dtype(descr), is_fortran, shape


def _read_array(
    file: Content, dtype: np.dtype, shape: tuple[int, ...], packed: int, most_bytes: int, where: str
) -> np.ndarray:
    """An array that takes the rest of a file, once it is known not to be too large."""
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes == 0 or len(shape) > 4:
        raise InvalidDataset(f"{where} is an array {list(shape)}")
    if size_bytes > most_bytes:
        raise InvalidDataset(f"{where} takes {size_bytes} bytes, more than {most_bytes}")
    # Memory that is not written to is not taken: what a file only claims costs nothing.
    content = np.empty(size_bytes, np.uint8)
    view, filled = content.data, 0
    while filled < size_bytes and (part := file.read(min(2**20, size_bytes - filled))):
        view[filled : filled + len(part)] = part
        filled += len(part)
        check_packing(filled, packed, where)
    if filled < size_bytes:
        raise InvalidDataset(f"{where} is truncated: {filled} bytes of {size_bytes}")
    if file.read(1):
        raise InvalidDataset(f"{where} goes on after its {size_bytes} bytes")
    return content.view(dtype).reshape(shape)


def _checked(images: np.ndarray, labels: np.ndarray, name: str) -> Arrays:
    """The images with channels, the labels as int32, once they are known to be in order."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InvalidDataset(
            f"{name}: images are uint8 [N, H, W] or [N, H, W, 1 or 3], not "
            f"{images.dtype} {list(images.shape)}"
        )
    count, height, width, _ = images.shape
    if count > MAX_IMAGES or height * width > MAX_PIXELS:
        raise InvalidDataset(
            f"{name}: {count} images of {width}x{height}; there may be {MAX_IMAGES} images of "
            f"{MAX_PIXELS} pixels"
        )
    if labels.shape != (count,):
        raise InvalidDataset(f"{name}: labels {list(labels.shape)} for {count} images")
    wrong = (labels < 0) | (labels >= MAX_CLASSES)
    if wrong.any():
        row = int(wrong.argmax())
        raise InvalidDataset(
            f"{name}: label {row} is {labels[row]}, no integer in [0, {MAX_CLASSES})"
        )
    return np.ascontiguousarray(images), labels.astype(np.int32)
