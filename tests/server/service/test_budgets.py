"""The end of a budget: what is told to stop, what is waited for, and that nothing is lost."""

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

from rafiki.model.knobs import Policy, PolicyKnob
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    EndReason,
    StopReason,
    Study,
    StudySpec,
    TrainJobState,
    TrialOutcome,
    TrialPhase,
    TrialState,
)
from rafiki.server.domain.advisor import Decision, Situation
from rafiki.server.domain.outcomes import Cancelled
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Assignment

HOUR = timedelta(hours=1)
MIDDLE = TrialOutcome(score=0.5)
# With EARLY_STOP offered the best point is trained once more without it.
FINAL_SPEC = StudySpec(
    knob_config={**KNOBS, "early_stop": PolicyKnob(Policy.EARLY_STOP)},
    advisor=AdvisorSettings(kind=AdvisorKind.RANDOM, final_trains=1),
)


@pytest.fixture
def runner(site: Site) -> StudyRunner:
    """A study with an hour of time, and no other limit."""
    return site.create(budget=Budget(time=HOUR))


def stop_reason(site: Site, held: Assignment) -> StopReason | None:
    lease = site.leases.get(held.lease.token)
    assert lease is not None
    return lease.stop_reason


def study_of(site: Site, runner: StudyRunner) -> Study:
    with site.database.read() as connection:
        return site.views.study(connection, runner.facts.name)


def test_when_the_time_is_over_tuning_is_told_to_stop_and_nothing_is_proposed(
    site: Site, runner: StudyRunner
) -> None:
    first, second = assign(runner), assign(runner, WORKERS[1])
    site.clock.now += HOUR
    runner.advance(2)
    assert [stop_reason(site, x) for x in (first, second)] == [StopReason.EARLY_STOPPED] * 2
    assert runner.assign(WORKERS[2], 3) is None
    assert not runner.is_ended
    check(site, runner)


def test_a_trial_that_ends_after_the_time_is_over_counts_and_can_become_best(
    site: Site, runner: StudyRunner
) -> None:
    complete(runner, assign(runner), MIDDLE)
    late, later = assign(runner), assign(runner, WORKERS[1])
    site.clock.now += 2 * HOUR
    runner.advance(2)
    complete(runner, late, HIGH)
    assert site.job(runner).best_trial == late.trial.name
    complete(runner, later, LOW)
    runner.advance(2)
    job, study = site.job(runner), study_of(site, runner)
    assert (job.state, job.best_trial) == (TrainJobState.SUCCEEDED, late.trial.name)
    assert (study.end_reason, study.completed_trials) == (EndReason.TIME, 3)


def test_a_final_training_is_not_told_to_stop_when_the_time_is_over(site: Site) -> None:
    budget = Budget(time=HOUR, model_trial_count=2)
    runner = site.create(studies=(FINAL_SPEC,), budget=budget)
    complete(runner, assign(runner), HIGH)
    final = assign(runner)
    assert final.trial.phase is TrialPhase.FINAL_TRAIN
    site.clock.now += HOUR
    runner.advance(1)
    assert stop_reason(site, final) is None
    complete(runner, final, LOW)
    runner.advance(1)
    # The best is the one that was trained in full, whatever the other scored.
    assert site.job(runner).best_trial == final.trial.name
    assert study_of(site, runner).completed_trials == 2


def test_a_study_without_any_result_takes_one_after_the_time_is_over(
    site: Site, runner: StudyRunner
) -> None:
    held = assign(runner)
    site.clock.now += HOUR
    assert complete(runner, held, CRASH).state is TrialState.PENDING
    again = assign(runner, WORKERS[1])
    assert (again.trial.name, again.trial.attempt) == (held.trial.name, 2)
    complete(runner, again, LOW)
    runner.advance(1)
    assert site.job(runner).state is TrainJobState.SUCCEEDED


