"""A PostgreSQL server of the tests' own, from the binaries that are installed."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from rafiki.server.store.database import Database
from rafiki.server.store.tables import metadata

# Set where the tests on PostgreSQL may not be skipped.
REQUIRED = "RAFIKI_TEST_POSTGRES"
_OWNER = "rafiki"
# Much faster than a new database from a template.
_EMPTY = "; ".join(
    [
        *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)),
        "ALTER SEQUENCE changes_id_seq RESTART",
    ]
)


class PostgresServer:
    """A server that listens on a socket in a folder of its own, and waits for no disk.

    Its files belong to the user `postgres` where the tests run as root, as PostgreSQL refuses
    to be that.
    """

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._idle: list[str] = []
        # Without HOME and the like, which are another's.
        self._as_owner = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            self._as_owner += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._run(
            *("initdb", "--pgdata", str(folder / "data"), "--username", _OWNER),
            *("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"),
        )

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
        }
        flags = [part for pair in settings.items() for part in ("-c", "=".join(pair))]
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._as_owner,
                    str(self._binaries / "postgres"),
                    *("-D", str(self.folder / "data"), *flags),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        for _ in range(600):
            if self._process.poll() is not None:
                break
            try:
                self._connect().close()
                return
            except psycopg.OperationalError:
                try:
                    self._process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
        text = Path(log.name).read_text()
        self.stop()
        raise RuntimeError(f"PostgreSQL does not start: {text}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ends the server: SIGINT ends its sessions, SIGQUIT is as a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://{_OWNER}@/{database}?host={self.folder}"

    def create_database(self) -> str:
        """Creates a database without tables; returns its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    @contextmanager
    def database(self) -> Iterator[str]:
        """The name of a database with empty tables, which is used again."""
        if self._idle:
            name = self._idle.pop()
        else:
            name = self.create_database()
            with Database(self.url(name)) as database:
                database.migrate()
        yield name
        self.execute(_EMPTY, name)
        self._idle.append(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Runs a statement of the test; returns its rows, if it has any."""
        with self._connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(host=str(self.folder), user=_OWNER, dbname=database, autocommit=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_owner, str(self._binaries / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A running server; skips the test, or fails it, where none is installed."""
    binaries = _find_binaries()
    if binaries is None:
        text = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(text)
        pytest.skip(text)
    folder = Path(tempfile.mkdtemp(prefix="rafiki-postgres-"))
    try:
        server = PostgresServer(folder, binaries)
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # nothing is worth a checkpoint
    finally:
        shutil.rmtree(folder)
        folder.with_name(f"{folder.name}.log").unlink(missing_ok=True)


def _find_binaries() -> Path | None:
    """Where initdb and postgres are; Debian keeps them out of the path."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4])
    )
    return versions[-1].parent if versions else None
