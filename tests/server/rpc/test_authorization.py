"""Every handler, of every kind, knows who calls."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
import pytest

from rafiki.server.rpc.authorization import current_principal

Register = Callable[[grpc.aio.Server], None]
Served = Callable[[Register], AbstractContextManager[grpc.Channel]]

TIMEOUT_S = 20


def caller() -> bytes:
    principal = current_principal()
    return f"{principal.user} {principal.role}".encode()


def plain(request: bytes, context: grpc.ServicerContext) -> bytes:
    return caller()


async def unary_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield caller()
    yield caller()


async def stream_unary(requests: AsyncIterator[bytes], context: Any) -> bytes:
    async for _ in requests:
        pass
    return caller()


async def stream_stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for _ in requests:
        yield caller()


def register(server: grpc.aio.Server) -> None:
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Plain": grpc.unary_unary_rpc_method_handler(plain),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(unary_stream),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(stream_unary),
        "StreamStream": grpc.stream_stream_rpc_method_handler(stream_stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", handlers)])


def test_handlers_of_every_kind_know_who_calls(served: Served) -> None:
    with served(register) as channel:
        plain_call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        plain_call = channel.unary_unary("/test.Test/Plain")
        collect: grpc.StreamUnaryMultiCallable[bytes, bytes]
        collect = channel.stream_unary("/test.Test/StreamUnary")
        spread: grpc.UnaryStreamMultiCallable[bytes, bytes]
        spread = channel.unary_stream("/test.Test/UnaryStream")
        echo: grpc.StreamStreamMultiCallable[bytes, bytes]
        echo = channel.stream_stream("/test.Test/StreamStream")
        answers = [
            plain_call(b"", timeout=TIMEOUT_S),
            collect(iter([b""]), timeout=TIMEOUT_S),
            *spread(b"", timeout=TIMEOUT_S),
            *echo(iter([b""] * 3), timeout=TIMEOUT_S),
        ]
    assert answers == [b"users/local SUPERUSER"] * 7


def test_an_unknown_method_is_unimplemented(served: Served) -> None:
    with served(register) as channel:
        unknown: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        unknown = channel.unary_unary("/test.Test/Unknown")
        with pytest.raises(grpc.RpcError) as caught:
            unknown(b"", timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_nobody_calls_outside_a_call() -> None:
    with pytest.raises(LookupError):
        current_principal()
