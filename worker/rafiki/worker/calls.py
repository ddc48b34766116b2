"""Unary calls to the server: with a deadline, repeated while the server cannot be reached."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from rafiki.worker.assignment import WorkerClosing
from rafiki.worker.backoff import Backoff

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")

TIMEOUT_S = 20.0

# How long a call may go on once the worker is ending.
CLOSING_GRACE_S = 1.0

# The server is away, or slow: repeated for as long as it takes.
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

# Perhaps a passing trouble: repeated a few times.
_PASSING = (
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNKNOWN,
)
_PASSING_ATTEMPTS = 5

# Reasons are the values of the enum ErrorReason by name; what follows the prefix is looked at.
_REASON_PREFIX = "ERROR_REASON_"


class Cancellable(Protocol):
    """A call that is going on."""

    def cancel(self) -> bool: ...


class CallRefused(Exception):
    """The server says no, and would again."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{reason or code.name}: {message}")


class LeaseLost(CallRefused):
    """The trial was assigned again or has ended: drop it."""


class Caller:
    """Makes calls until they are answered or `closing` is set. Thread-safe."""

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._lock = threading.Lock()
        self._going_on: set[Cancellable] = set()
        threading.Thread(target=self._cancel_when_closing, name="calls", daemon=True).start()

    def call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> Response:
        """The answer to one unary call, which must be safe to repeat.

        Raises:
            LeaseLost, CallRefused: As they say.
            WorkerClosing: The worker ended before an answer came.
        """

        def attempt() -> Response:
            limit_s = CLOSING_GRACE_S if self._closing.is_set() else timeout_s
            return self.result(method.future(request, timeout=limit_s))

        return self.repeat(attempt)

    def repeat(self, attempt: Callable[[], Response]) -> Response:
        """What `attempt` returns, repeated after the errors that pass. Raises as `call`."""
        backoff = Backoff()
        passing_left = _PASSING_ATTEMPTS
        while True:
            try:
                return attempt()
            except grpc.RpcError as error:
                refusal = refused(error)
                if refusal.code in _PASSING:
                    passing_left -= 1
                if refusal.code not in _AWAY and (
                    refusal.code not in _PASSING or passing_left == 0
                ):
                    raise refusal from error
                logger.debug("call will be repeated after %s", refusal)
                if not backoff.wait(self._closing):
                    raise WorkerClosing from error

    def result(self, future: "grpc.Future[Response]") -> Response:
        """The result of a call that is going on. Raises what gRPC raises, or WorkerClosing."""
        with self.cancellable(future):
            try:
                return future.result()
            except grpc.FutureCancelledError:
                raise WorkerClosing from None

    @contextmanager
    def cancellable(self, call: Cancellable) -> Iterator[None]:
        """Inside the block, `call` is cancelled soon after the worker begins to end."""
        with self._lock:
            self._going_on.add(call)
        try:
            yield
        finally:
            with self._lock:
                self._going_on.discard(call)

    def _cancel_when_closing(self) -> None:
        # Not in a signal handler, which could interrupt gRPC with its locks held.
        self._closing.wait()
        time.sleep(CLOSING_GRACE_S)
        with self._lock:
            going_on = list(self._going_on)
        for call in going_on:
            call.cancel()


def refused(error: grpc.RpcError) -> CallRefused:
    """The refusal in an error of gRPC."""
    code = error.code()
    message = error.details() or ""
    reason = _reason(error)
    kind = LeaseLost if reason == "LEASE_LOST" else CallRefused
    return kind(code, reason, message)


def _reason(error: grpc.RpcError) -> str:
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except ValueError:
        return ""  # The details do not belong to the status: sent by something in between.
    if status is None:
        return ""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return info.reason.removeprefix(_REASON_PREFIX)
    return ""
