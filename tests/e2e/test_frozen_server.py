"""A server that stands still for a while, as on a laptop that sleeps or a machine that is moved."""

import os
import signal
import time
from pathlib import Path

import pytest
from tests.e2e.processes import System, wait_until

from rafiki.resources import TrainJobState, TrialPhase, TrialState

pytestmark = pytest.mark.slow

# Longer than the leases of `System`.
FROZEN_S = 4.0


def test_a_frozen_server_takes_no_trial_from_a_worker_that_lives(
    system: System, images: Path
) -> None:
    system.start_worker()
    with system.client() as client:
        job = system.create_job(client, images)
        system.slow_down(2.0)

        def running() -> bool:
            phases, states = [TrialPhase.SEARCH_TRAIN], [TrialState.RUNNING]
            return any(client.list_trials(f"{job.name}/studies/1", phases=phases, states=states))

        wait_until(running, "the supernet is trained")
        assert system.server is not None
        os.kill(system.server.pid, signal.SIGSTOP)
        thaw_at = time.monotonic() + FROZEN_S
        wait_until(lambda: time.monotonic() > thaw_at, "a lease has passed")
        os.kill(system.server.pid, signal.SIGCONT)
        system.speed_up()
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)

    assert job.state is TrainJobState.SUCCEEDED
    assert [trial.name for trial in trials if trial.attempt > 1] == []
