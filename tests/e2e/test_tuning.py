"""What trials are given by the schemes of full trials: policies, and parameters to start from."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.processes import System

from rafiki.client import Client
from rafiki.model.knobs import Policy
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    Budget,
    TrainJobState,
    Trial,
    TrialPhase,
    TrialState,
)

pytestmark = pytest.mark.slow

TUNED = Path(__file__).parent / "templates" / "tuned.py"
NOTHING = "nothing"


def given(client: Client, trial: Trial) -> dict[str, str]:
    """What the template of a trial says it was given."""
    lines = [line.message.split(" ") for line in client.list_trial_logs(trial.name)]
    return {words[0]: words[1] for words in lines if len(words) == 2}


def number_of(trial: Trial) -> int:
    return int(trial.name.rpartition("/")[2])


def digest(client: Client, checkpoint: str) -> str:
    """The digest of the weights in a checkpoint."""
    weights = client.download_checkpoint(checkpoint)["weights"]
    assert weights.dtype == np.float64
    return hashlib.sha256(weights.tobytes()).hexdigest()


@pytest.mark.parametrize("kind", [AdvisorKind.RANDOM, AdvisorKind.BAYES_OPT, AdvisorKind.EVOLUTION])
def test_early_stop_is_on_while_tuning_and_off_in_the_final_training_of_the_best(
    system: System, images: Path, kind: AdvisorKind
) -> None:
    system.start_worker()
    settings = AdvisorSettings(kind=kind, final_trains=1)
    with system.client() as client:
        job = system.create_job(
            client,
            images,
            template=TUNED,
            advisor=settings,
            budget=Budget(model_trial_count=6),
        )
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)
        told = {trial.name: given(client, trial) for trial in trials}

    assert job.state is TrainJobState.SUCCEEDED
    tuned = [trial for trial in trials if trial.phase is TrialPhase.TUNE]
    (final,) = [trial for trial in trials if trial.phase is TrialPhase.FINAL_TRAIN]
    assert len(tuned) == 5
    assert {told[trial.name]["early_stop"] for trial in tuned} == {"True"}
    assert told[final.name]["early_stop"] == "False"
    assert final.policies == frozenset()
    best = max(tuned, key=lambda trial: trial.score or 0.0)
    assert final.knobs == best.knobs
    assert job.best_trial == final.name


def test_trials_start_from_the_best_checkpoint_so_far_bit_for_bit(
    system: System, images: Path
) -> None:
    system.start_worker()
    settings = AdvisorSettings(
        kind=AdvisorKind.BAYES_OPT_PARAM_SHARING, bayes_opt=BayesOptOptions(initial_trials=5)
    )
    with system.client() as client:
        job = system.create_job(
            client,
            images,
            template=TUNED,
            advisor=settings,
            budget=Budget(model_trial_count=16),
            train_args={"failing_kind": "plain"},
        )
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)
        told = {trial.name: given(client, trial) for trial in trials}
        digests = {
            trial.start_checkpoint: digest(client, trial.start_checkpoint)
            for trial in trials
            if trial.start_checkpoint
        }

    assert job.state is TrainJobState.SUCCEEDED
    tuned = [trial for trial in trials if trial.phase is TrialPhase.TUNE]
    assert any(trial.state is TrialState.ERRORED for trial in tuned)
    shared = [trial for trial in tuned if trial.start_checkpoint]
    assert shared
    for trial in shared:
        earlier = [
            other
            for other in tuned
            if number_of(other) < number_of(trial) and other.score is not None
        ]
        best = max(earlier, key=lambda other: other.score or 0.0)
        assert trial.start_checkpoint == best.final_checkpoint
        assert Policy.SHARE_PARAMS in trial.policies
    for trial in trials:
        if trial.state is TrialState.COMPLETED:
            expected = digests.get(trial.start_checkpoint, NOTHING)
            assert told[trial.name]["shared_params"] == expected
