"""A server with one of everything on it, which the tests of a module attack."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hostile.process import ServerProcess
from tests.hostile.world import World, settle
from tests.worker.worker_bench import WorkerBench


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in a process of its own."""
    server = ServerProcess(tmp_path_factory.mktemp("hostile"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def world(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What is on it."""
    world = settle(server, tmp_path_factory.mktemp("files"))
    yield world
    world.worker.vanish()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WorkerBench]:
    """Starts workers of a server that does what the test says."""
    bench = WorkerBench(tmp_path)
    yield bench
    bench.close()
