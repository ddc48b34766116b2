"""Connections that break while a session is being opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.e2e.processes import wait_until
from tests.server.live import BuildJob, Connect, FakeWorker, RunningServer, StartServer

from rafiki.v1 import advisor_pb2


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else writes to the database meanwhile."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def await_workers(server: RunningServer, job: str, count: int) -> None:
    wait_until(lambda: server.job(job).workers == count, f"{count} workers", timeout_s=10)


def lose_while_opening(server: RunningServer, connect: Connect, study: str, folder: Path) -> None:
    """A worker takes a trial and vanishes, comes again without it, and vanishes again.

    The second time while the server, which takes its trial back, waits for the database.
    """
    job = study.partition("/studies/")[0]
    first = connect(server, worker_id="first", studies=(study,))
    assert first.assignment().trial.attempt == 1
    first.vanish()
    await_workers(server, job, 0)
    with locked(folder / "rafiki.db"):
        again: FakeWorker = connect(server, worker_id="first", opens=False)
        again.send(
            open=advisor_pb2.OpenSession(
                worker_id="first",
                studies=[study],
                capacity=1,
                devices=[advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)],
            )
        )
        await_workers(server, job, 1)
        again.vanish()
        await_workers(server, job, 0)


def test_a_connection_lost_while_its_session_opens_leaves_no_session(
    tmp_path: Path, start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server() as server:
        study = server.create_job(random_job(trials=1)).studies[0].name
        lose_while_opening(server, connect, study, tmp_path)
        second = connect(server, worker_id="second", studies=(study,))
        assert second.assignment().trial.worker == "second"


def test_a_trial_that_reached_no_worker_costs_no_attempt(
    tmp_path: Path, start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server() as server:
        study = server.create_job(random_job(trials=1)).studies[0].name
        # The session that vanished had been chosen for the next attempt.
        lose_while_opening(server, connect, study, tmp_path)
        second = connect(server, worker_id="second", studies=(study,))
        assert second.assignment().trial.attempt == 2
