"""The data set format of the task IMAGE_CLASSIFICATION.

A zip archive in one of three forms, told apart by what it holds:

- images and one `images.csv` with the columns `path` (of an image in the archive) and
  `class` (an integer from 0);
- NumPy's `.npz`, as `numpy.savez("train.npz", images=..., labels=...)` writes it: uint8
  images `[N, H, W]` or `[N, H, W, C]` and integer labels `[N]`;
- two IDX files, of images and of labels, gzipped or not. Those of MNIST and its relatives
  become a data set by `zip train.zip train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz`.

All images have one size. Nothing is ever extracted to disk or unpickled. Letters: `N` images,
`H` rows, `W` columns, `C` channels.
"""

import csv
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from rafiki.model.datasets import InvalidDataset
from rafiki.model.image_arrays import (
    MAX_CLASSES,
    MAX_IMAGES,
    MAX_PIXELS,
    MAX_TOTAL_BYTES,
    NPZ_MEMBERS,
    ZIP_ERRORS,
    Arrays,
    check_packing,
    idx_members,
    packed_bytes,
    read_idx,
    read_npz,
)

TABLE = "images.csv"
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MAX_FILE_BYTES = 64 * 2**20

_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_MODES = ("I", "F")


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """The images of a data set, in the order of its table.

    Attributes:
        images: uint8 `[N, H, W, C]`; `C` is 1 if all images are grey, otherwise 3.
        labels: int32 `[N]`, each in [0, class_count).
        class_count: The largest class in the table + 1.
    """

    images: np.ndarray
    labels: np.ndarray
    class_count: int


