"""A server as a process of its own, and what it costs."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running process that listens on `address`."""

    address: str
    pid: int

    def cpu_s(self) -> float:
        """The CPU time that all its threads have taken so far."""
        # Behind the name, which may hold anything but ends with the last parenthesis.
        fields = self._read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def rss_mib(self) -> float:
        """The memory that it holds."""
        return self._status_mib("VmRSS")

    def peak_mib(self) -> float:
        """The most memory that it has held."""
        return self._status_mib("VmHWM")

    def _status_mib(self, key: str) -> float:
        match = re.search(rf"^{key}:\s+(\d+) kB$", self._read("status"), re.MULTILINE)
        assert match is not None
        return int(match.group(1)) / 1024

    def _read(self, name: str) -> str:
        return Path(f"/proc/{self.pid}/{name}").read_text()


@contextmanager
def rafiki_server(folder: Path) -> Iterator[ServerProcess]:
    """A server of ours with its data in `folder`, as long as the context."""
    command = [
        *(sys.executable, "-m", "rafiki.server", "--data-dir", str(folder)),
        *("--listen", "127.0.0.1:0", "--log-level", "WARNING"),
    ]
    with serving(command) as server:
        yield server


@contextmanager
def serving(command: Sequence[str]) -> Iterator[ServerProcess]:
    """A process that prints "listening on" and its address when it is ready.

    Raises:
        RuntimeError: It did not start.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
            line = process.stdout.readline() if ready else ""
            match = re.search(r"listening on (\S+)", line)
            if match is None:
                raise RuntimeError(f"{command[0]} did not start: {' '.join(command[1:])}")
            yield ServerProcess(match.group(1), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
