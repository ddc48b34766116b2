"""Trials that are sent before there is room to run them."""

from datetime import timedelta

import pytest
from tests.server.live import BuildJob, Connect, OffsetClock, RunningServer

from rafiki.model.knobs import FloatKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, StudySpec

RANDOM_KNOBS = {"rate": FloatKnob(0.1, 0.9)}


@pytest.fixture
def study(server: RunningServer, random_job: BuildJob) -> str:
    return server.create_job(random_job(trials=20)).studies[0].name


def test_the_next_trial_is_at_hand_once_trials_have_been_short(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,), prefetch=1)
    first = worker.assignment()
    assert worker.has_nothing()
    worker.complete(first)
    second, third = worker.assignment(), worker.assignment()
    assert (first.prefetched, second.prefetched, third.prefetched) == (False, False, True)
    assert worker.has_nothing()


def test_as_many_stay_at_hand_as_the_worker_likes(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,), prefetch=2)
    held = [worker.assignment()]
    worker.complete(held.pop())
    held = [worker.assignment() for _ in range(3)]
    for _ in range(4):
        worker.complete(held.pop(0))
        held.append(worker.assignment())
    assert worker.has_nothing()
    assert len({assignment.trial.name for assignment in held}) == 3


def test_long_trials_are_not_sent_ahead(
    server: RunningServer, connect: Connect, clock: OffsetClock, study: str
) -> None:
    worker = connect(server, studies=(study,), prefetch=1)
    for _ in range(2):
        assignment = worker.assignment()
        clock.offset += timedelta(seconds=5)
        worker.complete(assignment)
    worker.assignment()
    assert worker.has_nothing()


def test_a_scheme_that_learns_is_asked_when_a_worker_is_free(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    spec = StudySpec(knob_config=RANDOM_KNOBS, advisor=AdvisorSettings(kind=AdvisorKind.EVOLUTION))
    study = server.create_job(random_job(trials=20, studies=(spec,))).studies[0].name
    worker = connect(server, studies=(study,), prefetch=1)
    for _ in range(3):
        worker.complete(worker.assignment())
    worker.assignment()
    assert worker.has_nothing()


def test_an_idle_worker_comes_before_one_that_would_have_to_wait(
    server: RunningServer, connect: Connect, study: str
) -> None:
    busy = connect(server, worker_id="busy", studies=(study,), prefetch=5)
    busy.complete(busy.assignment())
    for _ in range(6):
        busy.assignment()
    idle = connect(server, worker_id="idle", studies=(study,))
    for _ in range(3):
        idle.complete(idle.assignment())
    assert not idle.assignment().prefetched
    assert busy.has_nothing()


def test_what_was_sent_ahead_goes_back_with_the_session(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, worker_id="leaving", studies=(study,), prefetch=1)
    worker.complete(worker.assignment())
    worker.assignment()
    ahead = worker.assignment()
    worker.close()
    other = connect(server, worker_id="other", studies=(study,), capacity=2)
    names = {other.assignment().trial.name, other.assignment().trial.name}
    assert ahead.trial.name in names
