"""Image data sets as `.npz` and as IDX files: what is read, and what is refused."""

import gzip
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from rafiki.model import InvalidDataset, load_images

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([3, 0])


def npz(path: Path, **arrays: np.ndarray) -> Path:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes a flag by name
    return path


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def npy_claiming(header: str, version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    return b"\x93NUMPY" + version + length + header.encode()


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(np.uint8), LABELS.astype(">i2")])
def test_the_arrays_of_an_npz_are_a_data_set(
    channels: int | None, labels: np.ndarray, tmp_path: Path
) -> None:
    images = IMAGES if channels is None else np.stack([IMAGES] * channels, axis=-1)
    data = load_images(npz(tmp_path / "anything", images=images, labels=labels))
    assert np.array_equal(data.images, images.reshape(2, 3, 4, -1))
    assert [data.images.dtype, data.labels.dtype] == ["u1", "i4"]
    assert data.labels.tolist() == [3, 0]
    assert data.class_count == 4


def test_an_npz_may_be_compressed_and_hold_more(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=IMAGES, labels=LABELS, names=np.array(["a", "b"]))
    assert np.array_equal(load_images(path).images[..., 0], IMAGES)


def test_arrays_in_the_order_of_fortran_are_read(tmp_path: Path) -> None:
    data = load_images(npz(tmp_path / "a.npz", images=np.asfortranarray(IMAGES), labels=LABELS))
    assert np.array_equal(data.images[..., 0], IMAGES)


@pytest.mark.parametrize("zipped", [bytes, gzip.compress])
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_two_idx_files_are_a_data_set(
    zipped: type[bytes], names: tuple[str, str], tmp_path: Path
) -> None:
    contents = (zipped(idx(IMAGES)), zipped(idx(LABELS)))
    data = load_images(archive(tmp_path / "a.zip", dict(zip(names, contents, strict=True))))
    assert np.array_equal(data.images[..., 0], IMAGES)
    assert data.labels.tolist() == [3, 0]


def test_idx_files_may_hold_coloured_images(tmp_path: Path) -> None:
    images = np.stack([IMAGES] * 3, axis=-1)
    path = archive(tmp_path / "a.zip", {"images": idx(images), "labels": idx(LABELS)})
    assert np.array_equal(load_images(path).images, images)


WRONG_ARRAYS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "no labels": ({"images": IMAGES}, r"a\.npz has no array 'labels'"),
    "no images": ({"labels": LABELS}, r"a\.npz has no array 'images'"),
    "other names": ({"x_train": IMAGES, "y_train": LABELS}, "no arrays images and labels"),
    "float images": ({"images": IMAGES / 255, "labels": LABELS}, "images.npy holds '<f8', not int"),
    "wide images": ({"images": IMAGES.astype(int), "labels": LABELS}, "uint8 .* not int64"),
    "float labels": ({"images": IMAGES, "labels": LABELS * 1.0}, "labels.npy holds '<f8', not int"),
    "labels as texts": ({"images": IMAGES, "labels": np.array(["a", "b"])}, "holds '<U1'"),
    "boolean labels": ({"images": IMAGES, "labels": LABELS > 1}, r"holds '\|b1'"),
    "negative label": ({"images": IMAGES, "labels": -LABELS}, "label 0 is -3, no integer in"),
    "enormous label": ({"images": IMAGES, "labels": LABELS * 2**60}, "label 0 is 345876"),
    "more labels": ({"images": IMAGES, "labels": np.arange(3)}, r"labels \[3\] for 2 images"),
    "labels in columns": ({"images": IMAGES, "labels": np.eye(2, dtype=int)}, r"labels \[2, 2\]"),
    "one image": ({"images": IMAGES[0], "labels": LABELS}, r"not uint8 \[3, 4\]"),
    "four channels": (
        {"images": np.zeros((2, 3, 3, 4), np.uint8), "labels": LABELS},
        r"not uint8 \[2, 3, 3, 4\]",
    ),
    "five dimensions": (
        {"images": np.zeros((2, 3, 3, 1, 1), np.uint8), "labels": LABELS},
        r"images.npy is an array \[2, 3, 3, 1, 1\]",
    ),
    "none": ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"images.npy is an array \[0, 3, 4\]"),
    "a number": ({"images": np.array(3), "labels": LABELS}, r"not int64 \[\]"),
    "records": (
        {"images": IMAGES, "labels": np.zeros(2, [("a", int)])},
        r"labels.npy holds \[\('a'",
    ),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_other_arrays_are_refused(case: str, tmp_path: Path) -> None:
    arrays, rule = WRONG_ARRAYS[case]
    with pytest.raises(InvalidDataset, match=rule):
        load_images(npz(tmp_path / "a.npz", **arrays))


def test_pickled_objects_are_refused_unread(tmp_path: Path) -> None:
    objects = np.array([print, None], dtype=object)
    with pytest.raises(InvalidDataset, match=r"labels\.npy holds '\|O', not integers"):
        load_images(npz(tmp_path / "a.npz", images=IMAGES, labels=objects))


