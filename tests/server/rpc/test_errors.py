"""Errors as statuses."""

import errno
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from rafiki.model.knobs import InvalidKnobConfig
from rafiki.resources import Digest
from rafiki.server.domain import errors
from rafiki.server.rpc.errors import (
    IdleTimeout,
    TooManyStreams,
    async_statuses,
    statuses,
    to_status,
)
from rafiki.server.rpc.streams import StreamContext
from rafiki.v1.errors_pb2 import ErrorReason
from rafiki.wire.fields import InvalidField

Register = Callable[[grpc.aio.Server], None]
Served = Callable[[Register], AbstractContextManager[grpc.Channel]]

EXAMPLES: list[tuple[Exception, str, grpc.StatusCode, dict[str, str]]] = [
    (
        errors.ResourceNotFound("models/0123abcd"),
        "RESOURCE_NOT_FOUND",
        grpc.StatusCode.NOT_FOUND,
        {"name": "models/0123abcd"},
    ),
    (
        errors.ResourceAlreadyExists("models/0123abcd"),
        "RESOURCE_ALREADY_EXISTS",
        grpc.StatusCode.ALREADY_EXISTS,
        {"name": "models/0123abcd"},
    ),
    (
        errors.InvalidState("trainJobs/0123abcd", "STOPPED"),
        "INVALID_STATE",
        grpc.StatusCode.FAILED_PRECONDITION,
        {"name": "trainJobs/0123abcd", "state": "STOPPED"},
    ),
    (
        errors.InvalidArgument([("a", "must be set")]),
        "INVALID_FIELD",
        grpc.StatusCode.INVALID_ARGUMENT,
        {},
    ),
    (
        errors.RequestIdReused("id"),
        "REQUEST_ID_REUSED",
        grpc.StatusCode.ALREADY_EXISTS,
        {"request_id": "id"},
    ),
    (errors.ResumeTokenExpired(), "RESUME_TOKEN_EXPIRED", grpc.StatusCode.OUT_OF_RANGE, {}),
    (errors.ServerDraining(), "SERVER_DRAINING", grpc.StatusCode.UNAVAILABLE, {}),
    (
        errors.InvalidKnobs("rate", "min must not exceed max"),
        "INVALID_KNOB_CONFIG",
        grpc.StatusCode.INVALID_ARGUMENT,
        {"knob": "rate", "rule": "min must not exceed max"},
    ),
    (
        errors.ModelRejected("no zip"),
        "MODEL_REJECTED",
        grpc.StatusCode.INVALID_ARGUMENT,
        {"cause": "no zip"},
    ),
    (
        errors.TaskMismatch("datasets/0123abcd", "A", "B"),
        "TASK_MISMATCH",
        grpc.StatusCode.INVALID_ARGUMENT,
        {"name": "datasets/0123abcd", "expected": "A", "actual": "B"},
    ),
    (
        errors.UnsupportedAdvisor("ENAS", "models/0123abcd", "arch knobs"),
        "UNSUPPORTED_ADVISOR",
        grpc.StatusCode.INVALID_ARGUMENT,
        {"advisor": "ENAS", "subject": "models/0123abcd", "needs": "arch knobs"},
    ),
    (
        errors.InfeasibleBudget(
            "models/0123abcd",
            "time",
            "60s",
            minimum_time=timedelta(hours=1.5),
            minimum_model_trial_count=43,
        ),
        "INFEASIBLE_BUDGET",
        grpc.StatusCode.FAILED_PRECONDITION,
        {
            "subject": "models/0123abcd",
            "limit": "time",
            "available": "60s",
            "minimum_time": "5400s",
            "minimum_model_trial_count": "43",
        },
    ),
    (
        errors.LeaseLost("t"),
        "LEASE_LOST",
        grpc.StatusCode.FAILED_PRECONDITION,
        {"trial": "t"},
    ),
    (
        errors.ProtocolViolation("a chunk came first"),
        "PROTOCOL_VIOLATION",
        grpc.StatusCode.INVALID_ARGUMENT,
        {},
    ),
    (errors.SessionSuperseded("w"), "SESSION_SUPERSEDED", grpc.StatusCode.ABORTED, {}),
    (
        errors.BlobsMissing([Digest("0" * 64, 1)]),
        "BLOBS_MISSING",
        grpc.StatusCode.FAILED_PRECONDITION,
        {},
    ),
    (
        errors.DigestMismatch("a", "b"),
        "DIGEST_MISMATCH",
        grpc.StatusCode.INVALID_ARGUMENT,
        {"expected": "a", "actual": "b"},
    ),
    (errors.BlobCorrupt("a"), "BLOB_CORRUPT", grpc.StatusCode.DATA_LOSS, {"sha256": "a"}),
    (
        errors.QuotaExceeded("j", used_bytes=7, more_bytes=4, limit_bytes=10),
        "QUOTA_EXCEEDED",
        grpc.StatusCode.FAILED_PRECONDITION,
        {"job": "j", "used_bytes": "7", "limit_bytes": "10"},
    ),
    (errors.StorageUnavailable("x"), "STORAGE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE, {}),
    (errors.StorageFull(), "STORAGE_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED, {}),
]


def status_of(error: Exception) -> Status:
    status = to_status(error)
    assert status is not None
    return status


def info_of(status: Status) -> ErrorInfo:
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@pytest.mark.parametrize(
    ("error", "reason", "code", "metadata"),
    EXAMPLES,
    ids=[type(example[0]).__name__ for example in EXAMPLES],
)
def test_each_error_has_its_reason_code_and_metadata(
    error: Exception, reason: str, code: grpc.StatusCode, metadata: dict[str, str]
) -> None:
    status = status_of(error)
    info = info_of(status)
    assert status.code == code.value[0]
    assert status.message == str(error)
    assert (info.reason, info.domain) == (f"ERROR_REASON_{reason}", "rafiki")
    assert info.metadata == metadata


def test_every_reason_of_the_api_has_an_error() -> None:
    reasons = {f"ERROR_REASON_{example[1]}" for example in EXAMPLES}
    assert reasons == set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}


def test_every_domain_error_has_a_status() -> None:
    classes = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.DomainError | errors.StorageError)
    } - {errors.DomainError, errors.StorageError}
    assert {type(example[0]) for example in EXAMPLES} == classes


