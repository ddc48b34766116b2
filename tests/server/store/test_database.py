"""The database: transactions, its lock, migrations."""

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.schema import SchemaItem

from rafiki.server.domain.clock import Clock
from rafiki.server.store.database import Database, UnusableDatabase
from rafiki.server.store.tables import blobs, datasets, metadata

ROW = {"sha256": "0" * 64, "size_bytes": 1}
COUNT = select(func.count()).select_from(blobs)


def test_a_write_is_seen_once_its_block_ends(database: Database, clock: Clock) -> None:
    with database.write() as connection:
        connection.execute(insert(blobs), ROW | {"create_time": clock()})
        with database.read() as reader:
            assert reader.scalar(COUNT) == 0
    with database.read() as reader:
        assert reader.scalar(COUNT) == 1


def test_an_exception_rolls_a_write_back(database: Database, clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(insert(blobs), ROW | {"create_time": clock()})
        raise ZeroDivisionError
    with database.read() as reader:
        assert reader.scalar(COUNT) == 0


def test_a_reader_keeps_its_snapshot(database: Database, clock: Clock) -> None:
    with database.read() as reader:
        assert reader.scalar(COUNT) == 0
        with database.write() as connection:
            connection.execute(insert(blobs), ROW | {"create_time": clock()})
        assert reader.scalar(COUNT) == 0


def test_a_reader_cannot_write(database: Database, clock: Clock) -> None:
    with pytest.raises(DBAPIError, match=r"read-?only"), database.read() as reader:
        reader.execute(insert(blobs), ROW | {"create_time": clock()})


def test_writers_take_turns(database: Database, clock: Clock) -> None:
    def count_up(first: int) -> None:
        for number in range(first, first + 20):
            with database.write() as connection:
                count = connection.scalar(COUNT)
                row = {"sha256": f"{number:064}", "size_bytes": count, "create_time": clock()}
                connection.execute(insert(blobs), row)

    threads = [threading.Thread(target=count_up, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with database.read() as reader:
        assert sorted(reader.scalars(select(blobs.c.size_bytes))) == list(range(60))


def test_a_second_transaction_in_a_thread_is_a_mistake(database: Database) -> None:
    with database.write(), pytest.raises(RuntimeError, match="open already"):
        with database.write():
            pass


def test_foreign_keys_are_enforced(database: Database, clock: Clock) -> None:
    row = {
        "id": "0123abcd",
        "display_name": "d",
        "task": "T",
        "sha256": "0" * 64,
        "size_bytes": 1,
        "owner": "users/local",
        "create_time": clock(),
    }
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(insert(datasets), row)


def test_times_come_back_in_utc_to_the_microsecond(database: Database, clock: Clock) -> None:
    time = clock().replace(microsecond=123_457)
    with database.write() as connection:
        connection.execute(insert(blobs), ROW | {"create_time": time})
    with database.read() as reader:
        assert reader.scalar(select(blobs.c.create_time)) == time
        assert isinstance(reader.scalar(text("SELECT create_time FROM blobs")), int)


def test_migrations_give_what_the_tables_declare(database: Database) -> None:
    with database.read() as connection:
        options = {"compare_type": True, "include_object": _is_of_schema}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def _is_of_schema(
    item: SchemaItem, name: str | None, kind: str, is_reflected: bool, compared: SchemaItem | None
) -> bool:
    return name != "rafiki_holder"


def test_migrating_again_changes_nothing(database: Database, clock: Clock) -> None:
    with database.write() as connection:
        connection.execute(insert(blobs), ROW | {"create_time": clock()})
    database.migrate()
    with database.read() as reader:
        assert reader.scalar(COUNT) == 1


def test_a_second_server_is_refused_while_the_first_holds_the_database(database_url: str) -> None:
    with Database(database_url):
        with pytest.raises(UnusableDatabase, match=r"another server.* is using"):
            Database(database_url)
    with Database(database_url) as database:
        database.migrate()
