"""kill -9 of the server at random points: every scheme ends with the trials of an unbroken run.

`RAFIKI_KILLS=20 pytest tests/e2e/test_scheme_kills.py` kills 20 times per scheme instead of
once, and `RAFIKI_KILL_SEED=7` draws other points.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.e2e.processes import PLANTED, SMALL_BUDGET, SMALL_ENAS, System, wait_until

from rafiki.client import Client
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    Budget,
    EvolutionOptions,
    ReinforceOptions,
    TrainJob,
    TrainJobState,
    Trial,
)

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RAFIKI_KILLS", "1"))
SEED = int(os.environ.get("RAFIKI_KILL_SEED", "1"))
# What an epoch takes while there is somebody to kill: long enough to be hit in any part.
EPOCH_S = 0.02
TRIALS = 24
TEMPLATES = Path(__file__).parent / "templates"
TUNED, SETTLED = TEMPLATES / "tuned.py", TEMPLATES / "settled.py"

# What each scheme needs to come to its own: models after a few trials, a population that ages.
SCHEMES: dict[AdvisorKind, tuple[Path, AdvisorSettings]] = {
    AdvisorKind.FIXED: (SETTLED, AdvisorSettings()),
    AdvisorKind.RANDOM: (TUNED, AdvisorSettings()),
    AdvisorKind.BAYES_OPT: (TUNED, AdvisorSettings(bayes_opt=BayesOptOptions(initial_trials=5))),
    AdvisorKind.BAYES_OPT_PARAM_SHARING: (
        TUNED,
        AdvisorSettings(bayes_opt=BayesOptOptions(initial_trials=5)),
    ),
    AdvisorKind.EVOLUTION: (
        TUNED,
        AdvisorSettings(evolution=EvolutionOptions(population_size=6, sample_size=3)),
    ),
    AdvisorKind.REINFORCE: (PLANTED, AdvisorSettings(reinforce=ReinforceOptions(batch_size=4))),
    AdvisorKind.ENAS: (PLANTED, SMALL_ENAS),
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Iterator[System]:
    """A server and a worker that the schemes share, one after the other."""
    system = System(tmp_path_factory.mktemp("kills"), programs)
    try:
        system.start_server()
        system.start_worker()
        yield system
    finally:
        system.stop()


def facts(trial: Trial) -> object:
    """What must not depend on who was killed. Attempts, names of jobs and the time may."""
    basis = {key: value for key, value in trial.basis.items() if key != "elapsed_s"}
    return (
        (trial.name.rpartition("/")[2], trial.phase, trial.state, trial.control, trial.policies),
        (trial.seed, trial.data_seed, trial.round, trial.shard, dict(trial.knobs)),
        (trial_of(trial.start_checkpoint), trial_of(trial.final_checkpoint)),
        (trial.score, trial.test_score, basis),
        [(dict(candidate.archs), candidate.score) for candidate in trial.candidates],
    )


def trial_of(checkpoint: str) -> str:
    """The number of the trial that saved a checkpoint, "" for none."""
    return checkpoint.rpartition("/")[2].partition("-")[0]


def kill_when_due(system: System, client: Client, job: TrainJob, trials: int) -> list[int]:
    """Kills the server after as many trials as it says, drawn at random; never in one trial twice.

    Returns:
        After how many trials it was killed.
    """
    draw = random.Random(f"{SEED} {job.studies[0].advisor.kind}")
    points = sorted(draw.sample(range(trials), min(KILLS, trials)))
    system.slow_down(EPOCH_S)
    for point in points:
        wait_for_trials(client, job.name, point)
        time.sleep(draw.uniform(0, 5 * EPOCH_S))  # anywhere in the next one
        assert system.server is not None
        system.kill(system.server)
        system.start_server()
    system.speed_up()
    return points


def wait_for_trials(client: Client, job: str, count: int) -> None:
    """Waits until so many trials of a job have ended."""

    def have_ended() -> bool:
        study = client.get_study(f"{job}/studies/1")
        return study.completed_trials + study.errored_trials + study.cancelled_trials >= count

    wait_until(have_ended, f"{count} trials have ended")


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_killed_study_ends_with_the_trials_of_an_unbroken_one(
    system: System, images: Path, kind: AdvisorKind
) -> None:
    template, settings = SCHEMES[kind]
    settings = replace(settings, kind=kind)
    budget = SMALL_BUDGET if kind is AdvisorKind.ENAS else Budget(model_trial_count=TRIALS)
    runs: list[list[object]] = []
    points: list[int] = []
    for is_killed in (False, True):
        with system.client() as client:
            job = system.create_job(
                client, images, template=template, advisor=settings, budget=budget
            )
            if is_killed:
                points = kill_when_due(system, client, job, len(runs[0]))
            job = system.wait_for_end(client, job.name, timeout_s=120)
            assert job.state is TrainJobState.SUCCEEDED
            runs.append([facts(trial) for trial in system.trials(client, job.name)])
    assert len(runs[1]) == len(runs[0]), f"killed after {points} trials"
    for number, (unbroken, killed) in enumerate(zip(*runs, strict=True), start=1):
        assert killed == unbroken, f"trial {number}; killed after {points} trials"
