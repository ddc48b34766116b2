"""PostgreSQL through psycopg, held by an advisory lock of the session that writes."""

import os
import secrets
import socket
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from rafiki.server.domain.errors import StorageError, StorageFull, StorageUnavailable
from rafiki.server.store.backend import Synchronous, TakenOver, UnusableDatabase

try:
    from psycopg import IsolationLevel
    from psycopg.types.string import StrDumperUnknown
except ImportError as missing:
    raise UnusableDatabase(
        f"PostgreSQL needs psycopg ({missing}); install rafiki[postgres], or use SQLite"
    ) from None

# Of the advisory lock, which is one per database.
_LOCK = int.from_bytes(b"rafiki")
# A server that was killed a moment ago may still be in the middle of a statement.
LOCK_TIMEOUT_MS = 3000

_COMMITS = {Synchronous.FULL: "on", Synchronous.NORMAL: "local", Synchronous.OFF: "off"}

# A peer that is gone without a word is noticed by either side within half a minute.
_KEEPALIVES = {"idle": 10, "interval": 5, "count": 3}
_CONNECT_TIMEOUT_S = 5
_SEND_TIMEOUT_MS = 20_000

# Who holds the database. Not a part of the schema, as it must be read before that is known.
_CREATE_HOLDER = text(
    "CREATE TABLE IF NOT EXISTS rafiki_holder (token text NOT NULL, description text NOT NULL)"
)
_FORGET_HOLDER = text("DELETE FROM rafiki_holder")
_SET_HOLDER = text("INSERT INTO rafiki_holder VALUES (:token, :description)")
_GET_HOLDER = text("SELECT token, description FROM rafiki_holder")
_HAS_HOLDER = text("SELECT to_regclass('rafiki_holder') IS NOT NULL")
_TAKE_LOCK = text(f"SELECT pg_advisory_lock({_LOCK})")

_LOCK_NOT_AVAILABLE = "55P03"
_READ_ONLY = "25006"
# SQLSTATEs that mean that the storage fails, not the statement; or their first two characters.
_FULL = "53100"
_FAILURES = {
    "08": "the connection to the database is broken",
    "28": "the database does not let the server in any more",
    "3D": "the database is gone",
    "40": "another program interferes with the database",
    "53": "the database is short of resources",
    "57": "the database is going down or coming up, or an operator has interfered",
    "58": "the database fails",
    "XX": "the database fails, perhaps as it is damaged",
    _LOCK_NOT_AVAILABLE: "another program holds a lock of the database",
    _READ_ONLY: "the database takes no writes now",
}


class _Text(StrDumperUnknown):
    """PostgreSQL's text has no NUL. It is stored as the picture of one, U+2400."""

    def dump(self, obj: str) -> bytes | bytearray | memoryview | None:
        return super().dump(obj.replace("\0", "\u2400") if "\0" in obj else obj)


