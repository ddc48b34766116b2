"""Watching through a real channel to a server that breaks connections when told to."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from rafiki.client import Client, RafikiError, ResourceNotFound
from rafiki.resources import TrainJob
from rafiki.v1 import jobs_pb2, studies_pb2

JOB = "trainJobs/a1b2c3d4"


class Broken:
    """Each connection gets the next script: tokens to send, then how it ends."""

    def __init__(self, scripts: list[tuple[list[str], grpc.StatusCode, str]]) -> None:
        self.scripts = scripts
        self.resumed: list[str] = []

    def watch(
        self, request: jobs_pb2.WatchTrainJobRequest, context: grpc.ServicerContext
    ) -> Iterator[jobs_pb2.WatchTrainJobResponse]:
        self.resumed.append(request.resume_token)
        tokens, code, reason = self.scripts.pop(0)
        for token in tokens:
            job = jobs_pb2.TrainJob(
                name=JOB,
                app="digits",
                task="T",
                workers=int(token),
                state=jobs_pb2.TRAIN_JOB_STATE_RUNNING,
                studies=[studies_pb2.StudySpec(model="models/00000001")],
                budget=jobs_pb2.Budget(model_trial_count=1),
            )
            yield jobs_pb2.WatchTrainJobResponse(train_job=job, resume_token=token)
        if reason:
            detail = AnyMessage()
            detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="rafiki"))
            status = status_pb2.Status(code=code.value[0], message="no", details=[detail])
            trailer = ("grpc-status-details-bin", status.SerializeToString())
            context.set_trailing_metadata((trailer,))
        if code is not grpc.StatusCode.OK:
            context.abort(code, "no")


@contextmanager
def watching(server: Broken) -> Iterator[Client]:
    handler = grpc.unary_stream_rpc_method_handler(
        server.watch,
        request_deserializer=jobs_pb2.WatchTrainJobRequest.FromString,
        response_serializer=jobs_pb2.WatchTrainJobResponse.SerializeToString,
    )
    running = grpc.server(ThreadPoolExecutor(2))
    methods = {"WatchTrainJob": handler}
    running.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("rafiki.v1.JobService", methods),)
    )
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        with Client(f"127.0.0.1:{port}") as client:
            yield client
    finally:
        running.stop(None).wait()


def seen(client: Client) -> list[int]:
    events = client.watch_train_job(JOB)
    return [event.workers for event in events if isinstance(event, TrainJob)]


def test_a_broken_connection_is_resumed_after_the_last_event() -> None:
    lost, over = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK
    server = Broken([(["1", "2"], lost, ""), ([], lost, "SERVER_DRAINING"), (["3"], over, "")])
    with watching(server) as client:
        assert seen(client) == [1, 2, 3]
    assert server.resumed == ["", "2", "2"]


def test_an_expired_token_begins_anew() -> None:
    expired = grpc.StatusCode.OUT_OF_RANGE
    lost, over = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK
    server = Broken([(["1"], lost, ""), ([], expired, "RESUME_TOKEN_EXPIRED"), (["4"], over, "")])
    with watching(server) as client:
        assert seen(client) == [1, 4]
    assert server.resumed == ["", "1", ""]


def test_a_job_that_does_not_exist_ends_the_watch() -> None:
    server = Broken([([], grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")])
    with watching(server) as client, pytest.raises(ResourceNotFound):
        seen(client)


def test_a_server_that_stays_away_is_given_up() -> None:
    server = Broken([(["1"], grpc.StatusCode.UNAVAILABLE, "")] * 50)
    with watching(server) as client:
        events = client.watch_train_job(JOB, patience_s=0.0)
        next(events)
        with pytest.raises(RafikiError):
            for _ in events:
                server.scripts = [([], grpc.StatusCode.UNAVAILABLE, "")] * 50


def test_closing_the_client_ends_a_watch() -> None:
    server = Broken([(["1"], grpc.StatusCode.UNAVAILABLE, "")] * 50)
    with watching(server) as client:
        events = client.watch_train_job(JOB)
        next(events)
        client.close()
        assert list(events) == []
