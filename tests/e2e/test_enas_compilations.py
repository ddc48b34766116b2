"""The other two supernets that ship in real searches: each program is compiled once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.processes import System, compilations_of

from rafiki.model import write_images
from rafiki.model.tasks import TASKS
from rafiki.resources import AdvisorSettings, Budget, EnasOptions, TrainJobState, TrialPhase

pytestmark = pytest.mark.slow

TEMPLATES = Path(__file__).parent / "templates"
# Two rounds of a SEARCH_TRAIN and two batches; then both FINAL_EVALs and the final trainings of
# two architectures, the best and a random one.
OPTIONS = EnasOptions(
    candidates_per_batch=3, batches_per_round=2, final_evals=2, final_controls=1, train_shards=1
)
BUDGET = Budget(model_trial_count=2 * (1 + 2) + 2 + 2)


def search(folder: Path, programs: Path, template: str, data: Path) -> Counter[str]:
    """What one worker's child compiled in a whole search, by program."""
    system = System(folder, programs)
    try:
        system.start_server()
        system.start_worker()
        with system.client() as client:
            job = system.create_job(
                client,
                data,
                template=TEMPLATES / template,
                advisor=AdvisorSettings(enas=OPTIONS),
                budget=BUDGET,
            )
            job = system.wait_for_end(client, job.name, timeout_s=280)
            trials = system.trials(client, job.name)
            assert job.state is TrainJobState.SUCCEEDED, [trial.error for trial in trials]
            phases = Counter(trial.phase for trial in trials)
            assert phases[TrialPhase.SEARCH_TRAIN] == phases[TrialPhase.FINAL_TRAIN] == 2
            return compilations_of(client, trials)
    finally:
        system.stop()


def test_each_macro_program_is_compiled_once_in_a_whole_job(tmp_path: Path, programs: Path) -> None:
    images = tmp_path / "images.zip"
    pixels = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 1), dtype=np.uint8)
    write_images(images, pixels, np.arange(16) % 2)
    compiled = search(tmp_path, programs, "small_macro.py", images)
    names = ("search_train_steps", "search_evaluate", "final_train_steps", "final_evaluate")
    assert {name: compiled[name] for name in names} == dict.fromkeys(names, 1)


def test_each_language_program_is_compiled_once_per_size_in_a_whole_job(
    tmp_path: Path, programs: Path
) -> None:
    text = tmp_path / "text.txt"
    TASKS["LANGUAGE_MODELLING"].write_sample(text, 40, 0)
    compiled = search(tmp_path, programs, "small_rnn.py", text)
    # The search is of another width than what is trained from scratch, hence another program.
    names = ("language_train_steps", "language_evaluate")
    assert {name: compiled[name] for name in names} == dict.fromkeys(names, 2)
