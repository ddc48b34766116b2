"""The database: one writer at a time, any number of readers that do not wait for it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from rafiki.server.store.backend import Backend, Synchronous, TakenOver
from rafiki.server.store.backend import UnusableDatabase as UnusableDatabase
from rafiki.server.store.migrations import upgrade
from rafiki.server.store.sqlite import SqliteBackend


class Database:
    """A database that this server alone writes to. Thread-safe.

    Transactions raise `StorageError` where the database fails: what was written is then lost,
    or, if the connection broke during a commit, perhaps not.

    Args:
        url: Such as "sqlite:////data/rafiki.db" or "postgresql://rafiki@localhost/rafiki".
        synchronous: What a commit waits for.

    Raises:
        UnusableDatabase: There is no such database, or another server holds it.
    """

    def __init__(self, url: str, synchronous: Synchronous = Synchronous.NORMAL) -> None:
        self._backend = _backend(url, synchronous)
        self._readers = self._backend.readers
        self._write_lock = threading.Lock()
        self._writing_thread: int | None = None
        self._write_connection: Connection | None = None
        self._taken_over: TakenOver | None = None
        self._on_taken_over: list[Callable[[], None]] = []

    @classmethod
    def in_folder(cls, folder: Path, synchronous: Synchronous = Synchronous.NORMAL) -> Self:
        """The SQLite database of a data folder."""
        return cls(f"sqlite:///{folder / 'rafiki.db'}", synchronous)

    def migrate(self) -> None:
        """Brings the schema to that of this release; call it before anything else.

        Raises:
            UnusableDatabase: The schema is newer than this release.
        """
        with self.write() as connection:
            try:
                upgrade(connection)
            except LookupError as error:
                raise UnusableDatabase(str(error)) from None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: commits on leaving, rolls back on an exception.

        Waits for its turn; one per thread.
        """
        if self._writing_thread == threading.get_ident():
            raise RuntimeError("this thread has a write transaction open already")
        with self._write_lock:
            self._writing_thread = threading.get_ident()
            try:
                connection = self._write_connection
                if connection is None:
                    connection = self._write_connection = self._open_writer()
                with connection.begin():
                    yield connection
            except DBAPIError as error:
                explained = self._backend.explain(error, is_reading=False)
                if explained is None:
                    raise
                self._drop_writer()
                raise explained from error
            finally:
                self._writing_thread = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent snapshot. It cannot write."""
        if self._taken_over is not None:
            raise self._taken_over
        try:
            with self._readers.begin() as connection:
                yield connection
        except DBAPIError as error:
            explained = self._backend.explain(error, is_reading=True)
            if explained is None:
                raise
            raise explained from error

    def on_taken_over(self, call: Callable[[], None]) -> None:
        """Has `call` called, in any thread, when another server has taken the database over."""
        self._on_taken_over.append(call)

    def verify(self) -> None:
        """Raises StorageError if the database cannot be written now; else nothing changes."""
        with self.write() as connection:
            connection.execute(_NOTHING)

    def close(self) -> None:
        """Closes every connection and lets another server have the database."""
        with self._write_lock:
            if self._write_connection is not None:
                self._write_connection.close()
                self._write_connection = None
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open_writer(self) -> Connection:
        if self._taken_over is not None:
            raise self._taken_over
        try:
            return self._backend.open_writer()
        except TakenOver as error:
            self._taken_over = error
            for call in self._on_taken_over:
                call()
            raise

    def _drop_writer(self) -> None:
        """Closes the write connection for good, whatever state it is in."""
        connection, self._write_connection = self._write_connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


_NOTHING = text("SELECT 1")


def _backend(url: str, synchronous: Synchronous) -> Backend:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UnusableDatabase(
            f"{url!r} is no database URL; one looks like sqlite:////data/rafiki.db "
            "or postgresql://user@host/database"
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                rule = "the database must be a file, such as sqlite:////data/rafiki.db"
                raise UnusableDatabase(rule)
            return SqliteBackend(Path(parsed.database), synchronous)
        case "postgresql":
            # psycopg is not installed everywhere.
            from rafiki.server.store.postgresql import PostgresBackend

            return PostgresBackend(parsed, synchronous)
        case other:
            raise UnusableDatabase(
                f"{other} is not supported; use SQLite, such as sqlite:////data/rafiki.db, "
                "or postgresql://user@host/database"
            )
