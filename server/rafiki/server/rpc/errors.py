"""The one place where errors become statuses: `ErrorInfo` with a reason of the API.

Every method runs in `with statuses(context)`, streaming ones in
`async with async_statuses(context)`. What is not listed in `to_status` is logged with its
traceback and becomes INTERNAL without details.
"""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2 as code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status

from rafiki.model.knobs import InvalidKnobConfig
from rafiki.resources import Digest
from rafiki.server.domain import errors
from rafiki.v1.errors_pb2 import ErrorReason
from rafiki.wire.fields import InvalidField

logger = logging.getLogger(__name__)

_DOMAIN = "rafiki"
_DETAILS_KEY = "grpc-status-details-bin"

# Peers may refuse more than 8 KiB of trailers, in which the message comes twice, once
# percent-encoded.
_MAX_TEXT_BYTES = 600
_MAX_VIOLATIONS_BYTES = 4096

_CODES = {status_code.value[0]: status_code for status_code in grpc.StatusCode}


_Violation = TypeVar("_Violation", BadRequest.FieldViolation, PreconditionFailure.Violation)


class IdleTimeout(Exception):
    """A client sent nothing on a stream for too long."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"nothing was received for {timeout_s:.0f}s; start the call again")


class TooManyStreams(Exception):
    """A client has more streams of one kind open than it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"at most {limit} such streams at once; wait for one to end")


def to_status(error: BaseException) -> Status | None:
    """The status for `error`, or None for what clients should learn nothing about."""
    match error:
        case errors.ResourceNotFound(name=name):
            return _status(code.NOT_FOUND, error, "RESOURCE_NOT_FOUND", {"name": name})
        case errors.ResourceAlreadyExists(name=name):
            return _status(code.ALREADY_EXISTS, error, "RESOURCE_ALREADY_EXISTS", {"name": name})
        case errors.InvalidState(name=name, state=state):
            metadata = {"name": name, "state": state}
            return _status(code.FAILED_PRECONDITION, error, "INVALID_STATE", metadata)
        case errors.InvalidArgument(violations=violations):
            fields = _fitting(_field(*pair) for pair in violations)
            details = [BadRequest(field_violations=fields)]
            return _status(code.INVALID_ARGUMENT, error, "INVALID_FIELD", {}, details)
        case InvalidField(field_path=path, rule=rule):
            details = [BadRequest(field_violations=[_field(path, rule)])]
            return _status(code.INVALID_ARGUMENT, error, "INVALID_FIELD", {}, details)
        case errors.RequestIdReused(request_id=request_id):
            metadata = {"request_id": request_id}
            return _status(code.ALREADY_EXISTS, error, "REQUEST_ID_REUSED", metadata)
        case errors.ResumeTokenExpired():
            return _status(code.OUT_OF_RANGE, error, "RESUME_TOKEN_EXPIRED", {})
        case errors.ServerDraining(retry_after=retry_after):
            delay = Duration()
            delay.FromTimedelta(retry_after)
            retry = [RetryInfo(retry_delay=delay)]
            return _status(code.UNAVAILABLE, error, "SERVER_DRAINING", {}, retry)
        case errors.InvalidKnobs(knob=knob, rule=rule) | InvalidKnobConfig(knob=knob, rule=rule):
            metadata = {"knob": knob, "rule": rule}
            return _status(code.INVALID_ARGUMENT, error, "INVALID_KNOB_CONFIG", metadata)
        case errors.ModelRejected(cause=cause):
            return _status(code.INVALID_ARGUMENT, error, "MODEL_REJECTED", {"cause": cause})
        case errors.TaskMismatch():
            metadata = {"name": error.name, "expected": error.expected, "actual": error.actual}
            return _status(code.INVALID_ARGUMENT, error, "TASK_MISMATCH", metadata)
        case errors.UnsupportedAdvisor():
            metadata = {
                "advisor": error.advisor,
                "subject": error.subject,
                "needs": error.needs,
            }
            return _status(code.INVALID_ARGUMENT, error, "UNSUPPORTED_ADVISOR", metadata)
        case errors.InfeasibleBudget():
            metadata = _infeasible_budget(error)
            return _status(code.FAILED_PRECONDITION, error, "INFEASIBLE_BUDGET", metadata)
        case errors.LeaseLost(trial=trial):
            return _status(code.FAILED_PRECONDITION, error, "LEASE_LOST", {"trial": trial})
        case errors.ProtocolViolation():
            return _status(code.INVALID_ARGUMENT, error, "PROTOCOL_VIOLATION", {})
        case errors.SessionSuperseded():
            return _status(code.ABORTED, error, "SESSION_SUPERSEDED", {})
        case errors.BlobsMissing(digests=digests):
            listed = _fitting(_missing(digest) for digest in digests)
            missing = [PreconditionFailure(violations=listed)]
            return _status(code.FAILED_PRECONDITION, error, "BLOBS_MISSING", {}, missing)
        case errors.DigestMismatch(expected=expected, actual=actual):
            metadata = {"expected": expected, "actual": actual}
            return _status(code.INVALID_ARGUMENT, error, "DIGEST_MISMATCH", metadata)
        case errors.BlobCorrupt(sha256=sha256):
            return _status(code.DATA_LOSS, error, "BLOB_CORRUPT", {"sha256": sha256})
        case IdleTimeout():
            return Status(code=code.DEADLINE_EXCEEDED, message=str(error))
        case TooManyStreams():
            return Status(code=code.RESOURCE_EXHAUSTED, message=str(error))
        case errors.QuotaExceeded():
            metadata = {
                "job": error.job,
                "used_bytes": str(error.used_bytes),
                "limit_bytes": str(error.limit_bytes),
            }
            return _status(code.FAILED_PRECONDITION, error, "QUOTA_EXCEEDED", metadata)
        case errors.StorageUnavailable():
            return _status(code.UNAVAILABLE, error, "STORAGE_UNAVAILABLE", {})
        case errors.StorageFull():
            return _status(code.RESOURCE_EXHAUSTED, error, "STORAGE_FULL", {})
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return to_status(errors.StorageFull())
        case OSError(errno=(errno.EROFS | errno.EACCES | errno.EPERM | errno.EIO) as number):
            logger.error("storage cannot be used: %s", error)
            cause = f"the server's folder cannot be used ({os.strerror(number)})"
            return to_status(errors.StorageUnavailable(cause))
        case _:
            return None


