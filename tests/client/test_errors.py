"""Errors of calls, through a real channel to a server that fails as it is told to."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from rafiki.client import Client, errors
from rafiki.v1 import jobs_pb2
from rafiki.v1.errors_pb2 import ErrorReason

REASONS = [name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()[1:]]


@dataclass
class Failing:
    """A JobService whose GetTrainJob fails with each status in turn, the last for ever."""

    statuses: list[status_pb2.Status]
    calls: list[str] = field(default_factory=list)

    def get_train_job(
        self, request: jobs_pb2.GetTrainJobRequest, context: grpc.ServicerContext
    ) -> jobs_pb2.GetTrainJobResponse:
        self.calls.append(request.name)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status.details:
            trailer = ("grpc-status-details-bin", status.SerializeToString())
            context.set_trailing_metadata((trailer,))
        codes = {code.value[0]: code for code in grpc.StatusCode}
        context.abort(codes[status.code], status.message)


@contextmanager
def serving(servicer: Failing) -> Iterator[str]:
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.get_train_job,
        request_deserializer=jobs_pb2.GetTrainJobRequest.FromString,
        response_serializer=jobs_pb2.GetTrainJobResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    methods = {"GetTrainJob": handler}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("rafiki.v1.JobService", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def status_of(code: int, message: str, *details: Message) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def info_of(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="rafiki", metadata=metadata)


def raised_for(status: status_pb2.Status) -> errors.RafikiError:
    with serving(Failing([status])) as address, Client(address, timeout_s=10) as client:
        with pytest.raises(errors.RafikiError) as raised:
            client.get_train_job("trainJobs/a1b2c3d4")
        return raised.value


def test_every_reason_of_the_api_has_a_class_of_its_own() -> None:
    assert sorted(errors.BY_REASON) == sorted(REASONS)
    assert len(set(errors.BY_REASON.values())) == len(REASONS)


def test_every_class_is_drawn_in_the_tree() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    named = [c.__name__ for c in classes if issubclass(c, errors.RafikiError)]
    assert errors.__doc__ is not None
    assert [name for name in named if name not in errors.__doc__] == []


@pytest.mark.parametrize("prefix", ["", "ERROR_REASON_"])
@pytest.mark.parametrize("reason", ["RESOURCE_NOT_FOUND", "INFEASIBLE_BUDGET", "BLOB_CORRUPT"])
def test_a_reason_becomes_its_class_with_metadata_and_cause(reason: str, prefix: str) -> None:
    info = info_of(prefix + reason, name="trainJobs/a1b2c3d4")
    error = raised_for(status_of(code_pb2.NOT_FOUND, "there is no such job", info))
    assert type(error) is errors.BY_REASON[reason]
    assert error.reason == reason
    assert error.metadata == {"name": "trainJobs/a1b2c3d4"}
    assert str(error) == "there is no such job"
    assert isinstance(error.__cause__, grpc.RpcError)


def test_field_violations_are_told() -> None:
    request = error_details_pb2.BadRequest()
    request.field_violations.add(field="train_job.app", description="must be set")
    info = info_of("INVALID_FIELD")
    error = raised_for(status_of(code_pb2.INVALID_ARGUMENT, "the request is wrong", info, request))
    assert isinstance(error, errors.InvalidField)
    assert error.violations == (errors.FieldViolation("train_job.app", "must be set"),)
    assert str(error) == "the request is wrong\ntrain_job.app: must be set"


def test_a_reason_of_a_later_release_is_a_plain_error() -> None:
    error = raised_for(status_of(code_pb2.ABORTED, "something new", info_of("SOMETHING_NEW")))
    assert type(error) is errors.RafikiError
    assert error.reason == "SOMETHING_NEW"


def test_a_status_without_details_is_a_plain_error() -> None:
    error = raised_for(status_of(code_pb2.INTERNAL, "oops"))
    assert type(error) is errors.RafikiError
    assert str(error) == "oops (INTERNAL)"


def test_a_server_that_is_not_there_is_told_apart() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Client(address, timeout_s=10) as client:
            with pytest.raises(errors.ServerUnreachable, match=address):
                client.get_train_job("trainJobs/a1b2c3d4")


def test_a_draining_server_is_tried_again() -> None:
    draining = status_of(code_pb2.UNAVAILABLE, "stopping", info_of("SERVER_DRAINING"))
    servicer = Failing([draining, status_of(code_pb2.INVALID_ARGUMENT, "reached")])
    with serving(servicer) as address, Client(address, timeout_s=10) as client:
        with pytest.raises(errors.RafikiError, match="reached"):
            client.get_train_job("trainJobs/a1b2c3d4")
    assert len(servicer.calls) == 2


def test_a_call_that_is_wrong_is_not_repeated() -> None:
    servicer = Failing([status_of(code_pb2.NOT_FOUND, "no", info_of("RESOURCE_NOT_FOUND"))])
    with serving(servicer) as address, Client(address, timeout_s=10) as client:
        with pytest.raises(errors.ResourceNotFound):
            client.get_train_job("trainJobs/a1b2c3d4")
    assert len(servicer.calls) == 1


def test_a_closed_client_says_so() -> None:
    with Client("127.0.0.1:1") as client:
        pass
    with pytest.raises(errors.RafikiError, match="closed"):
        client.get_train_job("trainJobs/a1b2c3d4")
