"""The sink behind `logger` in the child: everything goes to the worker as it happens."""

import threading
import time
from typing import Protocol

from rafiki.model.logger import Level
from rafiki.worker.framing import Message

# A template may call `progress` for every minibatch; people need it now and then.
PROGRESS_INTERVAL_S = 0.2


class Send(Protocol):
    """Writes one message to the worker."""

    def __call__(self, message: Message) -> None: ...


class StopFlag:
    """Whether the current run was told to stop, and whether its outcome is still wanted.

    Set by the reader thread, read by the template's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run = 0
        self._stopped = False
        self._cancelled = False

    def begin(self, run: int) -> None:
        """Clears the flag for another run."""
        with self._lock:
            self._run, self._stopped, self._cancelled = run, False, False

    def stop(self, run: int, *, cancel: bool) -> None:
        """Stops `run`, if it still is the current one."""
        with self._lock:
            if run == self._run:
                self._stopped = True
                self._cancelled = self._cancelled or cancel

    @property
    def is_stopped(self) -> bool:
        """Whether to stop training."""
        return self._stopped

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the outcome any more."""
        return self._cancelled


class PipeSink:
    """A `LogSink` for one run."""

    def __init__(self, send: Send, run: int, flag: StopFlag) -> None:
        self._send = send
        self._run = run
        self._flag = flag
        self._next_progress = 0.0

    def log(self, message: str, level: Level) -> None:
        self._put("log", message=message, level=level)

    def metrics(self, values: dict[str, float], step: int | None, score: float | None) -> None:
        self._put("metrics", values=values, step=step, score=score)

    def plot(self, title: str, metrics: list[str], x_axis: str) -> None:
        self._put("plot", title=title, metrics=metrics, x_axis=x_axis)

    def progress(self, fraction: float, remaining_s: float | None) -> bool:
        now = time.monotonic()
        if now >= self._next_progress or fraction >= 1.0:
            self._next_progress = now + PROGRESS_INTERVAL_S
            self._put("progress", fraction=fraction, remaining_s=remaining_s)
        return self._flag.is_stopped

    def _put(self, type_: str, **fields: object) -> None:
        self._send({"type": type_, "run": self._run, "time": time.time(), **fields})
