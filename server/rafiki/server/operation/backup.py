"""Backups of a data folder, taken while a server runs or not.

    {backup}/rafiki.db          the database as of one moment
    {backup}/blobs/ab/abc...    every blob that it names
    {backup}/manifest.json      written last: a folder without it is no backup

Blobs are hard links where the file system allows it: their files never change.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rafiki.resources import Digest
from rafiki.server.domain.blobs import CHUNK_BYTES
from rafiki.server.store.blobs import blob_file
from rafiki.server.store.sqlite_files import (
    copy_database,
    integrity_problems,
    named_blobs,
    opened,
    revision_of,
    row_counts,
)

FORMAT = 1
DATABASE = "rafiki.db"
BLOBS = "blobs"
MANIFEST = "manifest.json"

# A blob may be collected between the copy of the database and its own: then a younger copy
# of the database does not name it any more. One that the next copy names as well is lost.
_TRIES = 10


class BackupError(Exception):
    """A backup cannot be made or restored; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds. `missing` are blobs that the data folder had lost before."""

    format: int
    version: str
    schema: str
    create_time: str
    database_sha256: str
    rows: dict[str, int]
    blob_count: int
    blob_bytes: int
    missing: tuple[str, ...] = ()


def back_up(data_dir: Path, target: Path) -> Manifest:
    """Copies a data folder into a new or empty folder.

    Raises:
        BackupError: It cannot be done.
    """
    source = data_dir / DATABASE
    if not source.is_file():
        raise BackupError(
            f"there is no {DATABASE} in {data_dir}; name the data folder with --data-dir. "
            "A PostgreSQL database is backed up by pg_dump: see docs/running-a-server.md"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} is not empty; name a new folder")
    try:
        return _back_up(data_dir, target)
    except OSError as error:
        raise BackupError(
            f"{error.filename or target}: {error.strerror or error}; {target} is no backup"
        ) from None


def _back_up(data_dir: Path, target: Path) -> Manifest:
    target.mkdir(parents=True, exist_ok=True)
    database, blobs = target / DATABASE, target / BLOBS
    missing: list[Digest] = []
    for _ in range(_TRIES):
        earlier = missing
        database.unlink(missing_ok=True)
        copy_database(data_dir / DATABASE, database)
        with opened(database, is_copy=True) as connection:
            if problems := integrity_problems(connection):
                raise BackupError(
                    f"the database is damaged ({problems[0]}); see rafiki-server check"
                )
            named = named_blobs(connection)
            schema, rows = revision_of(connection), row_counts(connection)
        missing = [digest for digest in named if not place_blob(data_dir / BLOBS, blobs, digest)]
        if not missing or missing == earlier:
            break
    _remove_others(blobs, named)
    os.sync()
    manifest = Manifest(
        format=FORMAT,
        version=version("rafiki"),
        schema=schema,
        create_time=datetime.now(UTC).isoformat(timespec="seconds"),
        database_sha256=sha256_of(database),
        rows=rows,
        blob_count=len(named) - len(missing),
        blob_bytes=sum(x.size_bytes for x in named) - sum(x.size_bytes for x in missing),
        missing=tuple(sorted(digest.sha256 for digest in missing)),
    )
    _write(target / MANIFEST, json.dumps(asdict(manifest), indent=1) + "\n")
    return manifest


def place_blob(source: Path, target: Path, digest: Digest) -> bool:
    """Links or copies a blob between folders of blobs; False if it is not whole there."""
    path, copy = blob_file(source, digest.sha256), blob_file(target, digest.sha256)
    if copy.exists():
        return True
    try:
        if path.stat().st_size != digest.size_bytes:
            return False
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without hard links
            partial = copy.with_suffix(".partial")
            shutil.copyfile(path, partial)
            partial.rename(copy)
    except FileNotFoundError:
        return False
    return True


def sha256_of(path: Path) -> str:
    """The digest of a file."""
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hashed.update(chunk)
    return hashed.hexdigest()


def _remove_others(blobs: Path, named: Sequence[Digest]) -> None:
    """Removes what only an earlier copy of the database named."""
    kept = {digest.sha256 for digest in named}
    for path in blobs.glob("*/*"):
        if path.name not in kept:
            path.unlink()


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
