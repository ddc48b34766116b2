"""SQLite: one file in WAL mode, held by a lock beside it."""

import fcntl
import shutil
import sqlite3
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from rafiki.server.domain.errors import StorageError, StorageFull, StorageUnavailable
from rafiki.server.store.backend import Synchronous, UnusableDatabase
from rafiki.server.store.driver import execute

# Only a stranger can hold the write lock: the server's own writers take turns.
BUSY_TIMEOUT_S = 10.0
_CACHED_STATEMENTS = 512
# Below it, an error of the disk is taken for a lack of room.
_LITTLE_ROOM_BYTES = 1 << 20

# The primary result codes that mean that the storage fails, not the statement.
_FAILURES = {
    sqlite3.SQLITE_BUSY: "another program holds the lock of the database",
    sqlite3.SQLITE_LOCKED: "another program holds the lock of the database",
    sqlite3.SQLITE_NOMEM: "the server is out of memory",
    sqlite3.SQLITE_READONLY: "the database cannot be written",
    sqlite3.SQLITE_IOERR: "the server's disk fails",
    sqlite3.SQLITE_CORRUPT: "the database is damaged",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_NOTADB: "the database is damaged",
    sqlite3.SQLITE_PROTOCOL: "another program holds the lock of the database",
}


class SqliteBackend:
    """See `Backend`.

    sqlite3's own handling of transactions is off (`isolation_level = None`): SQLAlchemy's
    begin event emits BEGIN IMMEDIATE for writers, who thus never fail halfway for want of
    the lock, and BEGIN for readers, who each see one snapshot. See "Enabling Non-Legacy
    SQLite Transactional Modes" in SQLAlchemy's documentation of pysqlite.

    Args:
        path: The file; it is created, with its folder, if need be.
        synchronous: NORMAL: a commit survives the death of the process at once, that of the
            machine after the next checkpoint of the log.

    Raises:
        UnusableDatabase: Another server holds the file, or it cannot be written.
    """

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._path = path
        self._synchronous = synchronous
        self._held = hold(path.with_name(path.name + ".lock"))
        self._readers = self._engine(begin="BEGIN", is_query_only=True)
        self._writers = self._engine(begin="BEGIN IMMEDIATE", is_query_only=False)
        try:
            with self._writers.begin():
                pass
        except DBAPIError as error:
            self.close()
            raise _unwritable(path, str(error.orig)) from None

    @property
    def readers(self) -> Engine:
        """See `Backend`."""
        return self._readers

    def open_writer(self) -> Connection:
        """See `Backend`."""
        return self._writers.connect()

    def explain(self, error: DBAPIError, *, is_reading: bool) -> StorageError | None:
        """See `Backend`."""
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return StorageFull()
        if code == sqlite3.SQLITE_IOERR and self._has_little_room():
            return StorageFull()  # as SQLite says it where it maps or extends its files
        if is_reading and code == sqlite3.SQLITE_READONLY:
            return None  # a reader that writes is a mistake of the program
        failure = _FAILURES.get(code)
        return None if failure is None else StorageUnavailable(f"{failure} ({error.orig})")

    def close(self) -> None:
        """See `Backend`."""
        self._readers.dispose()
        self._writers.dispose()
        self._held.close()

    def _engine(self, *, begin: str, is_query_only: bool) -> Engine:
        engine = create_engine(
            f"sqlite:///{self._path}",
            connect_args={"timeout": BUSY_TIMEOUT_S, "cached_statements": _CACHED_STATEMENTS},
            pool_size=8,
            max_overflow=-1,
        )

        def on_connect(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
            driver: Any = connection
            driver.isolation_level = None
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {self._synchronous}")
            cursor.execute("PRAGMA foreign_keys = ON")
            if is_query_only:
                cursor.execute("PRAGMA query_only = ON")
            cursor.close()

        def on_begin(connection: Connection) -> None:
            execute(connection, begin)

        event.listen(engine, "connect", on_connect)
        event.listen(engine, "begin", on_begin)
        return engine

    def _has_little_room(self) -> bool:
        return shutil.disk_usage(self._path.parent).free < _LITTLE_ROOM_BYTES


def hold(path: Path) -> BinaryIO:
    """The open file at `path`, for this server alone until it is closed or the process ends.

    Raises:
        UnusableDatabase: Another server has it, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")
    except OSError as error:
        raise _unwritable(path.parent, error.strerror or str(error)) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UnusableDatabase(
            f"another server is using {path.parent}; stop it or choose another data folder"
        ) from None
    return file


def _unwritable(place: Path, reason: str) -> UnusableDatabase:
    return UnusableDatabase(f"{place} cannot be written: {reason}; choose another data folder")