def load_images(path: str | Path) -> ImageData:
    """The data set in the file `path`.

    Raises:
        InvalidDataset: It is not in the format, or too large: an image over 64 MiB or
            2**26 pixels, more than 4 GiB or a million images in all, or a zip bomb: over
            256 MiB that are packed to less than a two-hundredth.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise
    except ZIP_ERRORS as error:
        raise InvalidDataset(f"{path.name} is not a zip archive: {error}") from error
    with archive:
        members = _members(archive, path.name)
        if TABLE not in members and any(member in members for member in NPZ_MEMBERS):
            images, labels = read_npz(archive, members, path.name)
        elif TABLE not in members and (files := idx_members(archive, members)) is not None:
            images, labels = read_idx(archive, files, path.name)
        else:
            images, labels = _read_table(archive, members, path.name)
    return ImageData(images, labels, int(labels.max()) + 1)


def write_images(path: str | Path, images: np.ndarray, labels: Sequence[int] | np.ndarray) -> None:
    """Writes a data set; equal arguments give equal bytes.

    Args:
        path: The file to write.
        images: uint8 `[N, H, W]` or `[N, H, W, C]` with `C` 1 or 3.
        labels: `[N]` integers from 0.

    Raises:
        InvalidDataset: The arrays have other shapes or types.
    """
    from PIL import Image

    images, classes = np.asarray(images), np.asarray(labels)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    is_shape = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not is_shape or 0 in images.shape:
        raise InvalidDataset(
            f"images are uint8 [N, H, W, 1 or 3], not {images.dtype} {list(images.shape)}"
        )
    if classes.shape != images.shape[:1] or classes.dtype.kind not in "iu" or classes.min() < 0:
        raise InvalidDataset("labels are one integer from 0 per image")
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "class"])
    with zipfile.ZipFile(path, "w") as archive:
        for number, (image, label) in enumerate(zip(images, classes, strict=True)):
            name = f"images/{number:06d}.png"
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, "PNG")
            # A ZipInfo of its own has a fixed time stamp, 1980-01-01.
            archive.writestr(zipfile.ZipInfo(name), encoded.getvalue())
            writer.writerow([name, int(label)])
        archive.writestr(zipfile.ZipInfo(TABLE), table.getvalue())


def query_images(queries: Sequence[object]) -> np.ndarray:
    """The images of a list of queries as uint8 `[N, H, W, C]`.

    Args:
        queries: `N` images of one shape `[H, W]` or `[H, W, C]` with values in [0, 255]:
            nested lists of integers, as JSON carries them, or arrays.

    Raises:
        ValueError: They are none, or of several shapes.
    """
    arrays: list[np.ndarray] = []
    for number, query in enumerate(queries):
        try:
            array = np.asarray(query)
        except ValueError:
            raise ValueError(f"query {number} is ragged: its rows differ in length") from None
        if array.ndim == 2:
            array = array[..., np.newaxis]
        if array.ndim != 3 or array.dtype.kind not in "iuf" or array.size == 0:
            raise ValueError(f"query {number} is no image [H, W] or [H, W, C] of numbers")
        # Written so that NaN fails it.
        if not (array.min() >= 0 and array.max() <= 255):
            raise ValueError(f"query {number} has values outside [0, 255]")
        if arrays and array.shape != arrays[0].shape:
            raise ValueError(f"query {number} is {array.shape}, query 0 {arrays[0].shape}")
        arrays.append(array.astype(np.uint8))
    if not arrays:
        raise ValueError("there are no queries")
    return np.stack(arrays)


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    path: str
    label: int


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in archive.infolist():
        if not _is_safe(info.filename):
            raise InvalidDataset(f"{name}: {info.filename!r} leads out of the archive")
        # Python unpacks what others pack without a limit.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidDataset(f"{name}: {info.filename!r} is not packed by deflate")
        members[info.filename] = info
        total += info.file_size
    if total > MAX_TOTAL_BYTES:
        raise InvalidDataset(f"{name} holds more than {MAX_TOTAL_BYTES >> 30} GiB unpacked")
    if len(members) > MAX_IMAGES + 1:
        raise InvalidDataset(f"{name} holds more than {MAX_IMAGES} images")
    return members


def _is_safe(path: str) -> bool:
    """Whether `path` is relative and stays inside, also on Windows."""
    pure = PurePosixPath(path)
    return not (pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path)


def _read_table(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> Arrays:
    """The images and labels of an archive of image files."""
    for info in members.values():
        if info.file_size > MAX_FILE_BYTES:
            raise InvalidDataset(f"{name}: {info.filename!r} is over {MAX_FILE_BYTES >> 20} MiB")
    rows = list(_rows(archive, members, name))
    if not rows:
        raise InvalidDataset(f"{name}: {TABLE} lists no images")
    images = _read_images(archive, members, rows, name)
    return images, np.array([row.label for row in rows], np.int32)


def _rows(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str
) -> Iterator[_Row]:
    if TABLE not in members:
        raise InvalidDataset(
            f"{name} has no {TABLE} at its top level, no arrays images and labels, and is no "
            "pair of IDX files"
        )
    try:
        text = archive.read(TABLE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{name}: {TABLE} is not UTF-8: {error}") from error
    except ZIP_ERRORS as error:
        raise InvalidDataset(f"{name}: {TABLE} is damaged: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not {"path", "class"} <= set(reader.fieldnames or ()):
            raise InvalidDataset(f"{name}: {TABLE} line 1: the columns path and class are needed")
        for count, row in enumerate(reader):
            where = f"{name}: {TABLE} line {reader.line_num}"
            if count >= MAX_IMAGES:
                raise InvalidDataset(f"{where}: more than {MAX_IMAGES} images")
            path, label = row["path"] or "", (row["class"] or "").strip()
            if not _is_safe(path):
                raise InvalidDataset(f"{where}: {path!r} leads out of the archive")
            if path not in members:
                raise InvalidDataset(f"{where}: {path!r} is not in the archive")
            is_number = label.isascii() and label.isdigit() and len(label) < 10
            if not is_number or int(label) >= MAX_CLASSES:
                raise InvalidDataset(
                    f"{where}: class {label!r} is no integer in [0, {MAX_CLASSES})"
                )
            yield _Row(reader.line_num, path, int(label))
    except csv.Error as error:
        raise InvalidDataset(f"{name}: {TABLE} line {reader.line_num + 1}: {error}") from error


def _read_images(
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    rows: list[_Row],
    name: str,
) -> np.ndarray:
    """uint8 `[N, H, W, C]`."""
    from PIL import Image

    images = np.empty((0, 0, 0, 1), np.uint8)
    for number, row in enumerate(rows):
        where = f"{name}: {row.path!r} ({TABLE} line {row.line})"
        try:
            encoded = io.BytesIO(archive.read(members[row.path]))
        except ZIP_ERRORS as error:
            raise InvalidDataset(f"{where} is damaged: {error}") from error
        try:
            with Image.open(encoded, formats=FORMATS) as image:
                # Only the header has been read so far.
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise InvalidDataset(f"{where} has more than {MAX_PIXELS} pixels")
                if number == 0:
                    if len(rows) * width * height * 3 > MAX_TOTAL_BYTES:
                        raise InvalidDataset(
                            f"{name}: {len(rows)} images of {width}x{height} take more than "
                            f"{MAX_TOTAL_BYTES >> 30} GiB"
                        )
                    packed = packed_bytes(archive, members.values())
                    check_packing(len(rows) * width * height, packed, name)
                    images = np.empty((len(rows), height, width, 1), np.uint8)
                elif images.shape[1:3] != (height, width):
                    raise InvalidDataset(
                        f"{where} is {width}x{height}, the images before it "
                        f"{images.shape[2]}x{images.shape[1]}; all must have one size"
                    )
                if image.mode.split(";")[0] in _DEEP_MODES:
                    raise InvalidDataset(f"{where} has more than 8 bits per channel")
                if image.mode not in _GREY_MODES and images.shape[3] == 1:
                    images = np.repeat(images, 3, axis=3)
                mode = "L" if images.shape[3] == 1 else "RGB"
                pixels = np.asarray(image.convert(mode), np.uint8)
        except InvalidDataset:
            raise
        # What Pillow raises for damaged files.
        except (
            OSError,
            SyntaxError,
            ValueError,
            EOFError,
            struct.error,
            zlib.error,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            raise InvalidDataset(
                f"{where} is no readable image ({', '.join(FORMATS)}): {error}"
            ) from error
        images[number] = pixels.reshape(height, width, -1)
    return images