HEADERS = {
    "nothing": b"",
    "no magic": b"PNG" + npy(IMAGES)[3:],
    "version 9": npy_claiming("{}", b"\x09\x00"),
    "enormous header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{",
    "no dict": npy_claiming("[1, 2]"),
    "no keys": npy_claiming("{}"),
    "no literal": npy_claiming("{'descr': exit(), 'fortran_order': False, 'shape': (2,)}"),
    "not UTF-8": b"\x93NUMPY\x01\x00\x02\x00\xff\xff",
    "deeply nested": npy_claiming("(" * 4000),
    "signs": npy_claiming("-" * 4000 + "1"),
    "shape of floats": npy_claiming("{'descr': '|u1', 'fortran_order': False, 'shape': (2.0,)}"),
    "negative shape": npy_claiming("{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}"),
    "order as text": npy_claiming("{'descr': '|u1', 'fortran_order': 'C', 'shape': (2,)}"),
    "short data": npy(IMAGES)[:-1],
    "long data": npy(IMAGES) + b"x",
    "one dimension overflows": npy_claiming(
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': (0, {2**80})}}"
    ),
    "claims much": npy_claiming(
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**40}, 8, 8)}}"
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_npz_with_nonsense_for_an_array_is_refused(case: str, tmp_path: Path) -> None:
    members = {"images.npy": HEADERS[case], "labels.npy": npy(LABELS)}
    with pytest.raises(InvalidDataset, match=r"a\.npz: images\.npy "):
        load_images(archive(tmp_path / "a.npz", members))


WRONG_FILES: dict[str, tuple[dict[str, bytes], str]] = {
    "one file": ({"a": idx(IMAGES)}, "is no pair of IDX files"),
    "three files": ({"a": idx(IMAGES), "b": idx(LABELS), "c": b""}, "is no pair of IDX files"),
    "no magic": ({"a": b"\1" + idx(IMAGES), "b": idx(LABELS)}, "is no pair of IDX files"),
    "integers": ({"a": idx(IMAGES), "b": b"\0\0\x0c\1" + bytes(12)}, "is no pair of IDX files"),
    "nothing": ({"a": idx(IMAGES), "b": b""}, "is no pair of IDX files"),
    "only magic": ({"a": idx(IMAGES), "b": b"\0\0\x08"}, "is no pair of IDX files"),
    "images twice": ({"a": idx(IMAGES), "b": idx(IMAGES)}, "these have 3"),
    "labels twice": ({"a": idx(LABELS), "b": idx(LABELS)}, "these have 1"),
    "matrix": ({"a": idx(IMAGES[0]), "b": idx(LABELS)}, "these have 1 and 2"),
    "truncated": ({"a": idx(IMAGES)[:-1], "b": idx(LABELS)}, "'a' is truncated: 23 bytes of 24"),
    "truncated sizes": ({"a": idx(IMAGES)[:9], "b": idx(LABELS)}, "'a' is damaged"),
    "goes on": ({"a": idx(IMAGES), "b": idx(LABELS) + b"x"}, "'b' goes on after its 2 bytes"),
    "truncated gzip": (
        {"a": gzip.compress(idx(IMAGES))[:-9], "b": idx(LABELS)},
        "'a' is damaged",
    ),
    "wrong checksum": (
        {"a": gzip.compress(idx(IMAGES))[:-8] + bytes(8), "b": idx(LABELS)},
        "'a' is damaged: CRC",
    ),
    "label count differs": ({"a": idx(IMAGES), "b": idx(np.arange(3))}, r"labels \[3\] for 2"),
    "no images": ({"a": idx(IMAGES[:0]), "b": idx(LABELS[:0])}, r"'a' is an array \[0, 3, 4\]"),
    "two channels": ({"a": idx(np.zeros((2, 3, 4, 2))), "b": idx(LABELS)}, r"\[2, 3, 4, 2\]"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_other_pairs_of_files_are_refused(case: str, tmp_path: Path) -> None:
    members, rule = WRONG_FILES[case]
    with pytest.raises(InvalidDataset, match=rule):
        load_images(archive(tmp_path / "a.zip", members))


def claiming(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


@pytest.mark.parametrize(
    ("images", "labels", "rule"),
    [
        (claiming(2**31, 2**31, 2**31), idx(LABELS), "more than 4294967296"),
        (idx(IMAGES), claiming(2**31), "more than 8000000"),
        (claiming(2**30, 1, 1), idx(LABELS), "'a' is truncated"),
    ],
)
def test_what_files_only_claim_takes_no_memory(
    images: bytes, labels: bytes, rule: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "a.zip", {"a": gzip.compress(images), "b": labels})
    with pytest.raises(InvalidDataset, match=rule):
        load_images(path)


def test_images_of_too_many_pixels_are_refused(tmp_path: Path) -> None:
    images = np.zeros((1, 2**14, 2**12 + 1), np.uint8)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=images, labels=LABELS[:1])
    with pytest.raises(InvalidDataset, match="1 images of 4097x16384"):
        load_images(path)


def test_a_decompressed_npz_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros((2, 2000, 2000), np.uint8), labels=LABELS)
    tracemalloc.start()
    try:
        load_images(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 8e6


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_refused_or_read(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    members = {"a": gzip.compress(idx(IMAGES)), "b": idx(LABELS)}
    sources = [
        archive(tmp_path / "a.zip", members).read_bytes(),
        npz(tmp_path / "a.npz", images=IMAGES, labels=LABELS).read_bytes(),
    ]
    path = tmp_path / "damaged"
    outcomes = set()
    for number in range(150):
        content = bytearray(sources[number % 2])
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            load_images(path)
            outcomes.add("read")
        except InvalidDataset:
            outcomes.add("refused")
    assert "refused" in outcomes
