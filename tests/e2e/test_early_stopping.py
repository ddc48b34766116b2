"""A live worker is told to stop a trial that is behind, and scores what it has."""

from pathlib import Path

import pytest
from tests.e2e.processes import System
from tests.e2e.templates.racing import STEPS

from rafiki.client import Client
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    EarlyStopping,
    StopReason,
    TrainJobState,
    Trial,
    TrialState,
)

pytestmark = pytest.mark.slow

RACING = Path(__file__).parent / "templates" / "racing.py"


def steps_of(client: Client, trial: Trial) -> int:
    """How many steps the model of a trial was trained for, by its checkpoint."""
    return int(client.download_checkpoint(trial.final_checkpoint)["done"])


def test_trials_that_are_behind_end_early_and_are_scored(system: System, images: Path) -> None:
    system.start_worker()
    settings = AdvisorSettings(
        kind=AdvisorKind.RANDOM, early_stopping=EarlyStopping(min_steps=5, min_trials=1)
    )
    with system.client() as client:
        job = system.create_job(
            client,
            images,
            template=RACING,
            advisor=settings,
            budget=Budget(model_trial_count=5),
        )
        job = system.wait_for_end(client, job.name)
        trials = [t for t in system.trials(client, job.name) if t.phase != "PROBE"]
        steps = {trial.name: steps_of(client, trial) for trial in trials}
        lines = {trial.name: list(client.list_trial_logs(trial.name)) for trial in trials}
        best = client.get_trial(job.best_trial)

    assert job.state is TrainJobState.SUCCEEDED
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    assert [trial.score for trial in trials] == [trial.knobs["quality"] for trial in trials]
    stopped = [t for t in trials if t.stop_reason is StopReason.EARLY_STOPPED]
    whole = [t for t in trials if t.stop_reason is None]
    assert stopped and whole and len(stopped) + len(whole) == 5
    assert all(5 <= steps[trial.name] < STEPS for trial in stopped)
    assert all(steps[trial.name] == STEPS for trial in whole)
    for trial in trials:
        told = [line.message for line in lines[trial.name]]
        assert told == (["told to stop"] if trial in stopped else [])
    assert best.score == max(float(trial.knobs["quality"]) for trial in trials)
