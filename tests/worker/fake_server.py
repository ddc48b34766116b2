"""A server of the worker's two services that does what a test says, over real gRPC."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from rafiki.v1 import advisor_pb2, advisor_pb2_grpc, params_pb2, params_pb2_grpc
from rafiki.v1.errors_pb2 import ErrorReason
from rafiki.wire.times import duration_to_proto, timestamp_to_proto

HEARTBEAT = timedelta(seconds=0.2)
WAIT_S = 20.0

_Responses = queue.SimpleQueue[advisor_pb2.StreamTrialsResponse | None]


class FakeSession:
    """One stream: what came on it, and what to send on it."""

    def __init__(self, opened: advisor_pb2.OpenSession, context: grpc.ServicerContext) -> None:
        self.open = opened
        self.context = context
        self.responses: _Responses = queue.SimpleQueue()
        self.heartbeats: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self.closed = threading.Event()
        self.ended = threading.Event()

    def send(self, response: advisor_pb2.StreamTrialsResponse) -> None:
        self.responses.put(response)

    def break_off(self) -> None:
        """Ends the stream without a word, as a lost connection does."""
        self.context.cancel()
        self.responses.put(None)


class FakeServer(advisor_pb2_grpc.AdvisorServiceServicer, params_pb2_grpc.ParameterServiceServicer):
    """Keeps what it is told. `sessions` and `outcomes` are to be waited on."""

    def __init__(self, port: int = 0) -> None:
        self.sessions: queue.Queue[FakeSession] = queue.Queue()
        self.outcomes: queue.Queue[advisor_pb2.CompleteTrialRequest] = queue.Queue()
        self.reports: list[advisor_pb2.ReportTrialRequest] = []
        self.blobs: dict[str, bytes] = {}
        self.uploaded: list[str] = []
        self.downloaded: list[str] = []
        self.checkpoints: dict[str, params_pb2.Checkpoint] = {}
        self.lost: set[str] = set()
        self.interval = duration_to_proto(HEARTBEAT)
        # Called before a unary call is answered; may abort it.
        self.before: Callable[[str, grpc.ServicerContext], None] = lambda method, context: None
        # The streams of live workers each take a thread.
        self._server = grpc.server(ThreadPoolExecutor(16))
        advisor_pb2_grpc.add_AdvisorServiceServicer_to_server(self, self._server)
        params_pb2_grpc.add_ParameterServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def session(self) -> FakeSession:
        """The next session that a worker opens."""
        return self.sessions.get(timeout=WAIT_S)

    def outcome(self) -> advisor_pb2.CompleteTrialRequest:
        """The next outcome that a worker reports."""
        return self.outcomes.get(timeout=WAIT_S)

    def add_blob(self, data: bytes) -> params_pb2.Digest:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs[sha256] = data
        return params_pb2.Digest(sha256=sha256, size_bytes=len(data))

    def StreamTrials(
        self,
        request_iterator: Iterator[advisor_pb2.StreamTrialsRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[advisor_pb2.StreamTrialsResponse]:
        first = next(request_iterator)
        self.before("StreamTrials", context)
        session = FakeSession(first.open, context)
        session.send(
            advisor_pb2.StreamTrialsResponse(
                opened=advisor_pb2.SessionOpened(
                    server_version="fake",
                    heartbeat_interval=self.interval,
                    lease_duration=duration_to_proto(4 * HEARTBEAT),
                    chunk_bytes=1 << 20,
                    leases=self._renewed(first.open.lease_tokens),
                )
            )
        )
        threading.Thread(target=self._read, args=(request_iterator, session)).start()
        self.sessions.put(session)
        while (response := session.responses.get()) is not None:
            yield response

    def ReportTrial(
        self, request: advisor_pb2.ReportTrialRequest, context: grpc.ServicerContext
    ) -> advisor_pb2.ReportTrialResponse:
        self.before("ReportTrial", context)
        self.reports.append(request)
        return advisor_pb2.ReportTrialResponse()

    def CompleteTrial(
        self, request: advisor_pb2.CompleteTrialRequest, context: grpc.ServicerContext
    ) -> advisor_pb2.CompleteTrialResponse:
        self.before("CompleteTrial", context)
        self.outcomes.put(request)
        return advisor_pb2.CompleteTrialResponse()

    def FindMissingBlobs(
        self, request: params_pb2.FindMissingBlobsRequest, context: grpc.ServicerContext
    ) -> params_pb2.FindMissingBlobsResponse:
        missing = [digest for digest in request.digests if digest.sha256 not in self.blobs]
        return params_pb2.FindMissingBlobsResponse(missing_digests=missing)

    def UploadBlobs(
        self,
        request_iterator: Iterator[params_pb2.UploadBlobsRequest],
        context: grpc.ServicerContext,
    ) -> params_pb2.UploadBlobsResponse:
        self.before("UploadBlobs", context)
        data: dict[str, bytes] = {}
        sha256 = ""
        for request in request_iterator:
            if request.HasField("header"):
                sha256 = request.header.sha256
                data[sha256] = b""
                self.uploaded.append(sha256)
            else:
                data[sha256] += request.chunk
        for name, content in data.items():
            assert hashlib.sha256(content).hexdigest() == name
        self.blobs |= data
        return params_pb2.UploadBlobsResponse(committed_bytes=sum(map(len, data.values())))

    def CollectGarbage(
        self, request: params_pb2.CollectGarbageRequest, context: grpc.ServicerContext
    ) -> params_pb2.CollectGarbageResponse:
        return params_pb2.CollectGarbageResponse()

    def DownloadBlobs(
        self, request: params_pb2.DownloadBlobsRequest, context: grpc.ServicerContext
    ) -> Iterator[params_pb2.DownloadBlobsResponse]:
        self.before("DownloadBlobs", context)
        for digest in request.digests:
            if digest.sha256 not in self.blobs:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        for digest in request.digests:
            self.downloaded.append(digest.sha256)
            yield params_pb2.DownloadBlobsResponse(header=digest)
            data = self.blobs[digest.sha256]
            for start in range(0, len(data), 1 << 20):
                yield params_pb2.DownloadBlobsResponse(chunk=data[start : start + (1 << 20)])

    def CreateCheckpoint(
        self, request: params_pb2.CreateCheckpointRequest, context: grpc.ServicerContext
    ) -> params_pb2.CreateCheckpointResponse:
        self.before("CreateCheckpoint", context)
        checkpoint = params_pb2.Checkpoint()
        checkpoint.CopyFrom(request.checkpoint)
        checkpoint.name = f"{request.parent}/checkpoints/{request.lease_token}"
        self.checkpoints[checkpoint.name] = checkpoint
        return params_pb2.CreateCheckpointResponse(checkpoint=checkpoint)

    def GetCheckpoint(
        self, request: params_pb2.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> params_pb2.GetCheckpointResponse:
        if request.name not in self.checkpoints:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such checkpoint")
        return params_pb2.GetCheckpointResponse(checkpoint=self.checkpoints[request.name])

    def _read(
        self, requests: Iterator[advisor_pb2.StreamTrialsRequest], session: FakeSession
    ) -> None:
        try:
            for request in requests:
                match request.WhichOneof("event"):
                    case "heartbeat":
                        tokens = list(request.heartbeat.lease_tokens)
                        session.heartbeats.put(tokens)
                        session.send(
                            advisor_pb2.StreamTrialsResponse(renewed=self._renewed(tokens))
                        )
                    case "close":
                        session.closed.set()
        except grpc.RpcError:
            pass
        session.ended.set()
        session.responses.put(None)

    def ListCheckpoints(
        self, request: params_pb2.ListCheckpointsRequest, context: grpc.ServicerContext
    ) -> params_pb2.ListCheckpointsResponse:
        raise NotImplementedError

    def _renewed(self, tokens: Iterable[str]) -> advisor_pb2.LeasesRenewed:
        names = list(tokens)
        expire_time = timestamp_to_proto(datetime.now(UTC) + 4 * HEARTBEAT)
        return advisor_pb2.LeasesRenewed(
            leases=[
                advisor_pb2.Lease(token=token, expire_time=expire_time)
                for token in names
                if token not in self.lost
            ],
            lost_lease_tokens=[token for token in names if token in self.lost],
        )


def abort(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str) -> None:
    """Ends a call with an error of the API, named as the server names it."""
    ErrorReason.Value(f"ERROR_REASON_{reason}")  # raises for what is no reason of the API
    info = error_details_pb2.ErrorInfo(reason=f"ERROR_REASON_{reason}", domain="rafiki")
    detail = AnyMessage()
    detail.Pack(info)
    status = status_pb2.Status(
        code=code_pb2.Code.Value(code.name), message=reason.lower(), details=[detail]
    )
    context.abort_with_status(rpc_status.to_status(status))