def test_a_study_out_of_trials_waits_for_those_that_run(site: Site) -> None:
    runner = site.create(trials=3)
    held = [assign(runner, worker) for worker in WORKERS]
    assert runner.assign(WORKERS[0], 3) is None
    complete(runner, held[0], LOW)
    runner.advance(3)
    assert runner.assign(WORKERS[0], 3) is None
    assert not runner.is_ended
    assert all(stop_reason(site, x) is None for x in held[1:])
    complete(runner, held[2], HIGH)
    complete(runner, held[1], MIDDLE)
    runner.advance(3)
    job, study = site.job(runner), study_of(site, runner)
    assert (job.state, job.best_trial) == (TrainJobState.SUCCEEDED, held[2].trial.name)
    assert (study.end_reason, study.completed_trials) == (EndReason.TRIAL_COUNT, 3)


def test_a_lost_trial_does_not_end_a_study_that_is_out_of_trials(site: Site) -> None:
    runner = site.create(trials=2)
    first, lost = assign(runner), assign(runner, WORKERS[1])
    complete(runner, first)
    lease = site.leases.drop(lost.lease.token)
    assert lease is not None
    site.jobs.lose(lease)
    runner.advance(1)
    assert not runner.is_ended
    assert assign(runner).trial.name == lost.trial.name


def test_the_score_of_a_trial_that_ends_while_its_job_stops_is_kept(site: Site) -> None:
    runner = site.create()
    complete(runner, assign(runner), MIDDLE)
    better, cancelled = assign(runner), assign(runner, WORKERS[1])
    site.service.stop(runner.facts.name.parent)
    assert [stop_reason(site, x) for x in (better, cancelled)] == [StopReason.JOB_ENDED] * 2
    complete(runner, better, HIGH)
    complete(runner, cancelled, Cancelled())
    runner.advance(1)
    job, study = site.job(runner), study_of(site, runner)
    assert (job.state, job.best_trial) == (TrainJobState.STOPPED, better.trial.name)
    assert (study.completed_trials, study.cancelled_trials) == (2, 1)


def test_a_better_score_than_the_one_that_reached_the_goal_is_kept(site: Site) -> None:
    runner = site.create(goal_score=0.4)
    reaching, better = assign(runner), assign(runner, WORKERS[1])
    complete(runner, reaching, MIDDLE)
    assert stop_reason(site, better) is StopReason.JOB_ENDED
    complete(runner, better, HIGH)
    runner.advance(1)
    assert site.job(runner).best_trial == better.trial.name
    assert study_of(site, runner).end_reason is EndReason.GOAL_REACHED


def test_the_clock_of_a_job_is_one_for_all_of_its_studies(site: Site) -> None:
    spec = StudySpec(knob_config=KNOBS, advisor=AdvisorSettings(kind=AdvisorKind.RANDOM))
    first = site.create(studies=(spec, spec), budget=Budget(time=HOUR))
    _, second = site.jobs.of_job(first.facts.name.job)
    complete(first, assign(first))
    site.clock.now += HOUR / 2
    held = assign(second)
    site.clock.now += HOUR / 2
    for runner in (first, second):
        runner.advance(1)
    assert first.is_ended
    assert stop_reason(site, held) is StopReason.EARLY_STOPPED
    complete(second, held)
    second.advance(1)
    assert site.job(first).state is TrainJobState.SUCCEEDED
    assert site.job(first).time_used == HOUR


def test_what_a_job_has_used_of_its_time_does_not_grow_once_it_has_ended(
    site: Site, runner: StudyRunner
) -> None:
    complete(runner, assign(runner))
    site.clock.now += HOUR / 4
    site.service.stop(runner.facts.name.parent)
    site.clock.now += HOUR
    assert site.job(runner).time_used == HOUR / 4


def test_the_clock_starts_with_the_first_trial_not_with_the_thought_of_it(
    site: Site, runner: StudyRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    advisor = runner._steps.fold.advisor
    decide = advisor.decide

    def decide_slowly(situation: Situation) -> Decision:
        site.clock.now += HOUR / 2
        return decide(situation)

    monkeypatch.setattr(advisor, "decide", decide_slowly)
    assign(runner)
    site.clock.now += HOUR / 4
    assert site.job(runner).time_used == HOUR / 4
