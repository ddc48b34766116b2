"""PostgreSQL: its sessions, its lock, what becomes of it when the server goes away."""

import signal
from collections.abc import Iterator

import pytest
from sqlalchemy import insert, select, text
from tests.postgres import PostgresServer, running_postgres

from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import StorageUnavailable
from rafiki.server.store import postgresql
from rafiki.server.store.backend import Synchronous, TakenOver, UnusableDatabase
from rafiki.server.store.database import Database
from rafiki.server.store.tables import blobs

pytestmark = pytest.mark.slow

ROW = {"sha256": "0" * 64, "size_bytes": 1}
SESSIONS = "FROM pg_stat_activity WHERE application_name = 'rafiki-server'"


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database with empty tables."""
    with postgres.database() as name:
        yield name


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that finds the database held does not wait long for it."""
    monkeypatch.setattr(postgresql, "LOCK_TIMEOUT_MS", 100)


def end_sessions(postgres: PostgresServer, name: str) -> None:
    """Ends all sessions of Rafiki in a database, and waits for that."""
    condition = f"{SESSIONS} AND datname = '{name}'"
    postgres.execute(f"SELECT pg_terminate_backend(pid, 10000) {condition}")


@pytest.mark.parametrize(
    ("synchronous", "setting"),
    [(Synchronous.FULL, "on"), (Synchronous.NORMAL, "local"), (Synchronous.OFF, "off")],
)
def test_what_a_commit_waits_for_is_a_setting(
    postgres: PostgresServer, name: str, synchronous: Synchronous, setting: str
) -> None:
    with Database(postgres.url(name), synchronous) as database, database.write() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == setting


def test_readers_and_writers_are_isolated_whatever_the_database_prefers(
    postgres: PostgresServer, name: str
) -> None:
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_isolation TO serializable")
    try:
        with Database(postgres.url(name)) as database:
            with database.write() as connection:
                assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
            with database.read() as connection:
                assert connection.scalar(text("SHOW transaction_isolation")) == "repeatable read"
                assert connection.scalar(text("SHOW transaction_read_only")) == "on"
    finally:
        postgres.execute(f"ALTER DATABASE {name} RESET ALL")


def test_text_may_hold_what_postgresql_does_not_know(
    postgres: PostgresServer, name: str, clock: Clock
) -> None:
    with Database(postgres.url(name)) as database:
        with database.write() as connection:
            row = ROW | {"sha256": "a\0b", "create_time": clock()}
            connection.execute(insert(blobs), row)
        with database.read() as connection:
            assert connection.scalar(select(blobs.c.sha256)) == "a\u2400b"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://localhost:1/rafiki", "localhost:1/rafiki cannot be used: .*refused"),
        ("postgresql://rafiki:secret@localhost:1/rafiki", r"rafiki:\*\*\*@localhost:1/rafiki"),
    ],
)
def test_a_database_out_of_reach_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(UnusableDatabase, match=reason) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_a_missing_database_is_refused_with_the_reason(postgres: PostgresServer) -> None:
    with pytest.raises(UnusableDatabase, match='database "nowhere" does not exist'):
        Database(postgres.url("nowhere"))


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: PostgresServer) -> None:
    name = "latin"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(UnusableDatabase, match="encoding LATIN1"):
        Database(postgres.url(name))


def test_a_refused_server_is_told_who_holds_the_database(
    postgres: PostgresServer, name: str, impatient: None
) -> None:
    with Database(postgres.url(name)):
        with pytest.raises(UnusableDatabase, match=r"another server, process \d+ on .* is using"):
            Database(postgres.url(name))


def test_a_server_goes_on_after_its_sessions_were_ended(
    postgres: PostgresServer, name: str, clock: Clock, impatient: None
) -> None:
    with Database(postgres.url(name)) as database:
        with database.read() as connection:
            assert connection.execute(blobs.select()).all() == []
        end_sessions(postgres, name)
        with pytest.raises(StorageUnavailable):
            database.verify()
        with pytest.raises(StorageUnavailable), database.read() as connection:
            connection.execute(blobs.select())
        with database.write() as connection:
            connection.execute(insert(blobs), ROW | {"create_time": clock()})
        with database.read() as connection:
            assert len(connection.execute(blobs.select()).all()) == 1
        # The lock is its own again.
        with pytest.raises(UnusableDatabase, match="another server"):
            Database(postgres.url(name))


def test_a_transaction_whose_session_ends_is_rolled_back(
    postgres: PostgresServer, name: str, clock: Clock
) -> None:
    with Database(postgres.url(name)) as database:
        with pytest.raises(StorageUnavailable), database.write() as connection:
            connection.execute(insert(blobs), ROW | {"create_time": clock()})
            end_sessions(postgres, name)
        with database.read() as connection:
            assert connection.execute(blobs.select()).all() == []


def test_a_server_writes_no_more_once_another_has_held_the_database(
    postgres: PostgresServer, name: str, clock: Clock
) -> None:
    told: list[str] = []
    with Database(postgres.url(name)) as first:
        first.on_taken_over(lambda: told.append("taken over"))
        with first.write() as connection:
            connection.execute(insert(blobs), ROW | {"create_time": clock()})
        end_sessions(postgres, name)
        with Database(postgres.url(name)) as second, second.write() as connection:
            connection.execute(blobs.delete())
        # The second has gone, but what the first remembers is not true any more.
        with pytest.raises(StorageUnavailable):
            first.verify()
        assert told == []
        for _ in range(2):
            with pytest.raises(TakenOver, match="another server, process"):
                first.verify()
            with pytest.raises(TakenOver), first.read():
                raise AssertionError("what it reads does not fit what it remembers")
        assert told == ["taken over"]


def test_a_server_writes_no_more_while_another_holds_the_database(
    postgres: PostgresServer, name: str, impatient: None
) -> None:
    with Database(postgres.url(name)) as first:
        first.verify()
        end_sessions(postgres, name)
        with Database(postgres.url(name)):
            with pytest.raises(StorageUnavailable):
                first.verify()
            with pytest.raises(TakenOver, match=r"another server, process .* is using"):
                first.verify()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_the_database_may_go_away_and_come_back(number: signal.Signals, clock: Clock) -> None:
    with running_postgres() as server:
        with Database(server.url(server.create_database())) as database:
            database.migrate()
            with database.write() as connection:
                connection.execute(insert(blobs), ROW | {"create_time": clock()})
            server.stop(number)
            for _ in range(3):
                with pytest.raises(StorageUnavailable):
                    database.verify()
                with pytest.raises(StorageUnavailable), database.read():
                    pass
            server.start()
            with database.write() as connection:
                row = ROW | {"sha256": "1" * 64, "create_time": clock()}
                connection.execute(insert(blobs), row)
            with database.read() as connection:
                assert len(connection.execute(blobs.select()).all()) == 2
