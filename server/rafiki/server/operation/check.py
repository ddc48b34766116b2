"""Whether a server could run here, or runs well: what an operator would look at, in order."""

import os
import resource
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import grpc
from alembic.runtime.migration import MigrationContext
from grpc_health.v1 import health_pb2
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from rafiki.server.config import ServerConfig
from rafiki.server.operation.backup import BLOBS, DATABASE, sha256_of
from rafiki.server.store.blobs import blob_file
from rafiki.server.store.migrations import known_revisions
from rafiki.server.store.sqlite_files import (
    integrity_problems,
    latest_time,
    named_blobs,
    opened,
    revision_of,
)

_LOW_SPACE_BYTES = 2 << 30
_NO_SPACE_BYTES = 64 << 20
_FEW_FILES = 512
# What the server has open itself: the database, blobs under way, libraries.
_OWN_FILES = 128
_CLOCK_TOLERANCE = timedelta(minutes=1)
_ANSWER_TIMEOUT_S = 3.0


class Level(StrEnum):
    """How a check went; the server may be of no use after a FAIL."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.subject}: {self.text}"


def check(config: ServerConfig, *, is_deep: bool) -> Iterator[Finding]:
    """Every finding, as it is found; `is_deep` also reads every blob."""
    folder = config.data_dir
    yield _folder(folder)
    yield _space(folder)
    if config.database.get_secret_value():
        yield _elsewhere(config.database_url)
    elif (folder / DATABASE).is_file():
        yield from _database(folder, is_deep)
    else:
        yield Finding(Level.OK, "database", "there is none yet; the server creates it")
    yield _address(config.listen)
    yield _open_files()


def _folder(folder: Path) -> Finding:
    existing = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        rule = "let the user of the server write there, or choose another with --data-dir"
        return Finding(Level.FAIL, "data folder", f"{existing}: {error.strerror}; {rule}")
    if existing != folder.absolute():
        return Finding(Level.OK, "data folder", f"{folder} will be created")
    return Finding(Level.OK, "data folder", f"{folder} can be written")


def _space(folder: Path) -> Finding:
    free = shutil.disk_usage(_nearest(folder)).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < _NO_SPACE_BYTES:
        return Finding(Level.FAIL, "disk", f"{text}; make room, calls that store are refused")
    if free < _LOW_SPACE_BYTES:
        return Finding(Level.WARN, "disk", f"{text}; checkpoints soon fill that, make room")
    return Finding(Level.OK, "disk", text)


def _database(folder: Path, is_deep: bool) -> Iterator[Finding]:
    try:
        with opened(folder / DATABASE) as connection:
            if problems := integrity_problems(connection):
                rule = "stop the server and restore a backup"
                yield Finding(Level.FAIL, "database", f"{'; '.join(problems)}; {rule}")
                return
            yield Finding(Level.OK, "database", "sound, and every row's references exist")
            schema = _schema(revision_of(connection))
            yield schema
            if schema.level is Level.OK:
                yield _clock(connection)
                yield _blobs(connection, folder / BLOBS, is_deep)
    except sqlite3.Error as error:
        yield Finding(Level.FAIL, "database", f"cannot be read: {error}")


def _elsewhere(url: str) -> Finding:
    """Whether the database of a URL answers, and what schema it has."""
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            versions = MigrationContext.configure(connection).get_current_heads()
        engine.dispose()
    except SQLAlchemyError as error:
        problem = str(error).partition("\n")[0]
        return Finding(Level.FAIL, "database", f"cannot be read: {problem}; see --database")
    schema = _schema(", ".join(sorted(versions)))
    return Finding(schema.level, "database", f"answers; {schema.text}")


def _schema(revision: str) -> Finding:
    known = known_revisions()
    if revision == known[0]:
        return Finding(Level.OK, "schema", f"{revision}, that of this release")
    if not revision:
        return Finding(Level.WARN, "schema", "none yet; the server creates it when it starts")
    if revision in known:
        rule = "the server upgrades it when it starts; back up first"
        return Finding(Level.WARN, "schema", f"{revision}, of an earlier release; {rule}")
    rule = "run the release that wrote it, or a later one"
    return Finding(Level.FAIL, "schema", f"{revision} is newer than this release; {rule}")


def _clock(connection: sqlite3.Connection) -> Finding:
    now, latest = datetime.now(UTC), latest_time(connection)
    if latest is not None and latest > now + _CLOCK_TOLERANCE:
        rule = "set the clock, or leases and budgets last longer than they should"
        return Finding(Level.WARN, "clock", f"{latest - now} behind the last change; {rule}")
    return Finding(Level.OK, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, after the last change")


def _blobs(connection: sqlite3.Connection, folder: Path, is_deep: bool) -> Finding:
    named = named_blobs(connection)
    bad: list[str] = []
    for digest in named:
        path = blob_file(folder, digest.sha256)
        try:
            size_bytes = path.stat().st_size
            if size_bytes != digest.size_bytes:
                bad.append(f"{digest.sha256} has {size_bytes} of {digest.size_bytes} bytes")
            elif is_deep and sha256_of(path) != digest.sha256:
                bad.append(f"{digest.sha256} has other bytes")
        except FileNotFoundError:
            bad.append(f"{digest.sha256} is missing")
        except OSError as error:
            bad.append(f"{digest.sha256} cannot be read: {error.strerror}")
    if bad:
        rule = "copy them from a backup's folder of blobs, or upload their resources again"
        return Finding(
            Level.FAIL, "blobs", f"{len(bad)} of {len(named)} bad: {', '.join(bad[:3])}; {rule}"
        )
    how = "with the right bytes" if is_deep else "with the right size (--deep reads them)"
    return Finding(Level.OK, "blobs", f"all {len(named)} that are named are there, {how}")


def _address(listen: str) -> Finding:
    host, _, port = listen.rpartition(":")
    if port == "0":
        return Finding(Level.OK, "address", f"any free port of {host}")
    try:
        # No SO_REUSEPORT: with it, two servers could share the port unnoticed.
        socket.create_server((host.strip("[]"), int(port)), reuse_port=False).close()
    except OSError as error:
        return _answer(listen, error.strerror or str(error))
    return Finding(Level.OK, "address", f"{listen} is free")


def _answer(listen: str, problem: str) -> Finding:
    with grpc.insecure_channel(listen) as channel:
        ask = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = ask(health_pb2.HealthCheckRequest(), timeout=_ANSWER_TIMEOUT_S)
        except grpc.RpcError:
            rule = "what holds it is no healthy server; choose another with --listen"
            return Finding(Level.FAIL, "address", f"{listen}: {problem}; {rule}")
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    level = Level.OK if status == "SERVING" else Level.WARN
    return Finding(level, "address", f"a server answers at {listen}: {status}")


def _open_files() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return Finding(Level.OK, "open files", "without a limit")
    text = f"{limit} allowed, enough for {max(0, limit - _OWN_FILES)} connections"
    if limit < _FEW_FILES:
        return Finding(Level.WARN, "open files", f"{text}; raise it with ulimit -n")
    return Finding(Level.OK, "open files", text)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    folder = Path(os.path.abspath(folder))
    while not folder.exists():
        folder = folder.parent
    return folder
