"""One channel to a server: deadlines, retries and errors, the same for every call."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from rafiki.client.errors import RafikiError, ServerDraining, ServerUnreachable, error_from_call

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

ATTEMPTS = 4
FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 5.0

_OPTIONS = (
    # A dead peer is noticed within 30 s, also while nothing is being sent.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # A server that starts late is found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Transport:
    """The channel to the server at `address`. Thread-safe."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._closed = threading.Event()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Ends the calls under way and closes the channel."""
        self._closed.set()
        self.channel.close()

    def unary(
        self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request
    ) -> Response:
        """The response to a call that may safely be repeated."""
        return self.retrying(lambda: method(request, timeout=self.timeout_s))

    def uploading(
        self,
        method: "grpc.StreamUnaryMultiCallable[Request, Response]",
        requests: Callable[[], Iterator[Request]],
        size_bytes: int,
    ) -> Response:
        """The response to a stream of requests, which are made anew for every attempt."""
        timeout_s = self.timeout_s + size_bytes / 1e6
        return self.retrying(lambda: method(requests(), timeout=timeout_s))

    def retrying(self, call: Callable[[], Response]) -> Response:
        """What `call` returns, tried again while the server is unreachable or draining.

        Raises:
            RafikiError: The call failed, or the last attempt did.
        """
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except grpc.RpcError as cause:
                error = error_from_call(cause, self.address)
                if not is_passing(error) or self.is_closed or attempt == ATTEMPTS - 1:
                    raise error from cause
                self.pause(attempt, error)
            except ValueError as cause:  # what grpc raises on a closed channel
                if self.is_closed:
                    raise RafikiError("the client is closed") from cause
                raise
        raise AssertionError("the last attempt returns or raises")

    def pause(self, attempt: int, error: RafikiError) -> None:
        """Waits before the next attempt: longer each time, at random, less if closed."""
        pause_s = min(FIRST_PAUSE_S * 2**attempt, LAST_PAUSE_S) * random.uniform(0.5, 1.0)
        if error.retry_after_s is not None:
            pause_s = max(pause_s, min(error.retry_after_s, LAST_PAUSE_S))
        self._closed.wait(pause_s)


def is_passing(error: RafikiError) -> bool:
    """Whether the same call may succeed a little later."""
    return isinstance(error, ServerUnreachable | ServerDraining)
