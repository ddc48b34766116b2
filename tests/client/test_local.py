"""Servers and workers as `rafiki up` runs them: real processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from rafiki.client.local import LocalPlatform, PlatformConfig, PlatformError
from rafiki.client.local.platform import check_free, share_cores


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("cores", "workers", "shares"),
    [
        ([0, 1], 2, [(0,), (1,)]),
        ([0, 1, 2, 3], 2, [(0, 2), (1, 3)]),
        ([0, 1], 1, [()]),
        ([5], 2, [(), ()]),
        ([0, 1], 3, [(0,), (1,), (0,)]),
        ([], 2, [(), ()]),
    ],
)
def test_several_workers_share_the_cores(
    cores: list[int], workers: int, shares: list[tuple[int, ...]]
) -> None:
    assert share_cores(cores, workers) == shares


@pytest.mark.parametrize("listen", ["8780", "host", "127.0.0.1:x", "127.0.0.1:70000", ":1"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(PlatformError, match="is no address"):
        check_free(listen)


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        config = PlatformConfig(data_dir=tmp_path, listen=listen, workers=1)
        with pytest.raises(PlatformError, match="cannot listen"):
            LocalPlatform(config, print).start()


def test_a_server_that_cannot_start_is_told_with_its_last_lines(tmp_path: Path) -> None:
    config = PlatformConfig(
        data_dir=tmp_path, listen="127.0.0.1:0", workers=0, server_flags=["--no-such-flag"]
    )
    with pytest.raises(PlatformError, match="no-such-flag"), LocalPlatform(config, print):
        pass


@pytest.mark.slow
def test_everything_started_is_stopped(tmp_path: Path) -> None:
    config = PlatformConfig(data_dir=tmp_path, listen="127.0.0.1:0", workers=2)
    with LocalPlatform(config, print) as platform:
        pids = platform.pids
        assert [is_alive(pid) for pid in pids] == [True] * 3
    assert [is_alive(pid) for pid in pids] == [False] * 3
    assert {path.name for path in platform.log_folder.iterdir()} >= {"all.log", "server.log"}


@pytest.mark.slow
def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    told: list[str] = []
    config = PlatformConfig(data_dir=tmp_path, listen="127.0.0.1:0", workers=1)
    with LocalPlatform(config, told.append) as platform:
        first = platform.pids[0]
        os.kill(first, signal.SIGKILL)

        def is_back() -> bool:
            platform.tend()
            return platform.pids[0] != first

        wait_until(is_back)
    assert len(told) == 1
    assert "was killed by signal 9; it is started again" in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_up_ends(how: signal.Signals, tmp_path: Path) -> None:
    # Ctrl-C is ignored by what a shell runs in the background, as these tests perhaps are.
    program = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from rafiki.client.cli import main
main()
"""
    command = [sys.executable, "-c", program, "up"]
    flags = ["--workers", "1", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path)]
    # As most people's: a pipe is not written line by line unless the program sees to it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with (
        subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, text=True, env=environment
        ) as up,
        ExitStack() as at_failure,
    ):
        at_failure.callback(up.kill)
        assert up.stdout is not None
        lines = iter(up.stdout.readline, "")
        assert any("Ctrl-C stops" in line for line in lines)
        children = Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()
        up.send_signal(how)
        up.wait(60)
        rest = up.stdout.read()
        at_failure.pop_all()
    assert len(children) == 2
    wait_until(lambda: not any(is_alive(int(child)) for child in children))
    assert how is signal.SIGKILL or "stopped" in rest
