"""Lists that are read newest first, page by page."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, RowMapping, Select, tuple_

_Row = TypeVar("_Row", bound=tuple[Any, ...])


def newest_first(
    query: Select[_Row], key: Sequence[ColumnElement[Any]], after: RowMapping | None
) -> Select[_Row]:
    """`query` in descending order of the columns in `key`, only what follows the row `after`."""
    query = query.order_by(*(column.desc() for column in key))
    if after is None:
        return query
    values = tuple_(*(after[column] for column in key), types=[column.type for column in key])
    return query.where(tuple_(*key) < values)
