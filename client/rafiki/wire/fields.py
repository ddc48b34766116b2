"""Rules that fields of messages keep, and the error for one that does not.

A field path is as in `google.rpc.BadRequest`: `train_job.studies[0].advisor.kind`. The
readers take the path of the message they read, "" at the top.
"""

import math
import re
from enum import StrEnum
from typing import TypeVar

from rafiki.wire.enums import enum_from_proto

_Enum = TypeVar("_Enum", bound=StrEnum)

# Longer paths are cut: they may hold keys of maps, and errors travel in a trailer of 8 KiB.
MAX_PATH_CHARACTERS = 200
MAX_KEY_CHARACTERS = 64

TASK = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
APP = re.compile(r"[a-z][a-z0-9-]{0,62}")


class InvalidField(ValueError):
    """A field of a message breaks the rule stated for it."""

    def __init__(self, field_path: str, rule: str) -> None:
        self.field_path = field_path[:MAX_PATH_CHARACTERS]
        self.rule = rule
        super().__init__(f"{self.field_path}: {rule}" if field_path else rule)


def at(path: str, field: str) -> str:
    """The path of `field` inside the message at `path`."""
    return f"{path}.{field}" if path else field


def at_key(path: str, key: str) -> str:
    """The path of one entry of the map at `path`; the key is quoted, and cut if it is long."""
    return f"{path}[{key[:MAX_KEY_CHARACTERS]!r}]"


def in_range(value: int, low: int, high: int, path: str) -> int:
    """`value`, if it lies in [low, high]."""
    if not low <= value <= high:
        raise InvalidField(path, f"must be in [{low}, {high}], not {value}")
    return value


def at_least(value: int, low: int, path: str) -> int:
    """`value`, unless it is below `low`."""
    if value < low:
        raise InvalidField(path, f"must be at least {low}, not {value}")
    return value


def finite(value: float, path: str) -> float:
    """`value`, if it is neither NaN nor infinite."""
    if not math.isfinite(value):
        raise InvalidField(path, f"must be finite, not {value}")
    return value


def optional_finite(value: float | None, path: str) -> float | None:
    """`value`, if it is None, or neither NaN nor infinite."""
    return None if value is None else finite(value, path)


def fraction(value: float, high: float, path: str) -> float:
    """`value`, if it lies in [0, high]; NaN does not."""
    if not 0.0 <= value <= high:
        raise InvalidField(path, f"must be in [0, {high:g}], not {value}")
    return value


def at_most_items(count: int, most: int, path: str) -> None:
    """Raises InvalidField if a repeated field or a map has more than `most` entries."""
    if count > most:
        raise InvalidField(path, f"must have at most {most} entries, not {count}")


def at_most_bytes(text: str, most: int, path: str) -> str:
    """`text`, unless it takes more than `most` bytes of UTF-8."""
    # A character takes at least one byte and at most four.
    if len(text) > most or (len(text) * 4 > most and len(text.encode()) > most):
        raise InvalidField(path, f"must have at most {most} bytes")
    return text


def matching(text: str, pattern: re.Pattern[str], path: str) -> str:
    """`text`, if all of it matches `pattern`."""
    if not pattern.fullmatch(text):
        raise InvalidField(path, f"must match {pattern.pattern}")
    return text


def display_name(text: str, path: str) -> str:
    """`text`, if it has 1 to 128 characters."""
    if not 1 <= len(text) <= 128:
        raise InvalidField(path, f"must have 1 to 128 characters, not {len(text)}")
    return text


def enum_value(cls: type[_Enum], number: int, path: str) -> _Enum | None:
    """The value of a field of a proto enum; None if it is unspecified."""
    try:
        return enum_from_proto(cls, number)
    except ValueError as error:
        raise InvalidField(path, str(error)) from None


def required_enum(cls: type[_Enum], number: int, path: str) -> _Enum:
    """The value of a field of a proto enum that must be set."""
    value = enum_value(cls, number, path)
    if value is None:
        raise InvalidField(path, f"must be one of {', '.join(cls)}")
    return value
