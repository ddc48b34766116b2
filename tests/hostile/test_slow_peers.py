"""Peers that hold what they have, and do nothing with it, while others work."""

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random

import grpc
import pytest
from tests.e2e.processes import wait_until
from tests.hostile.cases import SEED
from tests.hostile.process import ServerProcess, bystander
from tests.hostile.world import TIMEOUT_S, World, opening
from tests.server.live import FakeWorker

from rafiki.v1 import (
    advisor_pb2,
    advisor_pb2_grpc,
    datasets_pb2,
    datasets_pb2_grpc,
    params_pb2,
    params_pb2_grpc,
)
from rafiki.wire.blobs import digest_of
from rafiki.wire.params import digest_to_proto

SESSIONS = 1000
UPLOADS = 200
SOCKETS = 500
TRIALS = 200
# An idle session may cost this much memory, with the connection it shares with others.
SESSION_KIB = 200.0

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    """Lets this process, and the server that it starts, open as many files as they may."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


@contextmanager
def channels(server: ServerProcess, count: int) -> Iterator[list[grpc.Channel]]:
    """Connections, each of its own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(count)
        ]


def work(server: ServerProcess, world: World, worker_id: str) -> None:
    """What an honest worker does, some trials long."""
    worker = FakeWorker(server, worker_id=worker_id, studies=(world.study,))
    for _ in range(TRIALS):
        worker.complete(worker.assignment())
    worker.close()


@pytest.mark.slow
def test_a_thousand_idle_sessions_leave_others_to_work(server: ServerProcess, world: World) -> None:
    before_mib = server.rss_mib()
    over = threading.Event()

    def silent(number: int) -> Iterator[advisor_pb2.StreamTrialsRequest]:
        yield opening(f"idle-{number}")
        over.wait()

    with channels(server, 20) as connections, bystander(server, world.job):
        stubs = [advisor_pb2_grpc.AdvisorServiceStub(channel) for channel in connections]
        # grpc takes a thread for each of the iterators, which waits.
        calls = [stubs[n % 20].StreamTrials(silent(n)) for n in range(SESSIONS)]
        try:
            for call in calls:
                assert next(call).WhichOneof("event") == "opened"
            grown_kib = 1024 * (server.rss_mib() - before_mib) / SESSIONS
            print(f"{SESSIONS} idle sessions: {grown_kib:.0f} KiB each")
            assert server.open_calls("StreamTrials") >= SESSIONS
            work(server, world, "busy-beside-sessions")
        finally:
            over.set()
            for call in calls:
                call.cancel()
    assert grown_kib < SESSION_KIB
    server.assert_unharmed()


@pytest.mark.slow
def test_uploads_that_send_a_byte_and_stall_leave_others_to_upload(
    server: ServerProcess, world: World
) -> None:
    before_mib = server.rss_mib()
    over = threading.Event()
    header = params_pb2.Digest(sha256="0" * 64, size_bytes=1 << 40)

    def stalling() -> Iterator[params_pb2.UploadBlobsRequest]:
        yield params_pb2.UploadBlobsRequest(header=header)
        yield params_pb2.UploadBlobsRequest(chunk=b"x")
        over.wait()

    def mute() -> Iterator[datasets_pb2.CreateDatasetRequest]:
        over.wait()
        yield from ()

    # As many on each connection as one may have open; more are refused at once.
    with channels(server, UPLOADS // 8) as connections, bystander(server, world.job):
        uploads = [
            params_pb2_grpc.ParameterServiceStub(channel).UploadBlobs.future(stalling())
            for channel in connections
            for _ in range(4)
        ]
        creations = [
            datasets_pb2_grpc.DatasetServiceStub(channel).CreateDataset.future(mute())
            for channel in connections
            for _ in range(4)
        ]
        try:
            wait_until(lambda: server.open_calls("UploadBlobs") >= UPLOADS // 2, "all upload")
            for number in range(TRIALS):
                upload(server, f"content {number}".encode())
            grown_mib = server.rss_mib() - before_mib
            print(f"{len(uploads) + len(creations)} stalled uploads: {grown_mib:.0f} MiB")
        finally:
            over.set()
            for upload_call in uploads:
                upload_call.cancel()
            for creation in creations:
                creation.cancel()
    assert grown_mib < 64
    server.assert_unharmed()


def upload(server: ServerProcess, data: bytes) -> None:
    """Stores a blob, on a connection that has no other streams."""
    header = params_pb2.UploadBlobsRequest(header=digest_to_proto(digest_of(data)))
    chunk = params_pb2.UploadBlobsRequest(chunk=data)
    response = server.parameters.UploadBlobs(iter([header, chunk]), timeout=TIMEOUT_S)
    assert response.committed_bytes == len(data)


def garbage(random: Random) -> bytes:
    """What comes at a port: other protocols, and HTTP/2 that goes wrong."""
    kinds = (
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(32),
        random.randbytes(random.choice((1, 9, 4096))),
        _PREFACE[: random.randrange(len(_PREFACE))],
        _PREFACE,
        _PREFACE + _SETTINGS,
        # Frames of a length, a kind and flags at random, and what they hold is missing.
        _PREFACE + _SETTINGS + random.randbytes(9),
        # Headers that are none, on a stream of an even number.
        _PREFACE + _SETTINGS + b"\0\0\x04\x01\x04\0\0\0\x02" + random.randbytes(4),
        # A stream opened, whose headers never end.
        _PREFACE + _SETTINGS + b"\0\0\x01\x01\0\0\0\0\x01\x82",
        # Settings of no sense; a window of nothing, opened by zero.
        _PREFACE + b"\0\0\x06\x04\0\0\0\0\0\0\x04\xff\xff\xff\xff",
        _PREFACE + _SETTINGS + b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0",
        # Pings and resets without end.
        _PREFACE + _SETTINGS + b"\0\0\x08\x06\0\0\0\0\0abcdefgh" * 500,
        _PREFACE + _SETTINGS + b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08" * 500,
    )
    return random.choice(kinds)


@pytest.mark.slow
def test_garbage_and_half_open_connections_leave_others_to_work(
    server: ServerProcess, world: World
) -> None:
    random = Random(SEED)
    before_mib = server.rss_mib()
    with ExitStack() as stack, bystander(server, world.job):
        for _ in range(SOCKETS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            try:
                connection.sendall(garbage(random))
            except (BrokenPipeError, ConnectionResetError):
                pass  # It has hung up, as it should.
        work(server, world, "busy-beside-garbage")
        print(f"{SOCKETS} connections: {server.rss_mib() - before_mib:.0f} MiB")
        assert server.rss_mib() - before_mib < 64
    server.assert_unharmed()


def test_a_connection_has_no_more_than_eight_byte_streams(server: ServerProcess) -> None:
    over = threading.Event()

    def mute() -> Iterator[params_pb2.UploadBlobsRequest]:
        over.wait()
        yield from ()

    with channels(server, 1) as [channel]:
        stub = params_pb2_grpc.ParameterServiceStub(channel)
        ended = threading.Event()
        calls = [stub.UploadBlobs.future(mute()) for _ in range(9)]
        for call in calls:
            call.add_done_callback(lambda _: ended.set())
        assert ended.wait(TIMEOUT_S)
        refused = [call for call in calls if call.done()]
        over.set()
        assert [call.code() for call in refused] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        for call in calls:
            call.cancel()
