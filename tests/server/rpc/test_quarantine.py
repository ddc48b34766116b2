"""What a quarantined worker and those who wait for one see."""

from datetime import timedelta

import pytest
from tests.server.live import BuildJob, Connect, FakeWorker, OffsetClock, RunningServer

from rafiki.v1 import trials_pb2

MISSING = trials_pb2.TrialError(
    kind=trials_pb2.TRIAL_ERROR_KIND_ENVIRONMENT, message="torch is missing"
)


@pytest.fixture
def study(server: RunningServer, random_job: BuildJob) -> str:
    return server.create_job(random_job(trials=20)).studies[0].name


def fail(worker: FakeWorker, times: int) -> None:
    for _ in range(times):
        worker.report(worker.assignment(), error=MISSING)


def test_a_worker_that_fails_fast_again_and_again_gets_no_trials_for_a_while(
    server: RunningServer, connect: Connect, clock: OffsetClock, study: str
) -> None:
    worker = connect(server, worker_id="broken", studies=(study,))
    fail(worker, 5)
    quarantined = worker.event("quarantined").quarantined
    assert "torch is missing" in quarantined.reason
    assert worker.has_nothing()

    clock.offset += timedelta(minutes=2)
    worker.complete(worker.assignment())
    assert worker.assignment()


def test_a_worker_that_comes_again_is_still_quarantined(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, worker_id="coming-again", studies=(study,))
    fail(worker, 5)
    worker.close()
    again = connect(server, worker_id="coming-again", studies=(study,))
    assert "torch is missing" in again.event("quarantined").quarantined.reason
    assert again.has_nothing()


def test_the_job_says_that_its_workers_are_quarantined_and_why(
    server: RunningServer, connect: Connect, study: str
) -> None:
    job = study.partition("/studies/")[0]
    worker = connect(server, worker_id="only-one", studies=(study,))
    fail(worker, 5)
    worker.event("quarantined")
    waiting = server.job(job).waiting_for
    assert "only-one" in waiting and "torch is missing" in waiting


def test_another_worker_takes_over_what_a_quarantined_one_failed(
    server: RunningServer, connect: Connect, study: str
) -> None:
    broken = connect(server, worker_id="fails", studies=(study,))
    fail(broken, 5)
    broken.event("quarantined")
    sound = connect(server, worker_id="sound", studies=(study,))
    first = sound.assignment()
    assert first.trial.attempt > 1
    sound.complete(first)
