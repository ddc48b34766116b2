"""A server without room for checkpoints, though its database can still be written."""

import resource
import time
from pathlib import Path

import pytest
from tests.e2e.processes import System, wait_until

from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    TrainJobState,
    TrialPhase,
    TrialState,
)

pytestmark = pytest.mark.slow

BULKY = Path(__file__).parent / "templates" / "bulky.py"
# Less than a checkpoint of the template, more than the database of so few trials.
LIMIT_BYTES = 3 << 20
FULL_S = 15.0


def limit_files(pid: int, limit_bytes: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))


def test_trials_wait_for_room_and_do_not_fail_for_want_of_it(system: System, images: Path) -> None:
    assert system.server is not None
    with system.client() as client:
        job = system.create_job(
            client,
            images,
            template=BULKY,
            advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
            budget=Budget(model_trial_count=3),
        )
        limit_files(system.server.pid, LIMIT_BYTES)
        system.start_worker()

        def started() -> bool:
            return any(client.list_trials(f"{job.name}/studies/1", phases=[TrialPhase.TUNE]))

        def has_failed() -> bool:
            return any(client.list_trials(job.name, states=[TrialState.ERRORED]))

        wait_until(started, "there is a checkpoint to be saved")
        full_until = time.monotonic() + FULL_S
        wait_until(lambda: has_failed() or time.monotonic() > full_until, "it was full for long")
        limit_files(system.server.pid, resource.RLIM_INFINITY)
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)

    assert [trial.error for trial in trials if trial.error is not None] == []
    assert job.state is TrainJobState.SUCCEEDED
