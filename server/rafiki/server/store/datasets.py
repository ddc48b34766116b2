"""Rows of `datasets`."""

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from rafiki.resources import Dataset, Digest
from rafiki.server.domain.names import DatasetName
from rafiki.server.store.paging import newest_first
from rafiki.server.store.tables import datasets

_FIND = select(datasets).where(datasets.c.id == bindparam("id"))


def insert_dataset(connection: Connection, name: DatasetName, dataset: Dataset) -> None:
    """Adds a data set under `name`, whatever `dataset.name` says. Its blob must be recorded."""
    connection.execute(
        insert(datasets),
        {
            "id": name.dataset,
            "display_name": dataset.display_name,
            "task": dataset.task,
            "sha256": dataset.digest.sha256,
            "size_bytes": dataset.digest.size_bytes,
            "owner": dataset.owner,
            "create_time": dataset.create_time,
        },
    )


def find_dataset(connection: Connection, name: DatasetName) -> Dataset | None:
    """The data set called `name`, or None."""
    row = connection.execute(_FIND, {"id": name.dataset}).mappings().one_or_none()
    return None if row is None else _dataset(row)


def list_datasets(
    connection: Connection, *, task: str, limit: int, after: DatasetName | None
) -> Sequence[Dataset]:
    """At most `limit` data sets, newest first, those after `after` if there is one.

    An empty `task` means any.
    """
    last = None
    if after is not None:
        last = connection.execute(_FIND, {"id": after.dataset}).mappings().one_or_none()
        if last is None:
            return []
    query = newest_first(select(datasets), (datasets.c.create_time, datasets.c.id), last)
    if task:
        query = query.where(datasets.c.task == task)
    return [_dataset(row) for row in connection.execute(query.limit(limit)).mappings()]


def _dataset(row: RowMapping) -> Dataset:
    return Dataset(
        name=str(DatasetName(row["id"])),
        display_name=row["display_name"],
        task=row["task"],
        digest=Digest(row["sha256"], row["size_bytes"]),
        owner=row["owner"],
        create_time=row["create_time"],
    )
