"""The database: one writer at a time, any number of readers that do not wait for it."""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from rafiki.server.store.migrations import upgrade

_BUSY_TIMEOUT_S = 30
_CACHED_STATEMENTS = 512


class UnusableDatabase(Exception):
    """The database cannot be opened; the message says why and what to do."""


class Database:
    """A SQLite database in WAL mode, held by one server at a time. Thread-safe.

    sqlite3's own handling of transactions is off (`isolation_level = None`): SQLAlchemy's
    begin event emits BEGIN IMMEDIATE for writers, who thus never fail halfway for want of
    the lock, and BEGIN for readers, who each see one snapshot. See "Enabling Non-Legacy
    SQLite Transactional Modes" in SQLAlchemy's documentation of pysqlite.

    `synchronous=NORMAL`: a commit survives the death of the process at once, that of the
    machine after the next checkpoint of the log.

    Args:
        url: A SQLAlchemy URL of a SQLite file, such as "sqlite:////data/rafiki.db".

    Raises:
        UnusableDatabase: It is another kind of URL, or another server holds the file.
    """

    def __init__(self, url: str) -> None:
        path = _sqlite_file(url)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Held, by the open file, until the process ends or `close`.
            self._held = open(path.with_name(path.name + ".lock"), "ab")
        except OSError as error:
            raise UnusableDatabase(
                f"{path.parent} cannot be written: {error.strerror}; choose another data folder"
            ) from None
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._held.close()
            raise UnusableDatabase(
                f"another server is using {path.parent}; stop it or choose another data folder"
            ) from None
        self._readers = _engine(path, begin="BEGIN", query_only=True)
        self._writers = _engine(path, begin="BEGIN IMMEDIATE", query_only=False)
        self._write_lock = threading.Lock()
        self._writing_thread: int | None = None
        self._write_connection: Connection | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """The database of a data folder."""
        return cls(f"sqlite:///{folder / 'rafiki.db'}")

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
                if self._write_connection is None:
                    self._write_connection = self._writers.connect()
                with self._write_connection.begin():
                    yield self._write_connection
            finally:
                self._writing_thread = None

    def read(self) -> AbstractContextManager[Connection]:
        """A read transaction: one consistent snapshot. It cannot write."""
        return self._readers.begin()

    def close(self) -> None:
        """Closes every connection and lets another server have the file."""
        with self._write_lock:
            if self._write_connection is not None:
                self._write_connection.close()
                self._write_connection = None
        self._readers.dispose()
        self._writers.dispose()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _sqlite_file(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UnusableDatabase(
            f"{url!r} is no database URL; one looks like sqlite:////data/rafiki.db"
        ) from None
    backend = parsed.get_backend_name()
    if backend != "sqlite":
        raise UnusableDatabase(
            f"{backend} is not supported by this release; "
            "use SQLite, such as sqlite:////data/rafiki.db"
        )
    if not parsed.database or parsed.database == ":memory:":
        raise UnusableDatabase("the database must be a file, such as sqlite:////data/rafiki.db")
    return Path(parsed.database)


def _engine(path: Path, *, begin: str, query_only: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_TIMEOUT_S, "cached_statements": _CACHED_STATEMENTS},
        pool_size=8,
        max_overflow=-1,
    )

    def on_connect(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        driver: Any = connection
        driver.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if query_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    def on_begin(connection: Connection) -> None:
        # By the driver itself: every transaction begins with it.
        driver: Any = connection.connection.dbapi_connection
        driver.execute(begin)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine
