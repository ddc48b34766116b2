"""SQLite databases as files, for whoever runs a server: copies, and what is in them.

None of it waits for the server that uses the file, or makes it wait.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from rafiki.resources import Digest

_BUSY_TIMEOUT_S = 30
_MAX_PROBLEMS = 5
_NAMED_BLOBS = """
    SELECT source_sha256, source_size_bytes FROM models
    UNION SELECT sha256, size_bytes FROM datasets
    UNION SELECT sha256, size_bytes FROM checkpoint_tensors
"""
_COUNTED = ("train_jobs", "studies", "trials", "checkpoints", "models", "datasets")


@contextmanager
def opened(path: Path, *, is_copy: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing; that to a copy leaves no files beside it."""
    # `mode=rw` rather than `ro`: SQLite may have to recover the log of a server that died.
    mode = "immutable=1" if is_copy else "mode=rw"
    uri = f"file:{quote(str(path.absolute()))}?{mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA query_only = ON")
        yield connection
    finally:
        connection.close()


def copy_database(source: Path, target: Path) -> None:
    """Copies a database that may be in use, as of one moment."""
    with opened(source) as connection:
        copy = sqlite3.connect(target)
        try:
            connection.backup(copy)
        finally:
            copy.close()


def named_blobs(connection: sqlite3.Connection) -> list[Digest]:
    """The blobs that models, data sets and checkpoints name, each once."""
    return [Digest(sha256, size_bytes) for sha256, size_bytes in connection.execute(_NAMED_BLOBS)]


def revision_of(connection: sqlite3.Connection) -> str:
    """The revision of the schema; "" if there is none."""
    try:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError:
        return ""
    return ", ".join(sorted(row[0] for row in rows))


def row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows the main tables have."""
    counts = {}
    for table in _COUNTED:
        counts[table] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return counts


def integrity_problems(connection: sqlite3.Connection) -> Sequence[str]:
    """What SQLite finds wrong, the first few; none in a sound database."""
    try:
        found = [row[0] for row in connection.execute(f"PRAGMA quick_check({_MAX_PROBLEMS})")]
        problems = [] if found == ["ok"] else found
        for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
            problems.append(f"row {row} of {table} names what is not in {parent}")
            if len(problems) >= _MAX_PROBLEMS:
                break
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return problems


def latest_time(connection: sqlite3.Connection) -> datetime | None:
    """When the last change was recorded."""
    latest = connection.execute("SELECT time FROM changes ORDER BY id DESC LIMIT 1").fetchone()
    return None if latest is None else datetime.fromtimestamp(latest[0] / 1e6, UTC)
