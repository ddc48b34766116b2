"""What a job has cost, from its trials."""

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from rafiki.client.cli.costs import costs_screen, job_costs
from rafiki.client.cli.plans import plan_text
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    Study,
    StudyPlan,
    StudySpec,
    TrainJob,
    TrainJobState,
    Trial,
    TrialPhase,
    TrialState,
)

UNTIL = "trials until the time is over"

MakeTrial = Callable[..., Trial]


def shown(job: TrainJob, study: Study, trials: list[Trial]) -> str:
    console = Console(width=160, file=io.StringIO())
    with console.capture() as capture:
        console.print(costs_screen(job_costs(job, [(study, trials)])))
    return capture.get()


def tuning(study: Study, plan: StudyPlan) -> Study:
    settings = AdvisorSettings(kind=AdvisorKind.BAYES_OPT)
    spec = StudySpec(model="models/00000001", advisor=settings)
    return replace(study, spec=spec, plan=plan, phase=TrialPhase.TUNE)


@pytest.fixture
def trials(make_trial: MakeTrial) -> list[Trial]:
    error = {"state": TrialState.ERRORED}
    running = {"state": TrialState.RUNNING, "end_time": None}
    return [
        make_trial(1, TrialPhase.PROBE),
        make_trial(2, TrialPhase.TUNE),
        make_trial(3, TrialPhase.TUNE),
        make_trial(4, TrialPhase.TUNE, **error),
        make_trial(5, TrialPhase.TUNE, **running),
        make_trial(6, TrialPhase.TUNE, state=TrialState.CANCELLED),
    ]


def test_trials_are_counted_as_the_budget_counts_them(
    job: TrainJob, study: Study, trials: list[Trial]
) -> None:
    job = replace(job, budget=Budget(model_trial_count=10))
    (costs,) = job_costs(job, [(study, trials)]).studies
    assert (costs.trials_used, costs.trials_left) == (3, 7)


def test_a_phase_costs_what_its_completed_trials_took(
    job: TrainJob, study: Study, trials: list[Trial]
) -> None:
    (costs,) = job_costs(job, [(study, trials)]).studies
    probe, tune = costs.costs
    assert (probe.phase, probe.completed, probe.mean_s) == (TrialPhase.PROBE, 1, 5.0)
    assert (tune.completed, tune.errored, tune.running) == (2, 1, 1)
    assert (tune.mean_s, tune.compile_s, tune.total_s) == (5.0, 1.5, 10.0)


def test_used_and_left_of_the_time_are_those_of_the_clock(job: TrainJob, study: Study) -> None:
    used = job_costs(replace(job, time_used=timedelta(minutes=1)), [])
    assert (used.time_used_s, used.time_left_s) == (60.0, 120.0)
    over = job_costs(replace(job, time_used=timedelta(minutes=4)), [])
    assert over.time_left_s == 0.0
    limitless = job_costs(replace(job, budget=Budget(model_trial_count=3)), [])
    assert limitless.time_left_s is None


def test_the_screen_says_what_each_part_costs(
    job: TrainJob, study: Study, trials: list[Trial]
) -> None:
    plan = StudyPlan(
        trials=21, final_trains=1, final_reserve_s=25.0, remaining_s=100.0, measured=True
    )
    job = replace(job, state=TrainJobState.PAUSED, time_used=timedelta(minutes=1))
    told = shown(job, tuning(study, plan), trials)
    assert "20 trials, then 1 final training; 25 s kept for the final phases" in told
    assert "60 s used, 2:00 min left; its clock stands still" in told
    assert "measured on its own trials" in told
    (line,) = [line for line in told.splitlines() if line.strip().startswith("TUNE")]
    assert line.split() == "TUNE 2 5.0 s 1.5 s 10 s 1 running, 1 failed".split()


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (StudyPlan(trials=20), "20 trials; costs still assumed"),
        (StudyPlan(trials=21, final_trains=1), "20 trials, then 1 final training"),
        (StudyPlan(final_trains=1), "trials until the time is over, then 1 final training"),
        (StudyPlan(), "trials until the time is over"),
        (
            StudyPlan(trials=1, final_trains=1),
            "trials until the time is over, then 1 final training",
        ),
        (StudyPlan(trials=1, final_trains=1, measured=True), "1 final training"),
    ],
)
def test_the_plan_of_a_study_of_full_trials_is_told(
    study: Study, plan: StudyPlan, told: str
) -> None:
    assert plan_text(tuning(study, plan)).startswith(told)
