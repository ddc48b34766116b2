"""Connections that break while a session is being opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.e2e.processes import wait_until
from tests.server.live import BuildJob, Connect, RunningServer, StartServer

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


def test_a_connection_lost_while_its_session_opens_leaves_no_session(
    tmp_path: Path, start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server() as server:
        created = server.create_job(random_job(trials=1))
        job, studies = created.train_job.name, (created.studies[0].name,)
        first = connect(server, worker_id="first", studies=studies)
        first.assignment()
        first.vanish()
        await_workers(server, job, 0)

        with locked(tmp_path / "rafiki.db"):
            # It names no lease: the server takes its trial back, which has to wait.
            again = connect(server, worker_id="first", opens=False)
            again.send(
                open=advisor_pb2.OpenSession(
                    worker_id="first",
                    studies=studies,
                    capacity=1,
                    devices=[advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)],
                )
            )
            await_workers(server, job, 1)
            again.vanish()
            await_workers(server, job, 0)

        # Nor is the trial given to it.
        second = connect(server, worker_id="second", studies=studies)
        assert second.assignment().trial.worker == "second"
