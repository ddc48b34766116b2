"""One program of a local platform: a subprocess, its log, its end."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rafiki.client.local.logs import LogFolder

_LAUNCH = Path(__file__).with_name("launch.py")


class Program:
    """`python -m MODULE ARGUMENT ...`, in a process group of its own.

    Ctrl-C in the terminal does not reach it; it ends with `stop`, or when this process
    dies. Start it from a thread that lives on: it dies with that thread (Linux).
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        logs: LogFolder,
        ready: re.Pattern[str] | None = None,
    ) -> None:
        self.name = name
        self._logs = logs
        self._process = subprocess.Popen(
            [sys.executable, str(_LAUNCH), str(os.getpid()), module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.started_at = time.monotonic()
        self._ready = ready
        self._found: re.Match[str] | None = None
        self._settled = threading.Event()  # the ready line was read, or the output ended
        self._reader = threading.Thread(target=self._read, name=f"log-{name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait_ready(self, timeout_s: float) -> re.Match[str] | None:
        """The match of the `ready` pattern in its output; None if it ended or time is up."""
        self._settled.wait(timeout_s)
        return self._found

    def terminate(self) -> None:
        """Asks it to end."""
        if self.status is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, grace_s: float) -> bool:
        """Waits for its end; kills it, and what it started, after `grace_s`.

        Returns:
            Whether it ended by itself.
        """
        try:
            self._process.wait(grace_s)
            return True
        except subprocess.TimeoutExpired:
            # Not yet reaped, so the group is still its own.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            return False
        finally:
            self._reader.join(2.0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for data in stream:
                line = data.decode("utf-8", "replace").rstrip("\r\n")
                self._logs.write(self.name, line)
                if self._ready is not None and self._found is None:
                    self._found = self._ready.search(line)
                    if self._found is not None:
                        self._settled.set()
        self._settled.set()
