"""Bytes that are no message, at methods of all four kinds; and the health of all services."""

import logging

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.server.live import TIMEOUT_S, RunningServer, code, message, reason

# A field of a length that never comes; a text that is no UTF-8.
TRUNCATED = b"\x0a\x05ab"
NOT_UTF8 = b"\x0a\x02\xff\xfe"


@pytest.mark.parametrize("data", [TRUNCATED, NOT_UTF8])
@pytest.mark.parametrize(
    "path",
    [
        "/rafiki.v1.JobService/GetTrainJob",
        "/rafiki.v1.AdvisorService/CompleteTrial",
        "/grpc.health.v1.Health/Check",
    ],
)
def test_a_request_that_cannot_be_decoded_is_an_invalid_argument(
    server: RunningServer, path: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = server.channel.unary_unary(path)
    with caplog.at_level(logging.WARNING), pytest.raises(grpc.RpcError) as caught:
        call(data, timeout=TIMEOUT_S)
    assert code(caught.value) is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "INVALID_FIELD"
    assert message(caught.value) == f"the {len(data)} bytes sent are no message of this method"
    assert not caplog.records


@pytest.mark.parametrize("path", ["JobService/WatchTrainJob", "ParameterService/DownloadBlobs"])
def test_the_request_of_a_stream_that_cannot_be_decoded_is_an_invalid_argument(
    server: RunningServer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    call: grpc.UnaryStreamMultiCallable[bytes, bytes]
    call = server.channel.unary_stream(f"/rafiki.v1.{path}")
    with caplog.at_level(logging.WARNING), pytest.raises(grpc.RpcError) as caught:
        list(call(TRUNCATED, timeout=TIMEOUT_S))
    assert code(caught.value) is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "INVALID_FIELD"
    assert not caplog.records


@pytest.mark.parametrize(
    "path",
    [
        "/rafiki.v1.AdvisorService/StreamTrials",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_a_message_in_a_stream_that_cannot_be_decoded_ends_the_stream(
    server: RunningServer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = server.channel.stream_stream(path)
    with caplog.at_level(logging.WARNING), pytest.raises(grpc.RpcError) as caught:
        list(call(iter([TRUNCATED]), timeout=TIMEOUT_S))
    assert code(caught.value) is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "INVALID_FIELD"
    assert not caplog.records


def test_an_upload_that_cannot_be_decoded_is_an_invalid_argument(server: RunningServer) -> None:
    call: grpc.StreamUnaryMultiCallable[bytes, bytes]
    call = server.channel.stream_unary("/rafiki.v1.ParameterService/UploadBlobs")
    with pytest.raises(grpc.RpcError) as caught:
        call(iter([TRUNCATED]), timeout=TIMEOUT_S)
    assert code(caught.value) is grpc.StatusCode.INVALID_ARGUMENT


def test_the_health_of_all_services_is_listed(server: RunningServer) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    # The stubs for types are of a release without it.
    response = stub.List(health_pb2.HealthListRequest(), timeout=TIMEOUT_S)  # type: ignore[attr-defined]
    serving = health_pb2.HealthCheckResponse.SERVING
    assert {health.status for health in response.statuses.values()} == {serving}
    assert {"", "rafiki.v1.JobService", "rafiki.v1.AdvisorService"} <= set(response.statuses)
