"""Clients as processes of their own that begin and end together."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.control_plane_client import Limit, Load, Marks

PROGRAM = Path(__file__).with_name("control_plane_client.py")

# As many trials as anybody wants.
UNLIMITED = 10**9


class ClientProcess:
    """A client that is told when to stop, once."""

    def __init__(self, load: Load) -> None:
        command = [sys.executable, str(PROGRAM), json.dumps(asdict(load))]
        self._load = load
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def wait_ready(self) -> None:
        """Waits until it has imported what it needs."""
        self._read()

    def begin(self, limit: Limit) -> None:
        """Has it begin."""
        assert self._process.stdin is not None
        print(json.dumps(asdict(limit)), file=self._process.stdin, flush=True)

    def marks(self) -> Marks:
        """What it has come to; waits until it has."""
        return Marks(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"client {self._load.number} of {self._load.kind} has failed")
        return line


@contextmanager
def client_processes(loads: Sequence[Load]) -> Iterator[list[ClientProcess]]:
    """Clients that are ready to begin."""
    with ExitStack() as stack:
        clients = [stack.enter_context(ClientProcess(load)) for load in loads]
        for client in clients:
            client.wait_ready()
        yield clients


def run_trials(load: Load, trials: int, timeout_s: float) -> Marks:
    """Has one client work on so many trials, or until the time is over."""
    with client_processes([load]) as (client,):
        client.begin(Limit(until=time.monotonic() + timeout_s, trials=trials))
        return client.marks()
