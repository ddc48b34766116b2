"""Zip bombs: refused by whoever looks into an archive, before they take memory."""

import bz2
import gzip
import io
import lzma
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.hostile.process import ServerProcess
from tests.hostile.world import TIMEOUT_S, World
from tests.server.live import code, message, reason

from rafiki.resources import Model
from rafiki.v1 import models_pb2, models_pb2_grpc
from rafiki.wire.blobs import chunks, digest_of
from rafiki.wire.jobs import model_to_proto

# What a bomb unpacks to, and what may be taken for it.
BOMB_BYTES = 1 << 29
TAKEN_MIB = 64.0
_ZEROS = bytes(1 << 20)

# Run with a limit on memory: numpy takes about a hundred MiB.
_LOAD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from rafiki.model import InvalidDataset, load_images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_images(sys.argv[1])
except InvalidDataset as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def stream(compressor: object, size_bytes: int) -> bytes:
    """So many zeros, packed."""
    assert isinstance(compressor, bz2.BZ2Compressor | lzma.LZMACompressor)
    parts = [compressor.compress(_ZEROS) for _ in range(size_bytes >> 20)]
    return b"".join([*parts, compressor.flush()])


def lying_archive(name: str, data: bytes, method: int, claimed_bytes: int) -> bytes:
    """An archive of one file whose packed bytes are `data`, which claims to be smaller."""
    encoded = name.encode()
    fields = (20, 0, method, 0, 33, 0, len(data), claimed_bytes, len(encoded), 0)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", *fields) + encoded
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *fields, 0, 0, 0, 0, 0) + encoded
    size, offset = len(central), len(local) + len(data)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, size, offset, 0)
    return local + data + central + end


def bzip2_bomb(name: str) -> bytes:
    return lying_archive(name, stream(bz2.BZ2Compressor(), BOMB_BYTES), zipfile.ZIP_BZIP2, 1000)


def lzma_bomb(name: str) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA1}]
    packed = stream(lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters), BOMB_BYTES)
    # The header that zip wants before: a version, and the properties of the filter.
    header = b"\x09\x04\x05\x00" + b"\x5d" + struct.pack("<I", 1 << 23)
    return lying_archive(name, header + packed, zipfile.ZIP_LZMA, 1000)


def deflate_bomb(name: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        with writer.open(name, "w") as file:
            for _ in range(BOMB_BYTES >> 20):
                file.write(_ZEROS)
    return archive.getvalue()


def crowded(name: str) -> bytes:
    """A third of a million files without a byte."""
    one = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *(20, 0, 0, 0, 33, 0, 0, 0, 1, 0), *([0] * 5))
    count, directory = 330_000, (one + b"a") * 330_000
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count % 65536, 0, len(directory), 0, 0)
    return directory + end


Bomb = Callable[[str], bytes]
BOMBS: list[Bomb] = [bzip2_bomb, lzma_bomb, deflate_bomb, crowded]


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_server_rejects_a_source_that_is_a_bomb(
    server: ServerProcess, world: World, bomb: Bomb
) -> None:
    source = bomb("template.py")
    assert len(source) < 16 << 20
    model = Model(
        display_name="bomb",
        task="TEST",
        model_class="template:Template",
        source=digest_of(source),
        knob_config={},
    )
    metadata = models_pb2.CreateModelMetadata(model=model_to_proto(model))
    requests = [
        models_pb2.CreateModelRequest(metadata=metadata),
        *(models_pb2.CreateModelRequest(chunk=bytes(chunk)) for chunk in chunks(source)),
    ]
    before_mib = server.peak_mib()
    stub = models_pb2_grpc.ModelServiceStub(server.channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateModel(iter(requests), timeout=TIMEOUT_S)
    assert code(caught.value) is grpc.StatusCode.INVALID_ARGUMENT, message(caught.value)
    assert reason(caught.value) == "MODEL_REJECTED", message(caught.value)
    assert server.peak_mib() - before_mib < TAKEN_MIB
    server.assert_unharmed()


def npz_bomb(path: Path) -> None:
    """Images that are what they say, and nothing but zeros."""
    header = io.BytesIO()
    shape = (BOMB_BYTES >> 12, 64, 64)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    labels = io.BytesIO()
    np.save(labels, np.zeros(shape[0], np.uint8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("labels.npy", labels.getvalue())
        with writer.open("images.npy", "w") as file:
            file.write(header.getvalue())
            for _ in range(BOMB_BYTES >> 20):
                file.write(_ZEROS)


def idx_bomb(path: Path) -> None:
    """The same in the form of MNIST, packed twice."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="w", compresslevel=1) as file:
        file.write(b"\0\0\x08\x03" + struct.pack(">3I", BOMB_BYTES >> 12, 64, 64))
        for _ in range(BOMB_BYTES >> 20):
            file.write(_ZEROS)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("images.gz", packed.getvalue())
        writer.writestr("labels", b"\0\0\x08\x01" + struct.pack(">I", BOMB_BYTES >> 12) + b"\0")


def table_bomb(path: Path) -> None:
    """One picture, named a hundred thousand times."""
    from PIL import Image

    picture = io.BytesIO()
    Image.new("L", (100, 100)).save(picture, "PNG")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("a.png", picture.getvalue())
        writer.writestr("images.csv", "path,class\n" + "a.png,0\n" * 100_000)


def bzip2_table(path: Path) -> None:
    path.write_bytes(bzip2_bomb("images.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("bomb", [npz_bomb, idx_bomb, table_bomb, bzip2_table])
def test_a_data_set_that_is_a_bomb_is_refused_in_little_memory(
    bomb: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "bomb.zip"
    bomb(path)
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    refusal, taken_mib = done.stdout.rsplit("\n", 2)[:2]
    assert "zip bomb" in refusal or "is not packed by deflate" in refusal, refusal
    assert int(taken_mib) < 320  # 256 MiB are unpacked before it is sure
