"""The shipped supernet in a real search: compiled once, reproducible, really shared."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tests.e2e.processes import System, compilations_of

from rafiki.model import write_images
from rafiki.resources import (
    AdvisorSettings,
    Budget,
    EnasOptions,
    TrainJobState,
    Trial,
    TrialPhase,
)

pytestmark = pytest.mark.slow

TEMPLATES = Path(__file__).parent / "templates"
ENAS = AdvisorSettings(enas=EnasOptions(candidates_per_batch=3, batches_per_round=2, final_evals=2))
BUDGET = Budget(model_trial_count=2 * (1 + 2) + 2 + 1)


class Search(NamedTuple):
    """What is left of a search that has ended."""

    trials: list[Trial]
    compilations: Counter[str]
    weights: dict[str, dict[str, np.ndarray]]
    images: Path

    def of_phase(self, phase: TrialPhase) -> list[Trial]:
        """The trials of a phase."""
        return [trial for trial in self.trials if trial.phase is phase]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Search:
    """One search with one worker, two rounds long."""
    folder = tmp_path_factory.mktemp("search")
    images = folder / "images.zip"
    random = np.random.default_rng(0)
    write_images(images, random.integers(0, 255, (16, 8, 8, 1), dtype=np.uint8), np.arange(16) % 2)
    system = System(folder, programs)
    try:
        system.start_server()
        system.start_worker()
        with system.client() as client:
            template = TEMPLATES / "small_cnn.py"
            job = system.create_job(client, images, template=template, advisor=ENAS, budget=BUDGET)
            job = system.wait_for_end(client, job.name, timeout_s=280)
            trials = system.trials(client, job.name)
            assert job.state is TrainJobState.SUCCEEDED, [trial.error for trial in trials]
            compilations = compilations_of(client, trials)
            starts = {t.start_checkpoint for t in trials if t.start_checkpoint}
            weights = {name: client.download_checkpoint(name) for name in starts}
    finally:
        system.stop()
    return Search(trials, compilations, weights, images)


def replay(
    search: Search, trial: Trial, params: dict[str, np.ndarray], folder: Path
) -> list[float]:
    """The scores of a recorded trial, computed by a fresh process."""
    record = {
        "knobs": dict(trial.knobs),
        "candidates": [dict(candidate.archs) for candidate in trial.candidates],
        "policies": sorted(trial.policies),
        "seed": trial.seed,
    }
    (folder / "trial.json").write_text(json.dumps(record))
    np.savez(folder / "params.npz", **params)  # type: ignore[arg-type]  # names are paths
    arguments = [
        *(TEMPLATES / "small_cnn.py", folder / "trial.json"),
        *(folder / "params.npz", search.images),
    ]
    script = Path(__file__).parent / "replay.py"
    command = [sys.executable, str(script), *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(score) for score in json.loads(output.splitlines()[-1])]


@pytest.mark.parametrize(
    "program", ["search_train_steps", "search_evaluate", "final_train_steps", "final_evaluate"]
)
def test_each_program_is_compiled_once_in_a_whole_job(search: Search, program: str) -> None:
    assert len(search.of_phase(TrialPhase.SEARCH_TRAIN)) == 2
    assert search.compilations[program] == 1


def test_a_fresh_process_gives_bit_equal_scores(search: Search, tmp_path: Path) -> None:
    trial = search.of_phase(TrialPhase.SEARCH_EVAL)[-1]
    recorded = [candidate.score for candidate in trial.candidates]
    assert replay(search, trial, search.weights[trial.start_checkpoint], tmp_path) == recorded


def test_other_weights_give_other_scores(search: Search, tmp_path: Path) -> None:
    trial = search.of_phase(TrialPhase.FINAL_EVAL)[0]
    params = dict(search.weights[trial.start_checkpoint])
    params["head/bias"] = params["head/bias"] + np.array([100, 0], np.float32)
    recorded = [candidate.score for candidate in trial.candidates]
    assert replay(search, trial, params, tmp_path) != recorded


def test_the_final_model_is_trained_again_from_the_recorded_trial(
    search: Search, tmp_path: Path
) -> None:
    (trial,) = search.of_phase(TrialPhase.FINAL_TRAIN)
    assert replay(search, trial, {}, tmp_path) == [trial.score]


def test_a_fresh_architecture_is_trained_on_every_minibatch(search: Search) -> None:
    for trial in search.of_phase(TrialPhase.SEARCH_TRAIN):
        archs = [tuple(sorted(candidate.archs.items())) for candidate in trial.candidates]
        assert len(archs) > 1
        assert len(set(archs)) == len(archs)
