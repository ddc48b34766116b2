"""Who makes a call: the one seam through which every call passes.

This release knows a single user, who may do everything. Handlers ask `current_principal`.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

import grpc

# `grpc` types behaviours no better than this.
_Behaviour: TypeAlias = Callable[..., Any]


class Role(StrEnum):
    """What a user may do."""

    SUPERUSER = "SUPERUSER"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a call; `user` is a name such as "users/local"."""

    user: str
    role: Role


LOCAL = Principal("users/local", Role.SUPERUSER)

_principal: ContextVar[Principal] = ContextVar("rafiki_principal")


def current_principal() -> Principal:
    """Who makes the call that this handler serves.

    Raises:
        LookupError: Outside a call, or in another thread than its handler's.
    """
    return _principal.get()


class AuthorizationInterceptor(grpc.aio.ServerInterceptor):
    """Finds out who makes each call, before its handler runs.

    The principal is set around the behaviour itself, as synchronous behaviours run in
    threads that know nothing of the context in which they were chosen.
    """

    def __init__(self, authenticate: Callable[[grpc.HandlerCallDetails], Principal]) -> None:
        self._authenticate = authenticate

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Wraps the handler of the call."""
        handler = await continuation(handler_call_details)
        if handler is None:  # unknown method: grpc answers UNIMPLEMENTED
            return handler
        return _acting_as(self._authenticate(handler_call_details), handler)


def local_superuser(details: grpc.HandlerCallDetails) -> Principal:
    """Takes every caller for the local superuser."""
    return LOCAL


@contextmanager
def _acting(principal: Principal) -> Iterator[None]:
    token = _principal.set(principal)
    try:
        yield
    finally:
        _principal.reset(token)


def _as(principal: Principal, behaviour: _Behaviour) -> _Behaviour:
    """`behaviour`, in its own kind of function, run as `principal`."""
    if inspect.isasyncgenfunction(behaviour):

        async def generate(request: object, context: object) -> AsyncIterator[object]:
            # Not reset: a generator may be closed from another context; each call has its own.
            _principal.set(principal)
            async for response in behaviour(request, context):
                yield response

        return generate
    if inspect.iscoroutinefunction(behaviour):

        async def respond(request: object, context: object) -> object:
            _principal.set(principal)
            return await behaviour(request, context)

        return respond

    def answer(request: object, context: object) -> object:
        with _acting(principal):
            return behaviour(request, context)

    return answer


@lru_cache(maxsize=1024)
def _acting_as(
    principal: Principal, handler: "grpc.RpcMethodHandler[Any, Any]"
) -> "grpc.RpcMethodHandler[Any, Any]":
    """The handler as it serves calls of `principal`: the same for every call."""
    return _with_behaviour(handler, lambda behaviour: _as(principal, behaviour))


def _with_behaviour(
    handler: "grpc.RpcMethodHandler[Any, Any]", wrap: Callable[[_Behaviour], _Behaviour]
) -> "grpc.RpcMethodHandler[Any, Any]":
    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    make, behaviour = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    if behaviour is None:
        return handler
    wrapped: grpc.RpcMethodHandler[Any, Any] = make(
        wrap(behaviour),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return wrapped