class PostgresBackend:
    """See `Backend`.

    The session that writes holds an advisory lock. With the session the lock is lost, and
    whatever it had not committed: none but its holder can write. A new session takes the lock
    again, and goes on only if no other server has held it meanwhile: every server leaves a
    token of its own in `rafiki_holder`.

    Args:
        url: Its password may be left to libpq's environment or password file.
        synchronous: See docs/database.md.

    Raises:
        UnusableDatabase: It cannot be reached or used, or another server holds it.
    """

    def __init__(self, url: URL, synchronous: Synchronous) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        self._commits = _COMMITS[synchronous]
        self._token = secrets.token_hex(16)
        self._is_held = False  # whether this server has ever held the database
        self._readers = self._engine(is_read_only=True)
        self._writers = self._engine(is_read_only=False)
        # The first session; `open_writer` gives it away.
        self._opened: Connection | None = None
        try:
            self._opened = self._open()
        except DBAPIError as error:
            self.close()
            raise UnusableDatabase(f"{self} cannot be used: {_line(error)}") from None
        except (TakenOver, UnusableDatabase) as error:
            self.close()
            raise UnusableDatabase(str(error)) from None
        self._is_held = True

    @property
    def readers(self) -> Engine:
        """See `Backend`."""
        return self._readers

    def open_writer(self) -> Connection:
        """See `Backend`."""
        opened, self._opened = self._opened, None
        return opened if opened is not None else self._open()

    def explain(self, error: DBAPIError, *, is_reading: bool) -> StorageError | None:
        """See `Backend`."""
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            # Of libpq's own errors: no server, or no answer.
            if error.connection_invalidated or _is_of_connection(error):
                return StorageUnavailable(f"{self} cannot be reached ({_line(error)})")
            return None
        if state == _FULL:
            return StorageFull()
        if is_reading and state == _READ_ONLY:
            return None  # a reader that writes is a mistake of the program
        failure = _FAILURES.get(state) or _FAILURES.get(state[:2])
        return None if failure is None else StorageUnavailable(f"{failure} ({_line(error)})")

    def close(self) -> None:
        """See `Backend`."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        self._readers.dispose()
        self._writers.dispose()

    def __str__(self) -> str:
        url = self._url.set(drivername="postgresql", query={})
        return url.render_as_string(hide_password=True)

    def _open(self) -> Connection:
        """A session that holds the lock, and the token of this server with it."""
        connection = self._writers.connect()
        try:
            self._take_lock(connection)
            with connection.begin():
                if not self._is_held:
                    _check(connection)
                    connection.execute(_CREATE_HOLDER)
                    connection.execute(_FORGET_HOLDER)
                    values = {"token": self._token, "description": _description()}
                    connection.execute(_SET_HOLDER, values)
                elif (holder := connection.execute(_GET_HOLDER).one()).token != self._token:
                    raise TakenOver(f"another server, {holder.description}, has used {self}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_lock(self, connection: Connection) -> None:
        try:
            with connection.begin():
                connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
                connection.execute(_TAKE_LOCK)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            with connection.begin():
                known = connection.execute(_HAS_HOLDER).scalar()
                holder = connection.execute(_GET_HOLDER).one_or_none() if known else None
            if holder is not None and holder.token == self._token:
                # A session of ours whose end PostgreSQL has not noticed.
                raise
            who = f", {holder.description}," if holder is not None else ""
            raise TakenOver(
                f"another server{who} is using {self}; stop it or choose another database"
            ) from None

    def _engine(self, *, is_read_only: bool) -> Engine:
        arguments = {
            **{f"keepalives_{name}": value for name, value in _KEEPALIVES.items()},
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "tcp_user_timeout": _SEND_TIMEOUT_MS,
            "client_encoding": "utf8",
            "application_name": "rafiki-server",
        }
        # The writer is no pool's: closed, its session ends and the lock with it.
        pool: dict[str, Any] = {"pool_size": 8, "max_overflow": -1}
        if not is_read_only:
            pool = {"poolclass": NullPool}
        engine = create_engine(self._url, connect_args=arguments, **pool)

        def on_connect(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
            driver: Any = connection
            driver.adapters.register_dumper(str, _Text)
            settings = {"synchronous_commit": self._commits}
            settings |= {f"tcp_keepalives_{name}": str(x) for name, x in _KEEPALIVES.items()}
            driver.autocommit = True
            cursor = connection.cursor()
            for name, value in settings.items():
                cursor.execute(f"SET {name} = {value}")
            cursor.close()
            driver.autocommit = False
            level = (
                IsolationLevel.REPEATABLE_READ if is_read_only else IsolationLevel.READ_COMMITTED
            )
            driver.isolation_level = level
            driver.read_only = is_read_only

        event.listen(engine, "connect", on_connect)
        return engine


def _check(connection: Connection) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise UnusableDatabase(
            f"the database has the encoding {encoding}; create one with the encoding UTF8"
        )


def _description() -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}"


def _is_of_connection(error: DBAPIError) -> bool:
    return type(error.orig).__name__ in ("OperationalError", "InterfaceError", "ConnectionTimeout")


def _line(error: DBAPIError) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error.orig).split())
