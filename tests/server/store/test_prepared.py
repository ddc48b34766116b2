"""Statements given straight to the driver."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from rafiki.server.store.database import Database
from rafiki.server.store.prepared import Prepared
from rafiki.server.store.tables import request_ids

NOW = datetime(2026, 5, 4, 3, 2, 1, 678, tzinfo=UTC)
ROW = {
    "owner": "users/local",
    "method": "Create",
    "request_id": "1",
    "resource": "models/1",
    "request_hash": "h",
    "create_time": NOW,
}
INSERT = Prepared(insert(request_ids))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.in_folder(tmp_path) as database:
        database.migrate()
        yield database


def test_values_are_stored_as_their_columns_types_say(database: Database) -> None:
    with database.write() as connection:
        assert INSERT.execute(connection, ROW) == 1
    with database.read() as connection:
        row = connection.execute(select(request_ids)).one()
    assert row._asdict() == ROW


def test_conditions_take_parameters_and_what_the_statement_holds(database: Database) -> None:
    change = Prepared(
        update(request_ids).where(
            request_ids.c.method == "Create", request_ids.c.request_id == bindparam("key")
        )
    )
    with database.write() as connection:
        INSERT.execute(connection, ROW)
        INSERT.execute(connection, ROW | {"method": "Delete"})
        assert change.execute(connection, {"resource": "models/2"}, {"key": "2"}) == 0
        assert change.execute(connection, {"resource": "models/2"}, {"key": "1"}) == 1
        assert change.execute(connection, {"request_hash": "i", "create_time": NOW}, {"key": "1"})
    with database.read() as connection:
        rows = {row.method: row.resource for row in connection.execute(select(request_ids))}
    assert rows == {"Create": "models/2", "Delete": "models/1"}


def test_a_refusal_is_the_error_that_sqlalchemy_raises_elsewhere(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        INSERT.execute(connection, ROW)
        INSERT.execute(connection, ROW)
    with database.read() as connection:
        assert connection.execute(select(request_ids)).first() is None


def test_a_value_that_is_missing_is_an_error_not_a_null(database: Database) -> None:
    change = Prepared(update(request_ids).where(request_ids.c.request_id == bindparam("key")))
    with database.write() as connection, pytest.raises(KeyError):
        change.execute(connection, {"resource": "models/2"})
