"""The child as a process: how it is told to stop, how it dies, and that it never outlives."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.worker.child_bench import Bench, Make

from rafiki.resources import LogLevel, StopReason, TrialErrorKind, TrialPhase
from rafiki.worker.assignment import WorkerClosing
from rafiki.worker.child_process import ChildDied

LINE = {"rate": 0.5, "mode": "ok", "epochs": 5}
SLOW = LINE | {"mode": "slow"}

# A worker of which only the child matters: starts it, says its number, waits.
PARENT = """
import sys, threading
from pathlib import Path
from rafiki.worker.assignment import Wakeup
from rafiki.worker.child_process import ChildProcess
child = ChildProcess(data_dir=Path(sys.argv[1]), gpu_count=0, memory_limit_bytes=1 << 40,
                     wakeup=Wakeup(), closing=threading.Event())
print(child.pid, flush=True)
threading.Event().wait()
"""


def has_ended_in_time(pid: int, timeout_s: float = 10.0) -> bool:
    """Whether a process that is not a child of this one ends; waits for it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def test_what_a_template_prints_and_logs_arrives(plain: Bench) -> None:
    plain.run(TrialPhase.TUNE, knobs=LINE | {"mode": "print"})

    assert plain.record.levels["printed to standard output"] is LogLevel.INFO
    assert "logged" in plain.record.lines
    assert plain.record.values == {"loss": 0.5}
    assert plain.record.plots == ["Loss"]


def test_a_stopped_training_is_evaluated_and_saved(plain: Bench) -> None:
    plain.record.on_progress = lambda fraction: plain.stop()

    ended, params = plain.run(TrialPhase.TUNE, knobs=SLOW)

    assert ended.score is not None
    assert not ended.cancelled
    assert 0 < params["optimizer/steps"] < 6000


def test_a_stop_meets_only_the_run_it_was_meant_for(plain: Bench) -> None:
    plain.record.on_progress = lambda fraction: plain.stop()
    plain.run(TrialPhase.TUNE, knobs=SLOW)
    plain.record.on_progress = lambda fraction: plain.stop() if fraction > 0.02 else None

    _, params = plain.run(TrialPhase.TUNE, knobs=SLOW)

    assert params["optimizer/steps"] >= 120


@pytest.mark.parametrize("reason", [StopReason.JOB_ENDED, StopReason.SUPERSEDED])
def test_a_trial_nobody_wants_is_cancelled_and_the_child_lives_on(
    plain: Bench, reason: StopReason
) -> None:
    plain.record.on_progress = lambda fraction: plain.stop(reason)
    pid = plain.child.pid

    ended, params = plain.run(TrialPhase.TUNE, knobs=SLOW)

    assert ended.cancelled
    assert ended.score is None
    assert params == {}
    assert plain.child.is_alive
    assert plain.child.pid == pid


def test_a_lost_lease_ends_the_run(plain: Bench) -> None:
    plain.record.on_progress = lambda fraction: plain.held.lose()

    ended, _ = plain.run(TrialPhase.TUNE, knobs=SLOW)

    assert ended.cancelled


@pytest.mark.slow
def test_a_template_that_does_not_listen_is_ended_after_a_grace(plain: Bench) -> None:
    plain.record.on_line = lambda line: plain.stop(StopReason.JOB_ENDED)

    ended, _ = plain.run(TrialPhase.TUNE, knobs=LINE | {"mode": "deaf"})

    assert ended.cancelled
    assert not plain.child.is_alive


def test_a_worker_that_ends_does_not_wait_for_the_template(plain: Bench) -> None:
    def close(line: str) -> None:
        plain.closing.set()
        plain.wakeup.set()

    plain.record.on_line = close

    with pytest.raises(WorkerClosing):
        plain.run(TrialPhase.TUNE, knobs=LINE | {"mode": "deaf"})
    assert not plain.child.is_alive


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("exit", "exited with status 3"),
        ("segv", "ended by SIGSEGV"),
        ("sigkill", "ended by SIGKILL"),
    ],
)
def test_a_dead_child_is_reported_as_what_it_died_of(plain: Bench, mode: str, message: str) -> None:
    with pytest.raises(ChildDied) as death:
        plain.run(TrialPhase.TUNE, knobs=LINE | {"mode": mode})

    assert death.value.error.kind is TrialErrorKind.CRASHED
    assert message in death.value.error.message
    assert not plain.child.is_alive


def test_a_crash_in_native_code_comes_with_its_traceback(plain: Bench) -> None:
    with pytest.raises(ChildDied) as death:
        plain.run(TrialPhase.TUNE, knobs=LINE | {"mode": "segv"})

    assert "Segmentation fault" in death.value.error.traceback


def test_another_child_takes_over_after_a_crash(plain: Bench) -> None:
    with pytest.raises(ChildDied):
        plain.run(TrialPhase.TUNE, knobs=LINE | {"mode": "exit"})
    plain.start()

    ended, _ = plain.run(TrialPhase.TUNE, knobs=LINE)

    assert ended.score == 0.5


@pytest.mark.slow
def test_a_model_that_takes_too_much_memory_is_ended_for_that(make_bench: Make) -> None:
    bench = make_bench("plain.py", "Line", 400 << 20)

    with pytest.raises(ChildDied) as death:
        bench.run(TrialPhase.TUNE, knobs=LINE | {"mode": "memory"})

    assert death.value.error.kind is TrialErrorKind.OUT_OF_MEMORY
    assert "over the limit of 400 MiB" in death.value.error.message


def test_a_killed_child_is_gone_with_what_it_started(plain: Bench) -> None:
    plain.run(TrialPhase.TUNE, knobs=LINE)
    pid = plain.child.pid

    plain.child.kill()
    plain.child.kill()

    assert not Path(f"/proc/{pid}").exists()


def test_the_child_has_a_session_of_its_own(plain: Bench) -> None:
    assert os.getsid(plain.child.pid) == plain.child.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_of_a_killed_worker_ends(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(number)
        parent.wait()

    assert has_ended_in_time(pid)


def test_the_end_of_the_pipe_ends_a_child(tmp_path: Path) -> None:
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    command = [sys.executable, "-m", "rafiki.worker.child"]
    with subprocess.Popen(
        [*command, str(down_read), str(up_write), str(os.getpid())],
        pass_fds=(down_read, up_write),
        start_new_session=True,
    ) as child:
        os.close(down_read)
        os.close(up_write)
        os.close(down_write)
        child.wait(timeout=20)

    assert os.read(up_read, 1) == b""
    os.close(up_read)


def test_a_child_without_its_parent_does_not_start() -> None:
    read_fd, write_fd = os.pipe()
    command = [sys.executable, "-m", "rafiki.worker.child", str(read_fd), str(write_fd), "1"]
    finished = subprocess.run(command, pass_fds=(read_fd, write_fd), timeout=20, check=False)
    os.close(read_fd)
    os.close(write_fd)

    assert finished.returncode == 1


def test_a_wakeup_is_remembered_until_it_is_cleared(plain: Bench) -> None:
    threading.Thread(target=plain.wakeup.set).start()

    assert select.select([plain.wakeup], [], [], 10)[0]
    plain.wakeup.clear()
    assert not select.select([plain.wakeup], [], [], 0)[0]