def test_fields_are_named_with_what_they_must_be() -> None:
    error = errors.InvalidArgument([("a.b", "must be set"), ("c", "must be above 0")])
    request = BadRequest()
    status_of(error).details[1].Unpack(request)
    fields = [(field.field, field.description) for field in request.field_violations]
    assert fields == [("a.b", "must be set"), ("c", "must be above 0")]


def test_errors_of_converters_are_those_of_the_domain() -> None:
    field = status_of(InvalidField("train_job.app", "must be set"))
    assert info_of(field).reason == "ERROR_REASON_INVALID_FIELD"
    knob = info_of(status_of(InvalidKnobConfig("rate", "is no knob")))
    assert knob.reason == "ERROR_REASON_INVALID_KNOB_CONFIG"
    assert knob.metadata == {"knob": "rate", "rule": "is no knob"}


def test_a_draining_server_says_when_to_come_back() -> None:
    retry = RetryInfo()
    status_of(errors.ServerDraining(timedelta(seconds=3))).details[1].Unpack(retry)
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IdleTimeout(30), grpc.StatusCode.DEADLINE_EXCEEDED),
        (TooManyStreams(8), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (OSError(errno.ENOSPC, "no space"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_limits_of_the_server_have_codes(error: Exception, code: grpc.StatusCode) -> None:
    assert status_of(error).code == code.value[0]


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), OSError(errno.ENOTCONN, "secret"), KeyError()]
)
def test_clients_learn_nothing_of_other_errors(error: Exception) -> None:
    assert to_status(error) is None


LONG = "\N{SNOWMAN}" * 10_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: errors.ResourceNotFound(LONG),
        lambda: errors.InvalidArgument([(LONG, LONG)] * 100),
        lambda: errors.InvalidKnobs(LONG, LONG),
        lambda: errors.UnsupportedAdvisor(LONG, LONG, LONG),
        lambda: errors.BlobsMissing([Digest(f"{number:064}", 1) for number in range(20_000)]),
        lambda: InvalidField(LONG, LONG),
    ],
)
def test_a_status_fits_the_trailers(make: Callable[[], Exception]) -> None:
    status = status_of(make())
    percent_encoded = 3 * len(status.message.encode())
    assert status.ByteSize() + percent_encoded < 8192
    assert status.message


def test_an_unexpected_error_is_logged_and_internal_to_clients(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(request: bytes, context: grpc.ServicerContext) -> bytes:
        with statuses(context):
            raise ZeroDivisionError("secret")

    async def stream(request: bytes, context: StreamContext) -> AsyncIterator[bytes]:
        async with async_statuses(context):
            yield b"first"
            raise ZeroDivisionError("secret")

    def register(server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Plain": grpc.unary_unary_rpc_method_handler(plain),
            "Stream": grpc.unary_stream_rpc_method_handler(stream),
        }
        service = grpc.method_handlers_generic_handler("test.Test", handlers)
        server.add_generic_rpc_handlers([service])

    with served(register) as channel:
        unary: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        unary = channel.unary_unary("/test.Test/Plain")
        with pytest.raises(grpc.RpcError) as plain_error:
            unary(b"", timeout=20)
        streaming: grpc.UnaryStreamMultiCallable[bytes, bytes]
        streaming = channel.unary_stream("/test.Test/Stream")
        answers = streaming(b"", timeout=20)
        assert next(answers) == b"first"
        with pytest.raises(grpc.RpcError) as stream_error:
            next(answers)

    for error in (plain_error.value, stream_error.value):
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(error)
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 2
