"""Who ends unasked is noticed, and so is what is left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.platform import Platform, left_behind
from tests.chaos.proxy import Loop
from tests.e2e.processes import is_alive, wait_until


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A server and four workers."""
    with Loop() as loop:
        platform = Platform(tmp_path / "storm", f"test-{os.getpid()}", loop)
        try:
            platform.start()
            yield platform
        finally:
            platform.close()


def test_a_process_of_a_run_is_found_by_its_environment() -> None:
    run_id = f"left-{os.getpid()}"
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"CHAOS_RUN": run_id},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # It runs with its own environment by now.
        assert left_behind(run_id) == [process.pid]
        assert left_behind("another") == []
        process.kill()
    assert left_behind(run_id) == []


@pytest.mark.slow
def test_who_ends_unasked_is_complained_about_and_started_again(platform: Platform) -> None:
    worker = platform.workers[1]
    first = worker.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first), "it is dead")
    platform.look()
    assert platform.complaints == ["worker-1 ended by itself with status -9"]
    assert worker.is_running
    assert worker.pid != first


@pytest.mark.slow
def test_who_is_killed_or_told_to_end_is_started_again_without_a_word(platform: Platform) -> None:
    first, second = platform.workers[0].pid, platform.workers[1].pid
    platform.kill(platform.workers[0], down_s=0.0)
    platform.drain(platform.workers[1], down_s=0.0)
    platform.rename(1)

    def started_again() -> bool:
        platform.look()
        workers = platform.workers[:2]
        return all(x.is_running and x.pid not in (first, second) for x in workers)

    wait_until(started_again, "both run again")
    assert platform.complaints == []
    assert [part.name for part in platform.workers[:2]] == ["worker-0", "worker-4"]
    platform.stop_workers()
    platform.stop_server()
    assert platform.complaints == []
