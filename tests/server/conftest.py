"""What tests of the server share: a data folder, a clock to set, a real server on port 0."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from sqlalchemy import insert
from tests.conftest import NewDatabase

from rafiki.resources import Direction, StudyState, TrainJobState, TrialPhase, TrialState
from rafiki.server.domain.names import StudyName, TrialName
from rafiki.server.rpc.authorization import AuthorizationInterceptor, local_superuser
from rafiki.server.service.collection import Collector
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.server.store.tables import studies, train_jobs, trials

# Adds servicers to a server; called on its event loop.
Register: TypeAlias = Callable[[grpc.aio.Server], None]
# A server with what `Register` adds, for as long as the block; gives a channel to it.
Served: TypeAlias = Callable[[Register], AbstractContextManager[grpc.Channel]]
AddTrial: TypeAlias = Callable[..., TrialName]


class SettableClock:
    """A clock that moves a second per reading, and when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def advance(self, time: timedelta) -> None:
        self.now += time


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def database_url(tmp_path: Path, new_database: NewDatabase) -> Iterator[str]:
    """The URL of a database for one test."""
    with new_database(tmp_path) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url) as database:
        database.migrate()
        yield database


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[FileBlobs]:
    files = FileBlobs(tmp_path / "blobs")
    yield files
    files.close()


@pytest.fixture
def collector(database: Database, blobs: FileBlobs, clock: SettableClock) -> Collector:
    """Collects whatever nothing names at once."""
    grace = timedelta(0)
    return Collector(database, blobs, clock, lambda: {}, grace=grace, keep_best=1)


@pytest.fixture
def served() -> Served:
    return _served


@pytest.fixture
def study(database: Database, clock: SettableClock) -> StudyName:
    """A study without trials, as rows."""
    name = StudyName("0123abcd", 1)
    with database.write() as connection:
        connection.execute(
            insert(train_jobs),
            {
                "id": name.job,
                "app": "digits",
                "app_version": 1,
                "task": "IMAGE_CLASSIFICATION",
                "train_dataset": "",
                "validation_dataset": "",
                "test_dataset": "",
                "train_args": {},
                "gpu_count": 0,
                "model_trial_count": 10,
                "direction": Direction.MAXIMIZE,
                "seed": 1,
                "owner": "users/local",
                "state": TrainJobState.RUNNING,
                "create_time": clock(),
            },
        )
        connection.execute(
            insert(studies),
            {
                "job": name.job,
                "number": name.study,
                "spec": {},
                "knob_config": {"knobs": []},
                "settings": {},
                "batch_size": 1,
                "has_probe": False,
                "state": StudyState.RUNNING,
            },
        )
    return name


@pytest.fixture
def add_trial(database: Database, clock: SettableClock, study: StudyName) -> AddTrial:
    """Adds a running trial to the study, as a row; keywords replace columns."""

    def add(number: int, lease_token: str, **columns: object) -> TrialName:
        row = {
            "job": study.job,
            "study": study.study,
            "number": number,
            "phase": TrialPhase.TUNE,
            "knobs": {},
            "candidates": [],
            "policies": [],
            "seed": 1,
            "start_checkpoint": "",
            "round": 0,
            "data_seed": 0,
            "control": False,
            "evaluate": True,
            "save": True,
            "basis": {},
            "state": TrialState.RUNNING,
            "attempt": 1,
            "worker": "worker-1",
            "lease_token": lease_token,
            "create_time": clock(),
        }
        with database.write() as connection:
            connection.execute(insert(trials), row | columns)
        return TrialName(study.job, study.study, number)

    return add


@contextmanager
def _served(register: Register) -> Iterator[grpc.Channel]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    pool = ThreadPoolExecutor(2)

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(
            migration_thread_pool=pool,
            interceptors=[AuthorizationInterceptor(local_superuser)],
        )
        register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    async def stop(server: grpc.aio.Server) -> None:
        await server.stop(0)
        # Calls that were cancelled clean up after themselves.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=10)

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(20)
        pool.shutdown()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
