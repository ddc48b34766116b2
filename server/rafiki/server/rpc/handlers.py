"""Handlers of methods, rebuilt around the same behaviour by interceptors."""

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

# `grpc` types behaviours, and what (de)serialises their messages, no better than this.
Behaviour: TypeAlias = Callable[..., Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def _same(function: Behaviour) -> Behaviour:
    return function


def rebuilt(
    handler: Handler,
    behaviour: Callable[[Behaviour], Behaviour],
    *,
    deserializer: Callable[[Behaviour], Behaviour] = _same,
    serializer: Callable[[Behaviour], Behaviour] = _same,
) -> Handler:
    """`handler` with its parts wrapped by the functions given."""
    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    make, function = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    if function is None:
        return handler
    wrapped: Handler = make(
        behaviour(function),
        request_deserializer=handler.request_deserializer
        and deserializer(handler.request_deserializer),
        response_serializer=handler.response_serializer and serializer(handler.response_serializer),
    )
    return wrapped
