"""`TrainJob.train_args`: JSON objects as google.protobuf.Struct, whose numbers are doubles."""

import math
from collections.abc import Mapping

from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value

from rafiki.resources import JSON
from rafiki.wire.fields import InvalidField, at_key

MAX_STRUCT_BYTES = 64 << 10
_MAX_EXACT = 2**53


def struct_to_proto(values: Mapping[str, JSON], path: str = "") -> Struct:
    """Raises InvalidField for what does not survive: NaN, large integers, other types."""
    message = _struct_to_proto(values, path)
    _check_size(message, path)
    return message


def struct_from_proto(message: Struct, path: str = "") -> dict[str, JSON]:
    """The values in order of their keys; whole numbers come back as integers."""
    _check_size(message, path)
    return _struct_from_proto(message, path)


def _check_size(message: Struct, path: str) -> None:
    if message.ByteSize() > MAX_STRUCT_BYTES:
        raise InvalidField(path, f"must take at most {MAX_STRUCT_BYTES} bytes")


def _struct_to_proto(values: Mapping[str, JSON], path: str) -> Struct:
    message = Struct()
    for key, value in values.items():
        if not isinstance(key, str):
            raise InvalidField(path, f"must have strings as keys, not {key!r}")
        message.fields[key].CopyFrom(_value_to_proto(value, at_key(path, key)))
    return message


def _value_to_proto(value: JSON, path: str) -> Value:
    match value:
        case None:
            return Value(null_value=NullValue.NULL_VALUE)
        case bool():
            return Value(bool_value=value)
        case int() | float():
            if not math.isfinite(value) or (type(value) is int and abs(value) > _MAX_EXACT):
                raise InvalidField(path, f"must be exact as a finite double, not {value}")
            return Value(number_value=value)
        case str():
            return Value(string_value=value)
        case list() | tuple():
            items = [_value_to_proto(item, f"{path}[{index}]") for index, item in enumerate(value)]
            return Value(list_value=ListValue(values=items))
        case Mapping():
            return Value(struct_value=_struct_to_proto(value, path))
    raise InvalidField(path, f"must be a JSON value, not {type(value).__name__}")


def _struct_from_proto(message: Struct, path: str) -> dict[str, JSON]:
    return {
        key: _value_from_proto(value, at_key(path, key))
        for key, value in sorted(message.fields.items())
    }


def _value_from_proto(message: Value, path: str) -> JSON:
    match message.WhichOneof("kind"):
        case "null_value":
            return None
        case "bool_value":
            return message.bool_value
        case "number_value":
            return _number(message.number_value, path)
        case "string_value":
            return message.string_value
        case "list_value":
            items = message.list_value.values
            return [_value_from_proto(item, f"{path}[{index}]") for index, item in enumerate(items)]
        case "struct_value":
            return _struct_from_proto(message.struct_value, path)
    raise InvalidField(path, "must hold a value")


def _number(number: float, path: str) -> int | float:
    if not math.isfinite(number):
        raise InvalidField(path, f"must be finite, not {number}")
    return int(number) if number.is_integer() and abs(number) <= _MAX_EXACT else number
