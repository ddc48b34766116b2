"""What the tests of services that hand out trials share."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import NewDatabase
from tests.server.live import (
    BuildJob,
    Connect,
    FakeWorker,
    OffsetClock,
    RunningServer,
    StartServer,
    started,
)

from rafiki.model.knobs import CategoricalKnob, FloatKnob, IntegerKnob, KnobConfig
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec, TrainJob


@pytest.fixture(scope="module")
def clock() -> OffsetClock:
    return OffsetClock()


@pytest.fixture
def start_server(tmp_path: Path, clock: OffsetClock, database_url: str) -> StartServer:
    """Starts a server on the test's data folder; keywords are those of `ServerConfig`."""
    return partial(started, tmp_path, clock, database=database_url)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, clock: OffsetClock, new_database: NewDatabase
) -> Iterator[RunningServer]:
    """A server that the tests of a module share."""
    folder = tmp_path_factory.mktemp("server")
    with new_database(folder) as url, started(folder, clock, database=url) as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens sessions, which end with the test."""
    workers: list[FakeWorker] = []

    def open_session(server: RunningServer, **settings: Any) -> FakeWorker:
        worker = FakeWorker(server, **settings)
        workers.append(worker)
        return worker

    yield open_session
    for worker in workers:
        worker.vanish()


@pytest.fixture
def random_job() -> BuildJob:
    """A job of one external RANDOM study; keywords replace fields of the job."""

    def build(trials: int = 3, **fields: Any) -> TrainJob:
        knobs: KnobConfig = {
            "rate": FloatKnob(1e-4, 1.0, is_exp=True),
            "units": IntegerKnob(1, 1000),
            "kind": CategoricalKnob(["a", "b", "c"]),
        }
        settings: dict[str, Any] = {
            "app": "test",
            "task": "ANY",
            "studies": (
                StudySpec(knob_config=knobs, advisor=AdvisorSettings(kind=AdvisorKind.RANDOM)),
            ),
            "budget": Budget(model_trial_count=trials),
            "seed": 7,
        }
        return TrainJob(**(settings | fields))

    return build
