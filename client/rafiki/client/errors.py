"""What calls of the client raise.

    RafikiError
    ├── ServerUnreachable      no server answers at the address
    ├── CallTimedOut           the deadline passed
    ├── ResourceNotFound       RESOURCE_NOT_FOUND
    ├── ResourceAlreadyExists  RESOURCE_ALREADY_EXISTS
    ├── InvalidState           INVALID_STATE
    ├── RequestIdReused        REQUEST_ID_REUSED
    ├── ResumeTokenExpired     RESUME_TOKEN_EXPIRED
    ├── ServerDraining         SERVER_DRAINING
    ├── InfeasibleBudget       INFEASIBLE_BUDGET
    ├── LeaseLost              LEASE_LOST
    ├── ProtocolViolation      PROTOCOL_VIOLATION
    ├── SessionSuperseded      SESSION_SUPERSEDED
    ├── QuotaExceeded          QUOTA_EXCEEDED
    ├── StorageUnavailable     STORAGE_UNAVAILABLE
    ├── StorageFull            STORAGE_FULL
    ├── InvalidRequest         what was sent is wrong
    │   ├── InvalidField       INVALID_FIELD
    │   ├── InvalidKnobs       INVALID_KNOB_CONFIG
    │   ├── ModelRejected      MODEL_REJECTED
    │   ├── TaskMismatch       TASK_MISMATCH
    │   └── UnsupportedAdvisor UNSUPPORTED_ADVISOR
    └── DataError              bytes are missing or not what they should be
        ├── BlobsMissing       BLOBS_MISSING
        ├── DigestMismatch     DIGEST_MISMATCH
        └── BlobCorrupt        BLOB_CORRUPT

Names in capitals are the `ErrorReason` that a class stands for. What carries no reason
that this release knows is a plain `RafikiError`. The call's own error is the `__cause__`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "rafiki"
_PREFIX = "ERROR_REASON_"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that breaks a rule."""

    field: str
    description: str


class RafikiError(Exception):
    """A call that failed.

    Attributes:
        message: For people; one line, as the server put it.
        reason: The name of the `ErrorReason` without prefix; "" if there is none.
        metadata: What the reason is about, such as the `name` of a resource.
        violations: The fields that are wrong, with the rule each breaks.
        retry_after_s: How long the server asks to wait before trying again, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = violations
        self.retry_after_s = retry_after_s
        super().__init__(message)

    def __str__(self) -> str:
        told = [v for v in self.violations if v.description not in self.message]
        lines = [f"{v.field}: {v.description}" if v.field else v.description for v in told]
        return "\n".join([self.message, *lines])


class ServerUnreachable(RafikiError):
    """No server answers at the address."""


class CallTimedOut(RafikiError):
    """The deadline of the call passed; whether it had an effect is unknown."""


class ResourceNotFound(RafikiError):
    """The named resource does not exist, or may not be seen."""


class ResourceAlreadyExists(RafikiError):
    """What must be unique is in use."""


class InvalidState(RafikiError):
    """The state of the resource does not allow the call."""


class RequestIdReused(RafikiError):
    """The request id was used for another request."""


class ResumeTokenExpired(RafikiError):
    """The events after the resume token are no longer kept."""


class ServerDraining(RafikiError):
    """The server is starting or stopping."""


class InfeasibleBudget(RafikiError):
    """The budget holds no plan; the message names the smallest numbers that would do."""


class LeaseLost(RafikiError):
    """The trial was assigned again or has ended."""


class ProtocolViolation(RafikiError):
    """The messages of a stream are out of order."""


class SessionSuperseded(RafikiError):
    """Another session of the same worker was opened."""


class QuotaExceeded(RafikiError):
    """The checkpoints of a job would take more bytes than the server lets it have."""


class StorageUnavailable(RafikiError):
    """The server cannot read or write its database or its folder now."""


class StorageFull(RafikiError):
    """The server's disk has no room for what was to be stored."""


class InvalidRequest(RafikiError):
    """What was sent is wrong; sending it again will not help."""


class InvalidField(InvalidRequest):
    """Fields are missing, malformed or out of range: see `violations`."""


class InvalidKnobs(InvalidRequest):
    """A knob breaks a rule."""


class ModelRejected(InvalidRequest):
    """The source of the model is not acceptable."""


class TaskMismatch(InvalidRequest):
    """Job, models and data sets are of different tasks."""


class UnsupportedAdvisor(InvalidRequest):
    """The advisor asked for cannot search these knobs."""


class DataError(RafikiError):
    """Bytes are missing, or not what they should be."""


class BlobsMissing(DataError):
    """A resource names blobs that the store does not hold."""


class DigestMismatch(DataError):
    """Bytes do not hash to the declared digest."""


class BlobCorrupt(DataError):
    """A stored blob no longer matches its digest."""


BY_REASON: Mapping[str, type[RafikiError]] = {
    "RESOURCE_NOT_FOUND": ResourceNotFound,
    "RESOURCE_ALREADY_EXISTS": ResourceAlreadyExists,
    "INVALID_STATE": InvalidState,
    "INVALID_FIELD": InvalidField,
    "REQUEST_ID_REUSED": RequestIdReused,
    "RESUME_TOKEN_EXPIRED": ResumeTokenExpired,
    "SERVER_DRAINING": ServerDraining,
    "INVALID_KNOB_CONFIG": InvalidKnobs,
    "MODEL_REJECTED": ModelRejected,
    "TASK_MISMATCH": TaskMismatch,
    "UNSUPPORTED_ADVISOR": UnsupportedAdvisor,
    "INFEASIBLE_BUDGET": InfeasibleBudget,
    "LEASE_LOST": LeaseLost,
    "PROTOCOL_VIOLATION": ProtocolViolation,
    "SESSION_SUPERSEDED": SessionSuperseded,
    "STORAGE_UNAVAILABLE": StorageUnavailable,
    "STORAGE_FULL": StorageFull,
    "BLOBS_MISSING": BlobsMissing,
    "DIGEST_MISMATCH": DigestMismatch,
    "BLOB_CORRUPT": BlobCorrupt,
    "QUOTA_EXCEEDED": QuotaExceeded,
}


def error_from_call(error: grpc.RpcError, address: str) -> RafikiError:
    """The error to raise (`from error`) for a call to the server at `address` that failed."""
    if not isinstance(error, grpc.Call):
        return RafikiError(f"the call to {address} failed: {error}")
    code = error.code()
    info = error_details_pb2.ErrorInfo()
    violations: list[FieldViolation] = []
    retry_after_s: float | None = None
    for detail in _status(error).details:
        request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Unpack(request):
            violations += [FieldViolation(v.field, v.description) for v in request.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = _seconds(retry.retry_delay)
    message = error.details() or code.name
    if info.domain == DOMAIN:
        reason = info.reason.removeprefix(_PREFIX)
        return BY_REASON.get(reason, RafikiError)(
            message,
            reason=reason,
            metadata=info.metadata,
            violations=tuple(violations),
            retry_after_s=retry_after_s,
        )
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServerUnreachable(f"no Rafiki server answers at {address}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CallTimedOut(f"the server at {address} did not answer in time")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return RafikiError(f"what answers at {address} does not know this call: {message}")
    return RafikiError(f"{message} ({code.name})", violations=tuple(violations))


def _status(error: grpc.Call) -> status_pb2.Status:
    """The rich status in the trailers; an empty one if there is none that can be read."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
