"""SQLite: its settings, its lock, its errors, copies of it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, text

from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import StorageUnavailable
from rafiki.server.store import sqlite
from rafiki.server.store.backend import Synchronous
from rafiki.server.store.database import Database, UnusableDatabase
from rafiki.server.store.tables import blobs, metadata

ROW = {"sha256": "0" * 64, "size_bytes": 1}


@pytest.fixture(scope="module")
def dialect() -> str:
    return "sqlite"


def test_the_log_is_written_ahead_and_survives_a_kill(database: Database) -> None:
    with database.write() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA synchronous")) == 1
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
        assert connection.scalar(text("PRAGMA busy_timeout")) == 10_000


@pytest.mark.parametrize(
    ("synchronous", "number"),
    [(Synchronous.FULL, 2), (Synchronous.NORMAL, 1), (Synchronous.OFF, 0)],
)
def test_what_a_commit_waits_for_is_a_setting(
    tmp_path: Path, synchronous: Synchronous, number: int
) -> None:
    with Database.in_folder(tmp_path, synchronous) as database, database.write() as connection:
        assert connection.scalar(text("PRAGMA synchronous")) == number


def test_migrations_give_the_same_sql_as_the_tables(database: Database) -> None:
    # What compare_metadata does not see: foreign keys' options, WITHOUT ROWID, AUTOINCREMENT.
    listing = text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'")
    declared = create_engine("sqlite://")
    metadata.create_all(declared)
    with database.read() as migrated, declared.connect() as connection:
        by_migrations = {name: _words(sql) for name, sql in migrated.execute(listing)}
        by_tables = {name: _words(sql) for name, sql in connection.execute(listing)}
    declared.dispose()
    assert by_migrations == by_tables


def _words(sql: str | None) -> list[str]:
    # The order of constraints in a table is free.
    return sorted((sql or "").replace(",", " ").split())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://localhost/rafiki", "mysql is not supported"),
        ("sqlite://", "must be a file"),
        ("rafiki.db", "no database URL"),
        ("sqlite:////proc/nowhere/rafiki.db", "cannot be written"),
    ],
)
def test_an_unusable_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(UnusableDatabase, match=reason):
        Database(url)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rafiki.db"
    path.write_text("a shopping list" * 100)
    with pytest.raises(UnusableDatabase, match="not a database"):
        Database.in_folder(tmp_path)
    assert path.read_text() == "a shopping list" * 100


def test_a_lock_of_another_program_is_an_error_until_it_is_let_go(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.1)
    with Database.in_folder(tmp_path) as database:
        database.migrate()
        with closing(sqlite3.connect(tmp_path / "rafiki.db", isolation_level=None)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="another program"):
                with database.write():
                    raise AssertionError("the lock is another's")
            with database.read() as connection:
                assert connection.scalars(blobs.select()).all() == []
        with database.write() as connection:
            connection.execute(insert(blobs), ROW | {"create_time": clock()})
        with database.read() as connection:
            assert len(connection.execute(blobs.select()).all()) == 1
