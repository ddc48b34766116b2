"""Counts calls, their bytes and their time, whatever the method."""

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from prometheus_client import Counter

from rafiki.server.metrics.counters import Counters
from rafiki.server.rpc.handlers import Behaviour, Handler, rebuilt


class CountingInterceptor(grpc.aio.ServerInterceptor):
    """Counts every call of a known method. Behind it, a method has one handler for all calls."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._handlers: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Wraps the handler of the call."""
        handler = await continuation(handler_call_details)
        if handler is None:  # unknown method: no label for it, anybody can make up names
            return handler
        method = handler_call_details.method
        name = method.decode() if isinstance(method, bytes) else method
        known = self._handlers.get(name)
        if known is None or known[0] is not handler:
            known = self._handlers[name] = handler, self._counted(handler, name.lstrip("/"))
        return known[1]

    def _counted(self, handler: Handler, method: str) -> Handler:
        return rebuilt(
            handler,
            lambda behaviour: self._timed(behaviour, method, _is_unary(handler)),
            deserializer=lambda function: _measured_in(function, self._counters.received, method),
            serializer=lambda function: _measured_out(function, self._counters.sent, method),
        )

    def _timed(self, behaviour: Behaviour, method: str, is_unary: bool) -> Behaviour:
        """`behaviour`, in its own kind of function."""
        if inspect.isasyncgenfunction(behaviour):

            async def generate(request: object, context: Any) -> AsyncIterator[object]:
                with self._counting(method, is_unary, context):
                    async for response in behaviour(request, context):
                        yield response

            return generate
        if inspect.iscoroutinefunction(behaviour):

            async def respond(request: object, context: Any) -> object:
                with self._counting(method, is_unary, context):
                    return await behaviour(request, context)

            return respond

        def answer(request: object, context: grpc.ServicerContext) -> object:
            noting = _NotingContext(context)
            with self._counting(method, is_unary, noting):
                return behaviour(request, noting)

        return answer

    @contextmanager
    def _counting(self, method: str, is_unary: bool, context: Any) -> Iterator[None]:
        start = time.perf_counter()
        is_open = self._counters.open_calls.labels(method)
        is_open.inc()
        code = "CANCELLED"  # unless it ends otherwise
        try:
            yield
            code = _code(context, "OK")
        except Exception:
            code = _code(context, "UNKNOWN")
            raise
        finally:
            is_open.dec()
            self._counters.calls.labels(method, code).inc()
            if is_unary:
                self._counters.call.labels(method).observe(time.perf_counter() - start)


class _NotingContext:
    """The context of a synchronous behaviour: grpc.aio gives it one that keeps no code."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context
        self._noted: grpc.StatusCode | None = None

    def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        """Ends the call, as the context does."""
        self._noted = code
        self._context.abort(code, details)

    def code(self) -> grpc.StatusCode | None:
        """What it ended with, if by `abort`."""
        return self._noted

    def __getattr__(self, name: str) -> object:
        return getattr(self._context, name)


def _is_unary(handler: Handler) -> bool:
    return not handler.request_streaming and not handler.response_streaming


def _code(context: Any, default: str) -> str:
    """The status code set by the behaviour, as a name; `default` if it has set none."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    # Those of asynchronous behaviours tell it as a number; 0 is what they begin with.
    return next((x.name for x in grpc.StatusCode if code and x.value[0] == code), default)


def _measured_in(deserialize: Behaviour, counter: Counter, method: str) -> Behaviour:
    count = counter.labels(method)

    def measured(data: bytes) -> object:
        count.inc(len(data))
        return deserialize(data)

    return measured


def _measured_out(serialize: Behaviour, counter: Counter, method: str) -> Behaviour:
    count = counter.labels(method)

    def measured(message: object) -> bytes:
        data: bytes = serialize(message)
        count.inc(len(data))
        return data

    return measured
