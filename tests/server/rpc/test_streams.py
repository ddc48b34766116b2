"""Streams that break, stall or come in crowds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import pytest

from rafiki.resources import Digest
from rafiki.server.domain.clock import Clock
from rafiki.server.rpc.parameters import ParameterServicer
from rafiki.server.rpc.streams import Streams
from rafiki.server.service.checkpoints import CheckpointService
from rafiki.server.service.collection import Collector
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.v1 import params_pb2 as messages
from rafiki.v1.params_pb2_grpc import ParameterServiceStub
from rafiki.wire.blobs import CHUNK_BYTES, Frame, digest_of, upload_requests
from rafiki.wire.params import digest_to_proto

Register = Callable[[grpc.aio.Server], None]
Served = Callable[[Register], AbstractContextManager[grpc.Channel]]

TIMEOUT_S = 20


@pytest.fixture(scope="module")
def dialect() -> str:
    """What these tests ask of the database, other modules ask it on every kind."""
    return "sqlite"


@pytest.fixture
def stub(
    database: Database,
    blobs: FileBlobs,
    collector: Collector,
    clock: Clock,
    served: Served,
) -> Iterator[ParameterServiceStub]:
    streams = Streams(threads=1, idle_timeout_s=TIMEOUT_S, max_per_peer=3)

    def register(server: grpc.aio.Server) -> None:
        checkpoints = CheckpointService(database, blobs, clock)
        servicer = ParameterServicer(checkpoints, collector, blobs, streams)
        servicer.add_to(server)

    with served(register) as channel:
        yield ParameterServiceStub(channel)
    streams.close()


class Stalled:
    """An upload that sends some frames, then nothing until it is let go."""

    def __init__(self, stub: ParameterServiceStub, *frames: Frame) -> None:
        self._frames = frames
        self._let_go = threading.Event()
        self.sent = threading.Event()
        self.call = stub.UploadBlobs.future(self._requests(), timeout=TIMEOUT_S)

    def let_go(self) -> None:
        self._let_go.set()

    def _requests(self) -> Iterator[messages.UploadBlobsRequest]:
        yield from upload_requests(iter(self._frames))
        self.sent.set()
        self._let_go.wait(TIMEOUT_S)


def missing(stub: ParameterServiceStub, digest: Digest) -> bool:
    request = messages.FindMissingBlobsRequest(digests=[digest_to_proto(digest)])
    return bool(stub.FindMissingBlobs(request, timeout=TIMEOUT_S).missing_digests)


def eventually(condition: Callable[[], bool]) -> bool:
    waiting = threading.Event()
    return any(condition() or waiting.wait(0.02) for _ in range(500))


def test_stalled_uploads_hold_up_no_unary_call(stub: ParameterServiceStub) -> None:
    digest = digest_of(b"whole")
    stalled = [Stalled(stub, digest) for _ in range(3)]
    for upload in stalled:
        assert upload.sent.wait(TIMEOUT_S)
    assert missing(stub, digest)
    for upload in stalled:
        upload.call.cancel()
        upload.let_go()


def test_a_peer_may_have_so_many_streams_open(stub: ParameterServiceStub) -> None:
    digest = digest_of(b"whole")
    stalled = [Stalled(stub, digest) for _ in range(3)]
    for upload in stalled:
        assert upload.sent.wait(TIMEOUT_S)

    def is_refused() -> bool:
        one_more = stub.UploadBlobs.future(iter(()), timeout=TIMEOUT_S)
        return one_more.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    assert eventually(is_refused)
    for upload in stalled:
        upload.call.cancel()
        upload.let_go()
    assert eventually(lambda: not is_refused())


def test_what_came_whole_before_a_break_is_stored_and_the_rest_removed(
    stub: ParameterServiceStub, tmp_path: Path
) -> None:
    chunk = bytes(CHUNK_BYTES)
    whole, broken = digest_of(chunk), Digest("0" * 64, 2 * CHUNK_BYTES)
    incoming = tmp_path / "blobs" / "incoming"
    upload = Stalled(stub, whole, chunk, broken, chunk)
    assert eventually(lambda: len(list(incoming.iterdir())) == 2)
    assert missing(stub, whole)
    upload.call.cancel()
    upload.let_go()
    assert eventually(lambda: not missing(stub, whole))
    assert eventually(lambda: list(incoming.iterdir()) == [])
    assert missing(stub, broken)
