"""Evaluations use the weights that the store holds, whoever trained them."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.processes import PLANTED, System, wait_until

from rafiki.client import Client
from rafiki.model.base import CandidateModel
from rafiki.model.knobs import arch_knobs, arch_values, model_arguments
from rafiki.model.loading import find_model_class, load_class
from rafiki.resources import Trial, TrialPhase, TrialState

pytestmark = pytest.mark.slow


def running_evaluation(client: Client, study: str) -> list[Trial]:
    """The SEARCH_EVAL trials that run."""
    phases, states = [TrialPhase.SEARCH_EVAL], [TrialState.RUNNING]
    return list(client.list_trials(study, phases=phases, states=states))


def scores_here(trial: Trial, params: dict[str, np.ndarray], images: Path) -> list[float]:
    """What the candidates of a trial score in this process, with these weights."""
    model_class = load_class(PLANTED, find_model_class(PLANTED))
    config = model_class.get_knob_config()
    archs = [dict(candidate.archs) for candidate in trial.candidates]
    model = model_class(**model_arguments(config, trial.knobs, archs[0], trial.policies))
    assert isinstance(model, CandidateModel)
    model.load_parameters(params)
    knobs = arch_knobs(config)
    candidates = [
        {name: arch_values(knobs[name], choices) for name, choices in arch.items()}
        for arch in archs
    ]
    return model.evaluate_candidates(str(images), candidates, seed=trial.seed)


def put_one_tensor_in_the_place_of_another(database: Path, checkpoint: str) -> None:
    """Changes what `table/0` of a checkpoint holds."""
    job, study, name = checkpoint.split("/")[1::2]
    with sqlite3.connect(database) as connection:
        where = "job = ? AND study = ? AND checkpoint = ? AND path = ?"
        key = (job, int(study), name)
        (other,) = connection.execute(
            f"SELECT sha256 FROM checkpoint_tensors WHERE {where}", (*key, "table/1")
        ).fetchone()
        changed = connection.execute(
            f"UPDATE checkpoint_tensors SET sha256 = ? WHERE {where}", (other, *key, "table/0")
        )
        assert changed.rowcount == 1
    connection.close()


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_fresh_worker_scores_with_the_weights_in_the_store(
    system: System, images: Path, is_changed: bool
) -> None:
    first = system.start_worker("first")
    with system.client() as client:
        job = system.create_job(client, images)
        study = f"{job.name}/studies/1"
        system.slow_down(0.5)
        wait_until(lambda: bool(running_evaluation(client, study)), "an evaluation runs")
        (trial,) = running_evaluation(client, study)
        trained = client.download_checkpoint(trial.start_checkpoint)
        system.kill(first)
        if is_changed:
            assert system.server is not None
            system.kill(system.server)
            put_one_tensor_in_the_place_of_another(
                system.folder / "data" / "rafiki.db", trial.start_checkpoint
            )
            system.start_server()
        system.speed_up()
        system.start_worker("second")
        system.wait_for_end(client, job.name)
        trial = client.get_trial(trial.name)

    changed = trained | {"table/0": trained["table/1"]}
    recorded = [candidate.score for candidate in trial.candidates]
    assert trial.worker == "second"
    assert recorded == scores_here(trial, changed if is_changed else trained, images)
    assert scores_here(trial, changed, images) != scores_here(trial, trained, images)
