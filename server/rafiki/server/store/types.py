"""Column types: how times and structures lie in the database."""

import json
from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from rafiki.resources import JSON

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# `json.dumps` with such settings would make an encoder for every call.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Timestamp(TypeDecorator[datetime]):
    """An aware UTC `datetime`, stored as an integer of microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To microseconds. A naive datetime is a TypeError."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """From microseconds."""
        return None if value is None else _EPOCH + value * _MICROSECOND


class JsonText(TypeDecorator[JSON]):
    """What JSON holds, stored as compact text. None is NULL; NaN and infinities survive."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JSON, dialect: Dialect) -> str | None:
        """To text. Tuples become lists, order of keys is kept."""
        return None if value is None else _encode(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> JSON:
        """From text."""
        if value is None:
            return None
        parsed: JSON = json.loads(value)
        return parsed
