"""A server and its workers on this machine, as subprocesses that live and end together."""

import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rafiki.client.local.logs import Echo, LogFolder
from rafiki.client.local.program import Program

READY = re.compile(r"rafiki server listening on (\S+:\d+)")
START_TIMEOUT_S = 60.0
WORKER_GRACE_S = 15.0
SERVER_GRACE_S = 15.0
# A program that ends sooner than this after its start has failed to start.
SETTLED_S = 10.0
MAX_FAILED_STARTS = 5
LAST_PAUSE_S = 30.0


class PlatformError(RuntimeError):
    """The platform cannot start or go on; the message says why in a few lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformConfig:
    """What to start. Port 0 in `listen` means any free one."""

    data_dir: Path
    listen: str = "127.0.0.1:8780"
    workers: int = 1
    server_flags: Sequence[str] = ()
    worker_flags: Sequence[str] = ()


class LocalPlatform:
    """A running server with its workers; a context manager that stops them all.

    Call `tend` again and again, from the thread that started it: it starts what has died
    anew.

    Args:
        config: What to start.
        tell: Told, in one line, what happens to a program.
        echo: Told every line that a program logs, after the program's name.
    """

    def __init__(
        self,
        config: PlatformConfig,
        tell: Callable[[str], None],
        echo: Echo | None = None,
    ) -> None:
        self.config = config
        self.address = ""
        self._tell = tell
        self._logs = LogFolder(config.data_dir / "logs", echo)
        self._server: Program | None = None
        shares = share_cores(_usable_cores(), config.workers)
        # By worker; none for one that is not pinned.
        self.cores = dict(zip(_worker_names(config.workers), shares, strict=True))
        self._workers: dict[str, Program] = {}
        self._failed_starts: dict[str, int] = {}
        self._due: dict[str, float] = {}  # when to start a program that died, by name

    @property
    def log_folder(self) -> Path:
        """Where the logs are."""
        return self._logs.folder

    @property
    def pids(self) -> list[int]:
        """The process ids of all programs."""
        programs = [*self._workers.values(), *([self._server] if self._server else [])]
        return [program.pid for program in programs]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server, waits until it listens, starts the workers.

        Raises:
            PlatformError: The port is in use, or the server does not start.
        """
        check_free(self.config.listen)
        self._start_server(self.config.listen)
        for name in self.cores:
            self._start_worker(name)

    def tend(self) -> None:
        """Starts anew what has died, later and later if it dies at once.

        Raises:
            PlatformError: The server dies again and again.
        """
        now = time.monotonic()
        for program in [self._server, *self._workers.values()]:
            if program is None or program.status is None:
                continue
            if program.name not in self._due:
                self._schedule(program, now)
            elif now >= self._due[program.name]:
                del self._due[program.name]
                if program is self._server:
                    self._start_server(self.address)
                else:
                    self._start_worker(program.name)

    def stop(self) -> None:
        """Ends the workers, which hand back their trials, then the server."""
        workers, server = list(self._workers.values()), self._server
        try:
            for program in workers:
                program.terminate()
            deadline = time.monotonic() + WORKER_GRACE_S
            for program in workers:
                self._end(program, deadline)
            if server is not None:
                server.terminate()
                self._end(server, time.monotonic() + SERVER_GRACE_S)
        except KeyboardInterrupt:
            self._tell("stopping at once")
            for program in [*workers, *([server] if server else [])]:
                program.stop(0.0)
        self._workers, self._server = {}, None

    def _start_server(self, listen: str) -> None:
        flags = ["--data-dir", str(self.config.data_dir), "--listen", listen]
        self._server = Program(
            "server",
            "rafiki.server",
            [*flags, *self.config.server_flags],
            self._logs,
            ready=READY,
        )
        ready = self._server.wait_ready(START_TIMEOUT_S)
        if ready is None and not self.address:
            tail = "\n".join(self._logs.tail("server", 2))
            path = self._logs.path("server")
            raise PlatformError(f"the server did not start; see {path}\n{tail}".rstrip())
        if ready is not None:
            self.address = ready[1]

    def _start_worker(self, name: str) -> None:
        # One folder: what one worker has fetched or compiled, the others find there.
        data = self.config.data_dir / "workers"
        flags = ["--server", self.address, "--worker-id", name, "--data-dir", str(data)]
        flags += ["--cores", ",".join(map(str, self.cores[name]))] if self.cores[name] else []
        self._workers[name] = Program(
            name, "rafiki.worker", [*flags, *self.config.worker_flags], self._logs
        )

    def _schedule(self, program: Program, now: float) -> None:
        failed = self._failed_starts.get(program.name, 0) + 1
        if now - program.started_at > SETTLED_S:
            failed = 0
        self._failed_starts[program.name] = failed
        end = _end_of(program.status)
        if program is self._server and failed >= MAX_FAILED_STARTS:
            raise PlatformError(
                f"the server {end} {failed} times in a row; see {self._logs.path('server')}"
            )
        pause_s = min(2.0**failed, LAST_PAUSE_S) if failed else 0.0
        when = f"in {pause_s:.0f} s" if pause_s else "now"
        self._due[program.name] = now + pause_s
        self._tell(f"{program.name} {end}; it is started again {when}")

    def _end(self, program: Program, deadline: float) -> None:
        if not program.stop(max(0.0, deadline - time.monotonic())):
            self._tell(f"{program.name} did not stop in time and was killed")


def share_cores(cores: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """The cores of each worker: none (unpinned) for a lone worker, else equal shares.

    With more workers than cores, several share a core.
    """
    if workers <= 1 or len(cores) <= 1:
        return [()] * workers
    return [
        tuple(cores[number::workers]) or (cores[number % len(cores)],) for number in range(workers)
    ]


def check_free(listen: str) -> None:
    """Checks that a server can listen at `host:port`; port 0 always can.

    Raises:
        PlatformError: It is no address, or something listens there.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise PlatformError(f"{listen!r} is no address; write host:port, such as 127.0.0.1:8780")
    if port == "0":
        return
    try:
        # No SO_REUSEPORT: with it, two servers could share the port unnoticed.
        socket.create_server((host.strip("[]"), int(port)), reuse_port=False).close()
    except OSError as error:
        raise PlatformError(
            f"cannot listen on {listen}: {error.strerror or error}\n"
            "If another `rafiki up` runs there, use it, or choose another port with --listen."
        ) from error


def _worker_names(count: int) -> list[str]:
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60] or "host"
    return [f"{host}-{number}" for number in range(1, count + 1)]


def _usable_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return []  # nothing to pin with


def _end_of(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was killed by signal {-status}"
    return f"ended with status {status}"
