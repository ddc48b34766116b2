"""Messages whose bytes are none: refused in a line, where gRPC would log a traceback."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from rafiki.server.rpc.errors import async_statuses, statuses
from rafiki.server.rpc.handlers import Behaviour, Handler, rebuilt
from rafiki.wire.fields import InvalidField


class UndecodableMessage(InvalidField):
    """The bytes of a request are no message of its type."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__("", f"the {size_bytes} bytes sent are no message of this method")


class DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Ends calls with INVALID_ARGUMENT whose requests cannot be decoded."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Wraps the handler of the call."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _decoding(handler)


@lru_cache(maxsize=1024)
def _decoding(handler: Handler) -> Handler:
    """The handler with its wrapping: the same for every call."""
    # What a deserializer raises is UNKNOWN, unless the behaviour itself reads: then it gets it.
    return rebuilt(
        handler, _refusing, deserializer=_raising if handler.request_streaming else _returning
    )


def _raising(deserialize: Behaviour) -> Behaviour:
    def deserialized(data: bytes) -> object:
        try:
            return deserialize(data)
        except DecodeError:
            raise UndecodableMessage(len(data)) from None

    return deserialized


def _returning(deserialize: Behaviour) -> Behaviour:
    def deserialized(data: bytes) -> object:
        try:
            return deserialize(data)
        except DecodeError:
            return UndecodableMessage(len(data))

    return deserialized


def _refusing(behaviour: Behaviour) -> Behaviour:
    """`behaviour`, in its own kind of function, for what can be decoded."""
    if inspect.isasyncgenfunction(behaviour):

        async def generate(request: object, context: Any) -> AsyncIterator[object]:
            async with async_statuses(context):
                async for response in behaviour(_decoded(request), context):
                    yield response

        return generate
    if inspect.iscoroutinefunction(behaviour):

        async def respond(request: object, context: Any) -> object:
            async with async_statuses(context):
                return await behaviour(_decoded(request), context)

        return respond

    def answer(request: object, context: grpc.ServicerContext) -> object:
        if isinstance(request, UndecodableMessage):
            with statuses(context):
                raise request
        return behaviour(request, context)

    return answer


def _decoded(request: object) -> object:
    if isinstance(request, UndecodableMessage):
        raise request
    return request
