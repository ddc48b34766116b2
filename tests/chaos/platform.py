"""A server and its workers as processes, each worker behind a proxy of its own; whoever dies is
started again.

All of it is used by one thread. Everything that is started carries CHAOS_RUN in its environment,
by which what was left behind can be found.
"""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.chaos.faults import WORKERS
from tests.chaos.proxy import Loop, Proxy
from tests.e2e.processes import children_of, wait_until

HEARTBEAT_S = 0.3
LEASE_S = 1.0
START_S = 60.0
# What a process that is told to end may take, on a machine that is busy.
END_S = 30.0
# So many processes may end by themselves before nothing more is started.
MAX_EXITS = 8
_UNLIMITED = resource.RLIM_INFINITY


@dataclass(kw_only=True)
class Part:
    """The server or a worker: what runs now, or when it is to run again.

    `is_expected_to_end` is set once it was told to end or killed. `end_by` is when one that was
    told to end must have ended.
    """

    name: str
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    is_frozen: bool = False
    is_expected_to_end: bool = False
    end_by: float | None = None
    starts: int = 0

    @property
    def is_running(self) -> bool:
        """Whether there is a process that could be harmed."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self.process is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self.process is not None
        self.process.send_signal(number)


@dataclass
class Platform:
    """See the module. `complaints` is what went wrong that nobody asked for."""

    folder: Path
    run_id: str
    loop: Loop
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = Part(name="server")
        self.workers = [Part(name=f"worker-{slot}") for slot in range(WORKERS)]
        self.proxies: list[Proxy] = []
        self.address = "127.0.0.1:0"
        self._names = WORKERS
        self._exits = 0
        self._drains: list[threading.Thread] = []
        self._is_closing = False
        for name in ("ledgers", "runs", "logs", "workers"):
            (self.folder / name).mkdir(parents=True)

    @property
    def data_dir(self) -> Path:
        """The folder of the server."""
        return self.folder / "data"

    def start(self) -> None:
        """Starts everything and waits until the server is there."""
        self._start_server()
        written = self.data_dir / "server.address"
        wait_until(lambda: written.exists() or not self.server.is_running, "it listens", START_S)
        self.address = written.read_text().strip()
        host, _, port = self.address.rpartition(":")
        self.proxies = [Proxy(self.loop, host, int(port)) for _ in self.workers]
        for slot in range(WORKERS):
            self._start_worker(slot)

    def look(self) -> None:
        """Takes note of who has ended, and starts again whoever is due.

        Raises:
            RuntimeError: Processes end by themselves again and again.
        """
        for part in (self.server, *self.workers):
            self._look_at(part)
        if self._exits > MAX_EXITS:
            raise RuntimeError(f"more than {MAX_EXITS} processes ended by themselves")
        if self._is_closing:
            return
        now = time.monotonic()
        if self.server.process is None and now >= self.server.start_at:
            self._start_server()
        for slot, worker in enumerate(self.workers):
            if worker.process is None and now >= worker.start_at:
                self._start_worker(slot)

    def kill(self, part: Part, *, down_s: float) -> None:
        """kill -9; it is started again `down_s` later."""
        part.is_expected_to_end = True
        part.start_at = time.monotonic() + down_s
        part.send(signal.SIGKILL)

    def drain(self, part: Part, *, down_s: float) -> None:
        """SIGTERM; it is started again `down_s` later, or when it has ended."""
        part.is_expected_to_end = True
        now = time.monotonic()
        part.start_at = now + down_s
        part.end_by = now + END_S
        part.send(signal.SIGTERM)

    def rename(self, slot: int) -> None:
        """The worker that is started next in this place has a new name."""
        self.workers[slot].name = f"worker-{self._names}"
        self._names += 1

    def freeze(self, part: Part) -> subprocess.Popen[bytes]:
        """SIGSTOP; returns the process to thaw."""
        assert part.process is not None
        part.send(signal.SIGSTOP)
        part.is_frozen = True
        return part.process

    def thaw(self, process: subprocess.Popen[bytes]) -> None:
        """SIGCONT."""
        process.send_signal(signal.SIGCONT)  # Nothing, if it is dead.
        for part in (self.server, *self.workers):
            if part.process is process:
                part.is_frozen = False
                if part.end_by is not None:
                    part.end_by = time.monotonic() + END_S

    def child(self, slot: int) -> int | None:
        """The process in which the worker runs user code."""
        worker = self.workers[slot]
        children = children_of(worker.pid) if worker.is_running else []
        return children[0] if children else None

    def limit_files(self, limit_bytes: int | None) -> bool:
        """Limits how large files of the server may grow; False if there is no server."""
        limits = (_UNLIMITED if limit_bytes is None else limit_bytes, _UNLIMITED)
        if not self.server.is_running:
            return False
        try:
            resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, limits)
        except ProcessLookupError:
            return False
        return True

    def stop_workers(self) -> None:
        """SIGTERM to the workers, which end by themselves."""
        self._is_closing = True
        self._end(self.workers)

    def stop_server(self) -> None:
        """SIGTERM to the server, which ends by itself."""
        self._is_closing = True
        self._end([self.server])

    def close(self) -> None:
        """Ends whatever still runs, by force, and the proxies."""
        self._is_closing = True
        for part in (*self.workers, self.server):
            if part.is_running:
                part.is_expected_to_end = True
                part.send(signal.SIGKILL)
        for part in (*self.workers, self.server):
            if part.process is not None:
                part.process.wait()
        for drain in self._drains:
            drain.join(END_S)
        for proxy in self.proxies:
            proxy.close()

    def _end(self, parts: list[Part]) -> None:
        for part in parts:
            if part.is_running:
                self.drain(part, down_s=0.0)
        while any(part.process is not None for part in parts):
            self.look()
            time.sleep(0.02)

    def _look_at(self, part: Part) -> None:
        process = part.process
        if process is None:
            return
        status = process.poll()
        if status is None:
            if part.end_by is not None and time.monotonic() > part.end_by and not part.is_frozen:
                self.complaints.append(f"{part.name} did not end within {END_S} s of SIGTERM")
                part.end_by = None
                part.send(signal.SIGKILL)
            return
        if not part.is_expected_to_end:
            self._exits += 1
            self.complaints.append(f"{part.name} ended by itself with status {status}")
        elif part.end_by is not None and status not in (0, -signal.SIGKILL):
            # A worker that ends before it has set its handlers dies of the signal itself.
            is_early = status == -signal.SIGTERM
            if not is_early:
                self.complaints.append(f"{part.name} ended with status {status} after SIGTERM")
        part.process = None
        part.is_frozen = part.is_expected_to_end = False
        part.end_by = None

    def _start_server(self) -> None:
        command = [
            *(sys.executable, "-m", "rafiki.server", "--data-dir", str(self.data_dir)),
            *("--listen", self.address),
            *("--heartbeat-s", str(HEARTBEAT_S), "--lease-s", str(LEASE_S)),
        ]
        self._spawn(self.server, command, {})

    def _start_worker(self, slot: int) -> None:
        worker = self.workers[slot]
        command = [
            *(sys.executable, "-m", "tests.chaos.ledger_worker"),
            *("--server", self.proxies[slot].address, "--worker-id", worker.name),
            *("--data-dir", str(self.folder / "workers" / str(slot))),
        ]
        self._spawn(
            worker,
            command,
            {
                "CHAOS_LEDGERS": str(self.folder / "ledgers"),
                "CHAOS_RUNS": str(self.folder / "runs"),
            },
        )

    def _spawn(self, part: Part, command: list[str], variables: Mapping[str, str]) -> None:
        part.starts += 1
        # Through a pipe: a limit on the server's files must not silence its log.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "CHAOS_RUN": self.run_id, **variables},
        )
        part.process = process
        assert process.stdout is not None
        log = self.folder / "logs" / f"{part.name}.log"
        drain = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
        drain.start()
        self._drains = [thread for thread in self._drains if thread.is_alive()] + [drain]


def left_behind(run_id: str) -> list[int]:
    """The processes of a run that still live."""
    marker = f"CHAOS_RUN={run_id}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue  # It has ended, or is somebody else's.
            if marker in variables:
                found.append(int(folder.name))
    return found


def _copy(stream: IO[bytes], log: Path) -> None:
    with stream, log.open("ab", buffering=0) as file:
        for line in stream:
            file.write(line)
