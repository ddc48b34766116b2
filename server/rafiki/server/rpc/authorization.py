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

import grpc

from rafiki.server.rpc.handlers import Behaviour, Handler, rebuilt


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
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
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


def _as(principal: Principal, behaviour: Behaviour) -> Behaviour:
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
def _acting_as(principal: Principal, handler: Handler) -> Handler:
    """The handler as it serves calls of `principal`: the same for every call."""
    return rebuilt(handler, lambda behaviour: _as(principal, behaviour))
