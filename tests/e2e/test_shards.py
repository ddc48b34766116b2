"""Shared weights that two workers train side by side, with processes killed meanwhile."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.processes import SMALL_ENAS, System, wait_until

from rafiki.client import Client
from rafiki.resources import (
    Budget,
    EnasOptions,
    TrainJobState,
    Trial,
    TrialPhase,
    TrialState,
)

pytestmark = pytest.mark.slow

# As SMALL_ENAS with its budget, but for one trial more in the second round and the third.
SHARDED = replace(SMALL_ENAS, enas=replace(SMALL_ENAS.enas or EnasOptions(), train_shards=0))
BUDGET = Budget(model_trial_count=33)


def start(system: System, client: Client, images: Path) -> str:
    """A job in its first round, slow, with two workers connected."""
    system.slow_down(0.4)
    system.start_worker("first")
    system.start_worker("second")
    job = system.create_job(client, images, advisor=SHARDED, budget=BUDGET)
    wait_until(lambda: client.get_train_job(job.name).workers == 2, "both are connected")
    return job.name


def running_shards(client: Client, job: str) -> list[Trial]:
    """The trials of shards that run."""
    phases, states = [TrialPhase.SEARCH_TRAIN], [TrialState.RUNNING]
    trials = client.list_trials(f"{job}/studies/1", phases=phases, states=states)
    return [trial for trial in trials if trial.shard is not None]


def both_have_begun(client: Client, job: str) -> bool:
    """Whether both workers train, and have told how far they are."""
    return [trial.progress is not None for trial in running_shards(client, job)] == [True, True]


def check_merge(client: Client, merged: str, base: str, shards: Sequence[Trial]) -> None:
    """Raises unless a checkpoint is what both shards saved, averaged by their minibatches."""
    first, second = sorted(shards, key=lambda trial: trial.shard.index if trial.shard else 0)
    assert [len(first.candidates), len(second.candidates)] == [3, 2]  # of 5
    assert {first.start_checkpoint, second.start_checkpoint} == {base}
    parents = (first.final_checkpoint, second.final_checkpoint)
    assert client.get_checkpoint(merged).parents == parents
    before, *after = (client.download_checkpoint(name) for name in (base, *parents))
    for path, values in client.download_checkpoint(merged).items():
        deltas = [table[path] - before[path] for table in after]
        expected = before[path] + (3 * deltas[0] + 2 * deltas[1]) / 5
        np.testing.assert_allclose(values, expected, rtol=1e-12)


def check_end(system: System, client: Client, name: str) -> tuple[list[int], list[Trial]]:
    """The rounds that had shards, and the trials, of a job that has ended as it should."""
    job = system.wait_for_end(client, name)
    trials = system.trials(client, name)
    assert job.state is TrainJobState.SUCCEEDED
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    merged = []
    version = ""
    for item in client.list_study_rounds(f"{name}/studies/1"):
        of_round = [trial for trial in trials if trial.round == item.round]
        shards = [trial for trial in of_round if trial.shard is not None]
        if shards:
            check_merge(client, item.checkpoint, version, shards)
            merged.append(item.round)
        evaluated = [trial for trial in of_round if trial.phase is TrialPhase.SEARCH_EVAL]
        assert {trial.start_checkpoint for trial in evaluated} == {item.checkpoint}
        version = item.checkpoint
    return merged, trials


def test_two_workers_train_shards_that_are_merged(system: System, images: Path) -> None:
    with system.client() as client:
        name = start(system, client, images)
        wait_until(lambda: len(running_shards(client, name)) == 2, "both train a shard")
        at_once = running_shards(client, name)
        system.speed_up()
        merged, trials = check_end(system, client, name)
    assert merged == [2, 3]
    assert len(trials) == 1 + 33
    assert {trial.worker for trial in at_once} == {"first", "second"}


def test_the_shard_of_a_killed_worker_is_trained_by_the_other(system: System, images: Path) -> None:
    with system.client() as client:
        name = start(system, client, images)
        wait_until(lambda: len(running_shards(client, name)) == 2, "both train a shard")
        lost = next(t for t in running_shards(client, name) if t.worker == "first")
        system.kill(system.workers[0])
        system.speed_up()
        merged, trials = check_end(system, client, name)
    assert merged == [2]  # then there is only one worker
    (again,) = (trial for trial in trials if trial.name == lost.name)
    assert (again.attempt, again.worker, again.shard) == (2, "second", lost.shard)
    assert [c.archs for c in again.candidates] == [c.archs for c in lost.candidates]


def test_a_killed_server_goes_on_with_the_shards_that_run(system: System, images: Path) -> None:
    with system.client() as client:
        name = start(system, client, images)
        wait_until(lambda: len(running_shards(client, name)) == 2, "both train a shard")
        # Long enough to be told of: a trial whose worker has not heard of it yet is lost.
        system.slow_down(2.0)
        wait_until(lambda: both_have_begun(client, name), "both have done a part of it")
        before = {trial.name for trial in running_shards(client, name)}
        assert system.server is not None
        system.kill(system.server)
        system.speed_up()
        # Both may end while the server is away: then the first thing it does is to merge.
        system.start_server()
        merged, trials = check_end(system, client, name)
    assert 2 in merged
    assert before <= {trial.name for trial in trials if trial.attempt == 1}
