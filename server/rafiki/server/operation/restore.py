"""A data folder from a backup, verified to the last byte before it gets its name."""

import json
import os
import shutil
from pathlib import Path

from rafiki.server.operation.backup import (
    BLOBS,
    DATABASE,
    FORMAT,
    MANIFEST,
    BackupError,
    Manifest,
    place_blob,
    sha256_of,
)
from rafiki.server.store.blobs import blob_file
from rafiki.server.store.migrations import known_revisions
from rafiki.server.store.sqlite_files import (
    integrity_problems,
    named_blobs,
    opened,
    row_counts,
)


def restore(source: Path, data_dir: Path) -> Manifest:
    """Makes a data folder, new or empty, of a backup.

    Raises:
        BackupError: The folder is in use, or the backup incomplete, corrupt or too new.
    """
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise BackupError(f"{data_dir} is not empty; name a new folder with --data-dir")
    manifest = _manifest(source)
    made = data_dir.with_name(data_dir.name + ".restoring")
    if made.exists():
        raise BackupError(f"{made} is in the way: another restore, or what is left of one")
    try:
        made.mkdir(parents=True)
    except OSError as error:
        raise BackupError(f"{made} cannot be made: {error.strerror}") from None
    try:
        _fill(made, source, manifest)
        os.sync()
        if data_dir.exists():
            data_dir.rmdir()
        made.rename(data_dir)
    except OSError as error:
        raise BackupError(f"{error.filename or made}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return manifest


def _manifest(source: Path) -> Manifest:
    path = source / MANIFEST
    try:
        fields = json.loads(path.read_text("utf-8"))
        if fields["format"] != FORMAT:
            raise BackupError(f"{source} has another form of backup: {fields['format']}")
        manifest = Manifest(**fields | {"missing": tuple(fields["missing"])})
    except FileNotFoundError:
        raise BackupError(f"{source} is no backup, or an unfinished one: no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from None
    if manifest.schema not in known_revisions():
        raise BackupError(
            f"{source} has the schema {manifest.schema}, which is newer than this release; "
            f"restore it with rafiki {manifest.version} or later"
        )
    return manifest


def _fill(made: Path, source: Path, manifest: Manifest) -> None:
    if not (source / DATABASE).is_file():
        raise BackupError(f"{source} is corrupt: {DATABASE} is missing")
    database = made / DATABASE
    shutil.copyfile(source / DATABASE, database)
    if sha256_of(database) != manifest.database_sha256:
        raise BackupError(f"{source} is corrupt: {DATABASE} is not what was backed up")
    with opened(database, is_copy=True) as connection:
        if problems := integrity_problems(connection):
            raise BackupError(f"{source} is corrupt: {problems[0]}")
        if row_counts(connection) != manifest.rows:
            raise BackupError(f"{source} is corrupt: the numbers of rows are not as told")
        named = named_blobs(connection)
    for digest in named:
        if digest.sha256 in manifest.missing:
            continue
        if not place_blob(source / BLOBS, made / BLOBS, digest):
            raise BackupError(f"{source} is corrupt: the blob {digest.sha256} is missing or cut")
        if sha256_of(blob_file(made / BLOBS, digest.sha256)) != digest.sha256:
            raise BackupError(f"{source} is corrupt: the blob {digest.sha256} has other bytes")