@contextmanager
def statuses(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call of a synchronous method with the status of what is raised inside.

    `grpc.aio` gives synchronous methods a context without `abort_with_status`, so the
    details go into the trailer by hand.
    """
    try:
        yield
    except Exception as error:
        status = _status_of(error)
        context.set_trailing_metadata(((_DETAILS_KEY, status.SerializeToString()),))
        context.abort(_CODES[status.code], status.message)


@asynccontextmanager
async def async_statuses(
    context: "grpc.aio.ServicerContext[Any, Any]",
) -> AsyncIterator[None]:
    """As `statuses`, for asynchronous methods. Cancellation passes through."""
    try:
        yield
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except Exception as error:
        status = _status_of(error)
        details = ((_DETAILS_KEY, status.SerializeToString()),)
        try:
            await context.abort(_CODES[status.code], status.message, details)
        except grpc.aio.InternalError:
            # The call is over: gRPC ended it, as with a message above the limit.
            raise asyncio.CancelledError from None


def _status_of(error: Exception) -> Status:
    status = to_status(error)
    if status is None:
        logger.exception("call failed unexpectedly", exc_info=error)
        return Status(code=code.INTERNAL, message="internal error; the server's log says more")
    return status


def _status(
    number: int,
    error: BaseException,
    reason: str,
    metadata: Mapping[str, str],
    details: Sequence[Message] = (),
) -> Status:
    name = f"ERROR_REASON_{reason}"
    ErrorReason.Value(name)  # raises for what is no reason of the API
    status = Status(code=number, message=_shortened(str(error)))
    info = ErrorInfo(
        reason=name,
        domain=_DOMAIN,
        metadata={key: _shortened(value) for key, value in metadata.items()},
    )
    for detail in (info, *details):
        status.details.add().Pack(detail)
    return status


def _field(path: str, description: str) -> BadRequest.FieldViolation:
    return BadRequest.FieldViolation(field=_shortened(path), description=_shortened(description))


def _missing(digest: Digest) -> PreconditionFailure.Violation:
    return PreconditionFailure.Violation(type="MISSING", subject=digest.sha256)


def _fitting(violations: Iterable[_Violation]) -> list[_Violation]:
    """The first ones, as many as fit."""
    fitting: list[_Violation] = []
    size_bytes = 0
    for violation in violations:
        size_bytes += violation.ByteSize() + 4
        if size_bytes > _MAX_VIOLATIONS_BYTES:
            break
        fitting.append(violation)
    return fitting


def _infeasible_budget(error: errors.InfeasibleBudget) -> dict[str, str]:
    metadata = {"subject": error.subject, "limit": error.limit, "available": error.available}
    if error.minimum_time is not None:
        metadata["minimum_time"] = f"{error.minimum_time.total_seconds():.0f}s"
    if error.minimum_model_trial_count is not None:
        metadata["minimum_model_trial_count"] = str(error.minimum_model_trial_count)
    return metadata


def _shortened(text: str) -> str:
    encoded = text[: _MAX_TEXT_BYTES + 1].encode(errors="replace")
    if len(encoded) <= _MAX_TEXT_BYTES:
        return encoded.decode()
    return encoded[:_MAX_TEXT_BYTES].decode(errors="ignore") + "..."
