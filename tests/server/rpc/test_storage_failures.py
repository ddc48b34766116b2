"""Storage that is damaged, full or read-only: the caller learns it, nothing else is affected."""

import errno
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.server.conftest import AddTrial, Served
from tests.server.live import code, message, reason

from rafiki.resources import Digest
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.names import StudyName
from rafiki.server.rpc.parameters import ParameterServicer
from rafiki.server.rpc.streams import Streams
from rafiki.server.service.checkpoints import CheckpointService
from rafiki.server.service.collection import Collector
from rafiki.server.store.blobs import FileBlobs, FileStaging
from rafiki.server.store.database import Database
from rafiki.v1 import params_pb2 as messages
from rafiki.v1.params_pb2_grpc import ParameterServiceStub
from rafiki.wire.blobs import Buffer, digest_of, encode_params, frames, read_blobs
from rafiki.wire.frame_calls import download_call, frame_of, upload_call
from rafiki.wire.params import digest_to_proto, tensor_to_proto

TIMEOUT_S = 20
FILE_LIMIT = 4 << 20


class FailingFiles(FileBlobs):
    """Fails with `errors` in turn, one per upload."""

    errors: list[int]

    def stage(self) -> FileStaging:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, "secret path")
        return super().stage()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FailingFiles]:
    files = FailingFiles(tmp_path / "blobs")
    files.errors = []
    yield files
    files.close()


@pytest.fixture
def channel(
    database: Database, files: FailingFiles, collector: Collector, clock: Clock, served: Served
) -> Iterator[grpc.Channel]:
    streams = Streams(threads=2)

    def register(server: grpc.aio.Server) -> None:
        checkpoints = CheckpointService(database, files, clock)
        ParameterServicer(checkpoints, collector, files, streams).add_to(server)

    with served(register) as channel:
        yield channel
    streams.close()


def upload(channel: grpc.Channel, *contents: Buffer) -> int:
    parts = frames((digest_of(data), data) for data in contents)
    return upload_call(channel)(parts, timeout=TIMEOUT_S).committed_bytes


def download(channel: grpc.Channel, *digests: Digest) -> list[bytes]:
    request = messages.DownloadBlobsRequest(digests=map(digest_to_proto, digests))
    parts = map(frame_of, download_call(channel)(request, timeout=TIMEOUT_S))
    return [bytes(data) for _, data in read_blobs(parts, digests)]


def file_of(folder: Path, digest: Digest) -> Path:
    return folder / "blobs" / digest.sha256[:2] / digest.sha256


def test_a_flipped_bit_is_data_loss_for_this_blob_and_healed_by_uploading_it_again(
    channel: grpc.Channel, tmp_path: Path
) -> None:
    good, other = b"good" * 1000, b"other"
    upload(channel, good, other)
    path = file_of(tmp_path, digest_of(good))
    damaged = bytearray(path.read_bytes())
    damaged[1234] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(grpc.RpcError) as caught:
        download(channel, digest_of(good))
    assert (code(caught.value), reason(caught.value)) == (
        grpc.StatusCode.DATA_LOSS,
        "BLOB_CORRUPT",
    )
    assert download(channel, digest_of(other)) == [other]
    upload(channel, good)
    assert download(channel, digest_of(good)) == [good]


def test_a_blob_whose_file_is_lost_is_missing_and_healed_by_uploading_it_again(
    channel: grpc.Channel, tmp_path: Path, study: StudyName, add_trial: AddTrial
) -> None:
    add_trial(1, "lease-1")
    tensors, blobs = encode_params({"w": np.ones(3)})
    upload(channel, *blobs.values())
    stub = ParameterServiceStub(channel)
    request = messages.CreateCheckpointRequest(
        parent=str(study),
        checkpoint=messages.Checkpoint(tensors=map(tensor_to_proto, tensors)),
        lease_token="lease-1",
    )
    stub.CreateCheckpoint(request, timeout=TIMEOUT_S)
    digest = tensors[0].digest
    file_of(tmp_path, digest).unlink()
    with pytest.raises(grpc.RpcError) as caught:
        download(channel, digest)
    assert code(caught.value) is grpc.StatusCode.NOT_FOUND
    upload(channel, *blobs.values())
    assert download(channel, digest) == [bytes(blobs[digest.sha256])]


@pytest.mark.parametrize(
    ("number", "expected", "name"),
    [
        (errno.EROFS, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE"),
        (errno.EACCES, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE"),
        (errno.EIO, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE"),
        (errno.ENOSPC, grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL"),
        (errno.EDQUOT, grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL"),
    ],
)
def test_a_folder_that_cannot_be_written_refuses_uploads_and_serves_what_it_has(
    channel: grpc.Channel, files: FailingFiles, number: int, expected: grpc.StatusCode, name: str
) -> None:
    upload(channel, b"here")
    files.errors = [number]
    with pytest.raises(grpc.RpcError) as caught:
        upload(channel, b"new")
    assert (code(caught.value), reason(caught.value)) == (expected, name)
    assert "secret" not in message(caught.value)
    assert download(channel, digest_of(b"here")) == [b"here"]
    upload(channel, b"new")


@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_blob_comes_in_costs_this_blob_only(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from rafiki.server.__main__ import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({FILE_LIMIT}, {FILE_LIMIT})); "
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "--data-dir", str(tmp_path)]
    command += ["--listen", "127.0.0.1:0", "--log-level", "ERROR"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert address is not None
        with grpc.insecure_channel(address.group()) as channel:
            before = bytes(1000)
            with pytest.raises(grpc.RpcError) as caught:
                upload(channel, before, bytes(FILE_LIMIT + 1))
            assert code(caught.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason(caught.value) == "STORAGE_FULL"
            assert download(channel, digest_of(before)) == [before]
            upload(channel, b"small")
            assert list((tmp_path / "blobs" / "incoming").iterdir()) == []
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
