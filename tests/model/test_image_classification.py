"""The image format: what is read back, and what is refused."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rafiki.model import InvalidDataset, load_images, query_images, write_images

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def encoded(pixels: np.ndarray = PIXELS, kind: str = "PNG", mode: str | None = None) -> bytes:
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, kind)
    return file.getvalue()


Members = Mapping[str, bytes | str]


def archive(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return path


def table(*rows: str) -> str:
    return "path,class\n" + "".join(f"{row}\n" for row in rows)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_as_they_were_written(channels: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, channels), np.uint8)
    write_images(tmp_path / "a.zip", images, [0, 3, 1, 1, 0])
    data = load_images(tmp_path / "a.zip")
    assert np.array_equal(data.images, images)
    assert data.images.dtype == np.uint8
    assert data.labels.tolist() == [0, 3, 1, 1, 0]
    assert data.labels.dtype == np.int32
    assert data.class_count == 4


def test_images_without_a_channel_axis_are_grey(tmp_path: Path) -> None:
    write_images(tmp_path / "a.zip", PIXELS[np.newaxis], np.array([2], np.uint8))
    assert load_images(tmp_path / "a.zip").images.shape == (1, 3, 4, 1)


def test_equal_data_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_images(tmp_path / name, PIXELS[np.newaxis], [0])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (PIXELS, [0]),
        (PIXELS[np.newaxis].astype(float), [0]),
        (np.zeros((1, 2, 2, 4), np.uint8), [0]),
        (np.zeros((0, 2, 2), np.uint8), []),
        (PIXELS[np.newaxis], [0, 1]),
        (PIXELS[np.newaxis], [-1]),
        (PIXELS[np.newaxis], [0.5]),
    ],
)
def test_other_arrays_are_not_written(
    images: np.ndarray, labels: list[int], tmp_path: Path
) -> None:
    with pytest.raises(InvalidDataset):
        write_images(tmp_path / "a.zip", images, labels)
    assert not (tmp_path / "a.zip").exists()


def test_grey_images_among_coloured_ones_get_three_channels(tmp_path: Path) -> None:
    members: Members = {
        "images.csv": table("grey.png,0", "red.png,1", "also grey.png,0"),
        "grey.png": encoded(),
        "red.png": encoded(np.full((3, 4, 3), (255, 0, 0), np.uint8)),
        "also grey.png": encoded(),
    }
    images = load_images(archive(tmp_path / "a.zip", members)).images
    assert images.shape == (3, 3, 4, 3)
    assert np.array_equal(images[0], np.repeat(PIXELS[..., np.newaxis], 3, axis=2))
    assert images[1, 0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(images[2], images[0])


@pytest.mark.parametrize(
    ("kind", "mode", "channels"),
    [
        ("PNG", "1", 1),
        ("PNG", "LA", 1),
        ("PNG", "P", 3),
        ("PNG", "RGBA", 3),
        ("JPEG", "L", 1),
        ("JPEG", "CMYK", 3),
        ("BMP", "RGB", 3),
        ("GIF", "RGB", 3),
        ("WEBP", "RGB", 3),
    ],
)
def test_common_formats_and_modes_are_read(
    kind: str, mode: str, channels: int, tmp_path: Path
) -> None:
    members: Members = {"images.csv": table("i,0"), "i": encoded(kind=kind, mode=mode)}
    assert load_images(archive(tmp_path / "a.zip", members)).images.shape == (1, 3, 4, channels)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffpath,class\ni.png,1\n",
        "class,path\n1,i.png\n",
        "path,class,note\ni.png,1,fine\n",
        "path,class\r\ni.png, 1\r\n\r\n",
        'path,class\n"i.png","1"\n',
    ],
)
def test_tables_of_other_programs_are_read(text: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"images.csv": text, "i.png": encoded()})
    assert load_images(path).labels.tolist() == [1]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def image16() -> bytes:
    return encoded(np.full((3, 4), 40000, np.uint16))


REFUSED: dict[str, tuple[Members, str]] = {
    "no table": ({"i.png": encoded()}, r"a\.zip has no images\.csv"),
    "table in a folder": ({"d/images.csv": table("i.png,0")}, r"no images\.csv at its top"),
    "no columns": ({"images.csv": "file,label\ni.png,0\n"}, "line 1: the columns path and class"),
    "empty table": ({"images.csv": ""}, "line 1: the columns path and class"),
    "no rows": ({"images.csv": table()}, "lists no images"),
    "not UTF-8": ({"images.csv": b"path,class\n\xff,0\n"}, "is not UTF-8"),
    "endless field": ({"images.csv": table("i" * 200_000 + ",0")}, "line 2: field larger"),
    "missing image": (
        {"images.csv": table("i.png,0", "j.png,0"), "i.png": encoded()},
        r"images\.csv line 3: 'j\.png' is not in the archive",
    ),
    "short row": ({"images.csv": table("i.png"), "i.png": encoded()}, "line 2: class ''"),
    "class as text": (
        {"images.csv": table("i.png,cat"), "i.png": encoded()},
        r"a\.zip: images\.csv line 2: class 'cat' is no integer",
    ),
    "negative class": ({"images.csv": table("i.png,-1"), "i.png": encoded()}, "line 2: class '-1'"),
    "class as float": ({"images.csv": table("i.png,1.0"), "i.png": encoded()}, "class '1.0'"),
    "enormous class": ({"images.csv": table("i.png,100000"), "i.png": encoded()}, "no integer in"),
    "class in other digits": ({"images.csv": table("i.png,²"), "i.png": encoded()}, "class '²'"),
    "no image": (
        {"images.csv": table("i.png,0"), "i.png": b"hello"},
        r"'i\.png' \(images\.csv line 2\) is no readable image",
    ),
    "truncated image": (
        {"images.csv": table("i.png,0"), "i.png": encoded(np.zeros((50, 50), np.uint8))[:60]},
        "is no readable image",
    ),
    "empty image": ({"images.csv": table("i.png,0"), "i.png": b""}, "is no readable image"),
    "a folder as image": ({"images.csv": table("d/,0"), "d/": b""}, "is no readable image"),
    "other format": (
        {"images.csv": table("i.ppm,0"), "i.ppm": b"P5 1 1 255 a"},
        "is no readable image",
    ),
    "sizes differ": (
        {"images.csv": table("i.png,0", "j.png,0"), "i.png": encoded(), "j.png": encoded(PIXELS.T)},
        r"'j\.png' \(images\.csv line 3\) is 3x4, the images before it 4x3",
    ),
    "16 bits": ({"images.csv": table("i.png,0"), "i.png": image16()}, "more than 8 bits"),
    "traversal in the table": (
        {"images.csv": table("../i.png,0"), "i.png": encoded()},
        r"images\.csv line 2: '\.\./i\.png' leads out of the archive",
    ),
    "absolute path in the table": (
        {"images.csv": table("/etc/passwd,0")},
        "'/etc/passwd' leads out of the archive",
    ),
    "traversal in the archive": (
        {"images.csv": table("../../i.png,0"), "../../i.png": encoded()},
        r"a\.zip: '\.\./\.\./i\.png' leads out",
    ),
    "absolute path in the archive": (
        {"images.csv": table("/i.png,0"), "/i.png": encoded()},
        "leads out",
    ),
    "Windows path in the archive": ({"c:\\i.png": encoded()}, "leads out"),
    "image that claims to be huge": (
        {"images.csv": table("i.png,0"), "i.png": png_header(9000, 9000)},
        "more than 67108864 pixels",
    ),
    "image that claims to be enormous": (
        {"images.csv": table("i.png,0"), "i.png": png_header(2**31 - 1, 2**31 - 1)},
        "is no readable image",
    ),
    "many images that claim to be large": (
        {"images.csv": table(*["i.png,0"] * 40), "i.png": png_header(8000, 8000)},
        "40 images of 8000x8000 take more than 4 GiB",
    ),
    "one file that unpacks to much": (
        {"images.csv": table("i.png,0"), "i.png": bytes(65 * 2**20)},
        r"'i\.png' is over 64 MiB",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_data_set_is_refused(case: str, tmp_path: Path) -> None:
    members, rule = REFUSED[case]
    path = archive(tmp_path / "a.zip", members)
    with pytest.raises(InvalidDataset, match=rule):
        load_images(path)


def test_what_is_no_zip_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"path,class\n")
    with pytest.raises(InvalidDataset, match=r"a\.zip is not a zip archive"):
        load_images(path)


def test_a_file_that_is_not_there_is_no_malformed_data_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_images(tmp_path / "a.zip")


def test_a_total_that_lies_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    members: Members = {"images.csv": table("0,0"), **{str(n): "x" for n in range(70)}}
    path = archive(tmp_path / "a.zip", members)
    # The central directory claims 63 MiB each.
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    claimed = data[start:].replace(struct.pack("<II", 1, 1), struct.pack("<II", 1, 63 * 2**20))
    path.write_bytes(data[:start] + claimed)
    with pytest.raises(InvalidDataset, match="more than 4 GiB unpacked"):
        load_images(path)


def damage_data(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 6
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def encrypt_flag(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02") + 8
    return data[:at] + b"\x01" + data[at + 1 :]


@pytest.mark.parametrize("damage", [damage_data, encrypt_flag])
def test_a_damaged_archive_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_images(path, PIXELS[np.newaxis], [0])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidDataset, match="is damaged"):
        load_images(path)


@pytest.mark.parametrize("method", [b"\x0c", b"\x0e", b"\x63"], ids=["bzip2", "lzma", "unknown"])
def test_only_deflated_archives_are_read(method: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_images(path, PIXELS[np.newaxis], [0])
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02") + 10
    path.write_bytes(data[:at] + method + data[at + 1 :])
    with pytest.raises(InvalidDataset, match="is not packed by deflate"):
        load_images(path)


def test_loading_leaves_nothing_on_disk(tmp_path: Path) -> None:
    write_images(tmp_path / "a.zip", PIXELS[np.newaxis], [0])
    load_images(tmp_path / "a.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "query", [PIXELS, PIXELS.tolist(), PIXELS[..., None], PIXELS.astype(float)]
)
def test_a_query_is_an_array_or_nested_lists(query: object) -> None:
    images = query_images([query, query])
    assert images.shape == (2, 3, 4, 1)
    assert images.dtype == np.uint8
    assert np.array_equal(images[1, ..., 0], PIXELS)


@pytest.mark.parametrize(
    ("queries", "rule"),
    [
        ([], "no queries"),
        ([[1, 2]], "query 0 is no image"),
        ([[["a"]]], "query 0 is no image"),
        ([None], "query 0 is no image"),
        ([[[1, 2], [3]]], "query 0 is ragged"),
        ([[[0]], [[256]]], "query 1 has values outside"),
        ([[[-1]]], "query 0 has values outside"),
        ([[[float("nan")]]], "query 0 has values outside"),
        ([[[1]], [[1, 2]]], "query 1 is"),
    ],
)
def test_other_queries_are_refused(queries: list[object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        query_images(queries)
