"""Connections that break while a session is being opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.e2e.processes import wait_until
from tests.server.live import BuildJob, Connect, FakeWorker, RunningServer, StartServer

from rafiki.v1 import advisor_pb2, trials_pb2

LOCAL = "127.0.0.1:0"
CRASH = trials_pb2.TrialError(kind=trials_pb2.TRIAL_ERROR_KIND_CRASHED, message="killed")


@pytest.fixture(scope="module")
def dialect() -> str:
    """Whose file can be locked from here."""
    return "sqlite"


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else writes to the database meanwhile."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def await_workers(server: RunningServer, job: str, count: int) -> None:
    wait_until(lambda: server.job(job).workers == count, f"{count} workers", timeout_s=10)


def is_chosen(server: RunningServer) -> bool:
    """Whether the only study has found a worker with room, and waits to assign it a trial."""
    metrics = server.metrics()
    queues = ("studies_without_worker", "dispatch_steps")
    return [metrics[f"rafiki_queue_length {queue}"] for queue in queues] == [0, 1]


def lose_while_opening(server: RunningServer, connect: Connect, study: str, folder: Path) -> None:
    """A worker takes a trial and vanishes, comes again without it, and vanishes again.

    The second time while the server, which takes its trial back, waits for the database, and
    has chosen the session for the next attempt.
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
        wait_until(lambda: is_chosen(server), "the session is chosen", timeout_s=10)
        again.vanish()
        await_workers(server, job, 0)


def test_a_connection_lost_while_its_session_opens_leaves_no_session(
    tmp_path: Path, start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        study = server.create_job(random_job(trials=1)).studies[0].name
        lose_while_opening(server, connect, study, tmp_path)
        second = connect(server, worker_id="second", studies=(study,))
        assert second.assignment().trial.worker == "second"


def test_a_trial_that_reached_no_worker_costs_no_attempt(
    tmp_path: Path, start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        study = server.create_job(random_job(trials=1)).studies[0].name
        # The session that vanished had been chosen for the second attempt.
        lose_while_opening(server, connect, study, tmp_path)
        second = connect(server, worker_id="second", studies=(study,))
        third = second.assignment()
        second.report(third, error=CRASH)
        fourth = second.assignment()
        assert (third.trial.attempt, fourth.trial.attempt) == (3, 4)


def test_a_trial_that_was_handed_back_has_as_many_attempts_as_before(
    start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server() as server:
        study = server.create_job(random_job(trials=1)).studies[0].name
        for number in range(1, 6):
            worker = connect(server, worker_id=f"leaving-{number}", studies=(study,))
            assert worker.assignment().trial.attempt == number
            worker.close()
        worker = connect(server, worker_id="crashing", studies=(study,))
        attempts = []
        for _ in range(3):
            assignment = worker.assignment()
            attempts.append(assignment.trial.attempt)
            last = worker.report(assignment, error=CRASH).trial
        assert attempts == [6, 7, 8]
        assert last.state == trials_pb2.TRIAL_STATE_ERRORED


def test_handed_back_attempts_are_remembered_by_a_server_that_starts_again(
    start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server() as server:
        study = server.create_job(random_job(trials=1)).studies[0].name
        for number in range(3):
            worker = connect(server, worker_id=f"leaving-{number}", studies=(study,))
            worker.assignment()
            worker.close()
    with start_server() as server:
        worker = connect(server, worker_id="crashing", studies=(study,))
        states = [worker.report(worker.assignment(), error=CRASH).trial.state for _ in range(3)]
        pending, errored = trials_pb2.TRIAL_STATE_PENDING, trials_pb2.TRIAL_STATE_ERRORED
        assert states == [pending, pending, errored]
