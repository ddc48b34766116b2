"""kill -9 of workers, of their children and of the server, at bad moments."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.conftest import NewDatabase
from tests.e2e.processes import System, children_of, is_alive, wait_until

from rafiki.client import Client
from rafiki.resources import TrainJobState, Trial, TrialPhase, TrialState

pytestmark = pytest.mark.slow


def wait_for_phase(client: Client, system: System, job: str, phase: TrialPhase) -> Trial:
    """Waits until a trial of a phase runs."""

    def running() -> list[Trial]:
        study = f"{job}/studies/1"
        return list(client.list_trials(study, phases=[phase], states=[TrialState.RUNNING]))

    wait_until(lambda: bool(running()), f"a trial of {phase} runs")
    return running()[0]


def facts(trials: list[Trial]) -> list[object]:
    """What must not depend on who was killed."""
    return [
        (
            *(trial.name.rsplit("/", 1)[1], trial.phase, trial.round, trial.seed, trial.data_seed),
            *(trial.control, trial.state, trial.score, trial.test_score),
            tuple((tuple(sorted(c.archs.items())), c.score) for c in trial.candidates),
        )
        for trial in trials
    ]


def test_a_trial_of_a_killed_worker_is_run_by_another_with_the_same_seed(
    system: System, images: Path
) -> None:
    first = system.start_worker("first")
    with system.client() as client:
        job = system.create_job(client, images)
        system.slow_down(0.5)
        trial = wait_for_phase(client, system, job.name, TrialPhase.SEARCH_TRAIN)
        offspring = children_of(first.pid)
        system.kill(first)
        wait_until(lambda: not any(map(is_alive, offspring)), "the child ends with its worker")
        system.speed_up()
        system.start_worker("second")
        job = system.wait_for_end(client, job.name)
        again = client.get_trial(trial.name)
        trials = system.trials(client, job.name)

    assert offspring
    assert job.state is TrainJobState.SUCCEEDED
    assert (again.attempt, again.worker, again.seed) == (2, "second", trial.seed)
    assert [c.archs for c in again.candidates] == [c.archs for c in trial.candidates]
    assert {t.state for t in trials} == {TrialState.COMPLETED}


def test_a_killed_child_costs_one_attempt(system: System, images: Path) -> None:
    worker = system.start_worker()
    with system.client() as client:
        job = system.create_job(client, images)
        system.slow_down(0.5)
        trial = wait_for_phase(client, system, job.name, TrialPhase.SEARCH_TRAIN)
        (child,) = children_of(worker.pid)
        os.kill(child, signal.SIGKILL)
        system.speed_up()
        job = system.wait_for_end(client, job.name)
        again = client.get_trial(trial.name)

    assert job.state is TrainJobState.SUCCEEDED
    assert again.attempt == 2
    assert again.state is TrialState.COMPLETED


@pytest.mark.parametrize("phase", [TrialPhase.SEARCH_TRAIN, TrialPhase.SEARCH_EVAL])
def test_a_run_with_a_killed_server_equals_an_unbroken_one(
    tmp_path: Path, images: Path, programs: Path, phase: TrialPhase, new_database: NewDatabase
) -> None:
    runs = []
    for name in ("unbroken", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        databases = ExitStack()
        system = System(folder, programs, databases.enter_context(new_database(folder)))
        try:
            system.start_server()
            system.start_worker()
            with system.client() as client:
                job = system.create_job(client, images)
                if name == "killed":
                    system.slow_down(0.3)
                    wait_for_phase(client, system, job.name, phase)
                    acknowledged = {
                        t.name: t
                        for t in system.trials(client, job.name)
                        if t.state is TrialState.COMPLETED
                    }
                    assert system.server is not None
                    system.kill(system.server)
                    system.speed_up()
                    system.start_server()
                job = system.wait_for_end(client, job.name)
                trials = system.trials(client, job.name)
        finally:
            system.stop()
            databases.close()
        assert job.state is TrainJobState.SUCCEEDED
        runs.append(trials)

    assert facts(runs[0]) == facts(runs[1])
    assert acknowledged
    by_name = {trial.name: trial for trial in runs[1]}
    for name, trial in acknowledged.items():
        assert facts([by_name[name]]) == facts([trial])


def test_a_worker_outlives_a_server_that_is_away_for_a_while(system: System, images: Path) -> None:
    worker = system.start_worker()
    with system.client() as client:
        job = system.create_job(client, images)
        system.slow_down(0.3)
        wait_for_phase(client, system, job.name, TrialPhase.SEARCH_EVAL)
        assert system.server is not None
        for _ in range(2):
            system.kill(system.server)
            system.start_server()
        system.speed_up()
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)

    assert worker.poll() is None
    assert job.state is TrainJobState.SUCCEEDED
    assert len({trial.name for trial in trials}) == len(trials)
