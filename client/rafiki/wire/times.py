"""Timestamps and durations.

Instants are aware datetimes in UTC, exact to the microsecond. Durations are seconds as a
float where a field ends in `_s`, else timedeltas; on the wire they have nanoseconds. No
duration of the API is negative.
"""

import math
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rafiki.wire.fields import InvalidField

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NANOS = 1_000_000_000

# The range of google.protobuf.Timestamp, years 1 to 9999, and that of Duration.
_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799
_MAX_DURATION_S = 315_576_000_000


def timestamp_to_proto(time: datetime) -> Timestamp:
    """Raises ValueError if `time` is naive."""
    if time.tzinfo is None:
        raise ValueError(f"a time needs a time zone: {time}")
    microseconds = (time - _EPOCH) // _MICROSECOND
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def optional_timestamp_to_proto(time: datetime | None) -> Timestamp | None:
    """None where there is no time, which leaves a field unset."""
    return None if time is None else timestamp_to_proto(time)


def timestamp_from_proto(message: Timestamp, path: str = "") -> datetime:
    """In UTC; what is finer than a microsecond is cut off."""
    if not (_MIN_SECONDS <= message.seconds <= _MAX_SECONDS and 0 <= message.nanos < _NANOS):
        raise InvalidField(path, "must be a time in the years 1 to 9999")
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def optional_timestamp_from_proto(message: Timestamp | None, path: str = "") -> datetime | None:
    """None for None: what a reader passes for a field that is unset."""
    return None if message is None else timestamp_from_proto(message, path)


def duration_to_proto(duration: timedelta) -> Duration:
    """Raises ValueError if `duration` is negative or longer than 10000 years."""
    if not timedelta(0) <= duration <= timedelta(seconds=_MAX_DURATION_S):
        raise ValueError(f"a duration lies between 0 and 10000 years: {duration}")
    seconds, rest = divmod(duration // _MICROSECOND, 1_000_000)
    return Duration(seconds=seconds, nanos=rest * 1000)


def duration_from_proto(message: Duration, path: str = "") -> timedelta:
    """What is finer than a microsecond is cut off."""
    _check(message, path)
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def seconds_to_proto(seconds: float) -> Duration:
    """Rounded to nanoseconds. Raises ValueError if `seconds` is NaN, negative or too long."""
    if not 0 <= seconds <= _MAX_DURATION_S:
        raise ValueError(f"a duration lies between 0 and 10000 years: {seconds} s")
    whole = math.floor(seconds)
    nanos = round((seconds - whole) * _NANOS)
    carry, nanos = divmod(nanos, _NANOS)
    return Duration(seconds=whole + carry, nanos=nanos)


def nonzero_seconds_to_proto(seconds: float) -> Duration | None:
    """None for 0, which leaves a field unset."""
    return seconds_to_proto(seconds) if seconds else None


def seconds_from_proto(message: Duration, path: str = "") -> float:
    """0.0 for a message that is unset."""
    _check(message, path)
    return message.seconds + message.nanos / _NANOS


def _check(message: Duration, path: str) -> None:
    nanos = message.seconds * _NANOS + message.nanos
    if not (0 <= nanos <= _MAX_DURATION_S * _NANOS and 0 <= message.nanos < _NANOS):
        raise InvalidField(path, "must be a duration between 0 and 10000 years")
