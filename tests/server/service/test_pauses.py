"""Paused jobs: nothing is assigned, the clock of the budget stands still, results are taken."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from tests.server.service.site import (
    CRASH,
    HIGH,
    KNOBS,
    LOW,
    WORKERS,
    Site,
    assign,
    check,
    complete,
)

from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    EndReason,
    StudySpec,
    TrainJobState,
    TrialState,
)
from rafiki.server.domain.errors import InvalidState, ResourceNotFound
from rafiki.server.domain.names import JobName
from rafiki.server.domain.outcomes import Cancelled
from rafiki.server.service.study_runner import StudyRunner

MINUTE = timedelta(minutes=1)


def name_of(runner: StudyRunner) -> JobName:
    return runner.facts.name.parent


def pass_by(site: Site, time: timedelta) -> None:
    site.clock.now += time


def test_a_paused_job_assigns_nothing_and_takes_the_results_of_what_runs(site: Site) -> None:
    runner = site.create()
    held = assign(runner)
    site.service.pause(name_of(runner))
    assert runner.assign(WORKERS[1], 3) is None
    assert complete(runner, held).state is TrialState.COMPLETED
    check(site, runner)
    assert site.job(runner).state is TrainJobState.PAUSED
    assert site.job(runner).best_trial == held.trial.name
    site.service.resume(name_of(runner))
    assert assign(runner).trial.name.endswith("/2")


def test_a_trial_that_waits_for_another_attempt_waits_until_the_job_is_resumed(site: Site) -> None:
    runner = site.create()
    held = assign(runner)
    site.service.pause(name_of(runner))
    assert complete(runner, held, CRASH).state is TrialState.PENDING
    assert runner.assign(WORKERS[1], 3) is None
    site.service.resume(name_of(runner))
    assert assign(runner, WORKERS[1]).trial.name == held.trial.name


def test_a_trial_whose_worker_is_lost_in_a_pause_is_tried_again_after_it(site: Site) -> None:
    runner = site.create()
    held = assign(runner)
    site.service.pause(name_of(runner))
    lease = site.leases.drop(held.lease.token)
    assert lease is not None
    site.jobs.lose(lease)
    assert runner.assign(WORKERS[1], 3) is None
    check(site, runner)
    site.service.resume(name_of(runner))
    assert assign(runner, WORKERS[1]).trial.attempt == 2


def test_the_time_of_a_pause_is_not_used_of_the_budget(site: Site) -> None:
    runner = site.create(budget=Budget(time=10 * MINUTE))
    complete(runner, assign(runner))
    pass_by(site, 9 * MINUTE)
    site.service.pause(name_of(runner))
    pass_by(site, 60 * MINUTE)
    assert site.job(runner).time_used == 9 * MINUTE
    site.service.resume(name_of(runner))
    complete(runner, assign(runner))
    pass_by(site, MINUTE)
    assert site.job(runner).time_used == 10 * MINUTE
    assert runner.assign(WORKERS[0], 3) is None
    assert runner.is_ended


def test_every_pause_counts(site: Site) -> None:
    runner = site.create(budget=Budget(time=10 * MINUTE))
    complete(runner, assign(runner))
    for _ in range(3):
        pass_by(site, MINUTE)
        site.service.pause(name_of(runner))
        pass_by(site, MINUTE)
        site.service.resume(name_of(runner))
    assert site.job(runner).time_used == 3 * MINUTE


def test_a_pause_before_the_clock_has_started_costs_nothing(site: Site) -> None:
    runner = site.create(budget=Budget(time=10 * MINUTE))
    site.service.pause(name_of(runner))
    pass_by(site, 60 * MINUTE)
    assert site.job(runner).time_used is None
    site.service.resume(name_of(runner))
    complete(runner, assign(runner))
    pass_by(site, 9 * MINUTE)
    assert site.job(runner).time_used == 9 * MINUTE
    assign(runner)


def test_a_restarted_server_knows_that_a_job_is_paused_and_since_when(site: Site) -> None:
    runner = site.create(budget=Budget(time=10 * MINUTE))
    complete(runner, assign(runner))
    pass_by(site, 4 * MINUTE)
    site.service.pause(name_of(runner))
    pass_by(site, 30 * MINUTE)
    again, restored = site.restarted(runner)
    pass_by(again, 30 * MINUTE)
    assert restored.assign(WORKERS[0], 3) is None
    assert again.job(restored).time_used == 4 * MINUTE
    again.service.resume(name_of(runner))
    pass_by(again, MINUTE)
    again, restored = again.restarted(runner)
    assert again.job(restored).time_used == 5 * MINUTE
    assign(restored)


def test_pausing_a_paused_job_and_resuming_a_running_one_change_nothing(site: Site) -> None:
    runner = site.create(budget=Budget(time=10 * MINUTE))
    held = assign(runner)
    site.service.resume(name_of(runner))
    site.service.pause(name_of(runner))
    pass_by(site, 5 * MINUTE)
    site.service.pause(name_of(runner))
    pass_by(site, 5 * MINUTE)
    site.service.resume(name_of(runner))
    site.service.resume(name_of(runner))
    assert site.job(runner).time_used == timedelta(0)
    complete(runner, held)
    assign(runner)


def test_a_job_that_is_stopping_or_has_ended_is_neither_paused_nor_resumed(site: Site) -> None:
    runner = site.create()
    held = assign(runner)
    site.service.stop(name_of(runner))
    for state in (TrainJobState.STOPPING, TrainJobState.STOPPED):
        for turn in (site.service.pause, site.service.resume):
            with pytest.raises(InvalidState) as refusal:
                turn(name_of(runner))
            assert refusal.value.state == state
        if state is TrainJobState.STOPPING:
            complete(runner, held, Cancelled())
            runner.advance(1)
    assert site.job(runner).state is TrainJobState.STOPPED


def test_a_job_that_does_not_exist_cannot_be_paused(site: Site) -> None:
    with pytest.raises(ResourceNotFound):
        site.service.pause(JobName("ffffffff"))


def test_a_paused_job_can_be_stopped(site: Site) -> None:
    runner = site.create(budget=Budget(time=10 * MINUTE))
    held = assign(runner)
    pass_by(site, MINUTE)
    site.service.pause(name_of(runner))
    pass_by(site, MINUTE)
    site.service.stop(name_of(runner))
    complete(runner, held, LOW)
    runner.advance(1)
    job = site.job(runner)
    assert (job.state, job.best_trial) == (TrainJobState.STOPPED, held.trial.name)
    assert job.time_used == MINUTE


def test_a_study_whose_last_trial_ends_in_a_pause_ends_once_the_job_is_resumed(site: Site) -> None:
    runner = site.create(trials=1)
    held = assign(runner)
    site.service.pause(name_of(runner))
    complete(runner, held)
    runner.advance(1)
    assert not runner.is_ended
    site.service.resume(name_of(runner))
    runner.advance(1)
    assert site.job(runner).state is TrainJobState.SUCCEEDED


def test_a_trial_that_reaches_the_goal_in_a_pause_ends_the_job(site: Site) -> None:
    spec = StudySpec(knob_config=KNOBS, advisor=AdvisorSettings(kind=AdvisorKind.RANDOM))
    runner = site.create(goal_score=0.8, studies=(spec, spec))
    held = assign(runner)
    site.service.pause(name_of(runner))
    complete(runner, held, HIGH)
    job = site.job(runner)
    assert job.state is TrainJobState.SUCCEEDED
    with site.database.read() as connection:
        views = [study.end_reason for study in site.views.studies(connection, name_of(runner).job)]
    assert views == [EndReason.GOAL_REACHED, EndReason.GOAL_REACHED]


def test_a_paused_job_says_what_it_waits_for(site: Site) -> None:
    runner = site.create()
    held = assign(runner)
    site.service.pause(name_of(runner))
    assert site.job(runner).waiting_for == ""
    complete(runner, held)
    site.leases.drop(held.lease.token)
    assert site.job(runner).waiting_for == "somebody to resume it"


def test_nothing_is_assigned_after_a_pause_however_many_ask(site: Site) -> None:
    spec = StudySpec(knob_config=KNOBS, advisor=AdvisorSettings(kind=AdvisorKind.RANDOM))
    first = site.create(trials=10_000, studies=(spec, spec))
    runners = site.jobs.of_job(name_of(first).job)
    is_paused = threading.Event()
    has_begun = threading.Barrier(len(runners) + 1)
    late: list[str] = []

    def ask(runner: StudyRunner) -> None:
        has_begun.wait()
        while True:
            was_paused = is_paused.is_set()
            assignment = runner.assign(WORKERS[0], 3)
            if assignment is None:
                return
            if was_paused:
                late.append(assignment.trial.name)

    with ThreadPoolExecutor(len(runners)) as pool:
        asked = [pool.submit(ask, runner) for runner in runners]
        has_begun.wait()
        site.service.pause(name_of(first))
        is_paused.set()
        for future in asked:
            future.result()
    assert not late
    for runner in runners:
        check(site, runner)
