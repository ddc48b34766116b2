"""The child process as its worker sees it: started, spoken to, watched, ended.

Started with Popen and never forked: jax and grpc forbid that. It has a session of its own,
so that a Ctrl-C meets the worker alone and all that a template starts can be ended
with it. Everything here is for one thread, and that thread must live as long as the
worker: the kernel ends the child when the thread that started it ends.
"""

import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rafiki.resources import LogLevel, TrialError, TrialErrorKind
from rafiki.worker.assignment import HeldTrial, Wakeup, WorkerClosing
from rafiki.worker.environment import child_environment
from rafiki.worker.framing import Array, BrokenFrame, Frame, FrameReader, FrameWriter, Message
from rafiki.worker.memory import oom_kills, resident_bytes
from rafiki.worker.output import LineReader
from rafiki.worker.task import Ended, Task, ended_from_message, task_to_message

logger = logging.getLogger(__name__)

# How often memory is looked at.
WATCH_INTERVAL_S = 0.2

# How long a template may take to return from `logger.progress` when nobody waits for it.
CANCEL_GRACE_S = 3.0

# The longest that JAX may take to write a program to its cache.
CACHE_WRITE_S = 2.0

# Of standard error, for the report of a crash.
MAX_TAIL_LINES = 40


class ParametersUnavailable(Exception):
    """The checkpoint that a child asks for cannot be had; the message says why."""


class ChildDied(Exception):
    """The child ended in the middle of a run; `error` is what to report."""

    def __init__(self, error: TrialError) -> None:
        super().__init__(error.message)
        self.error = error


class Events(Protocol):
    """What a run tells while it goes on. Times are seconds since the epoch."""

    def log(self, message: str, level: LogLevel, time_s: float) -> None: ...

    def metrics(
        self, values: Mapping[str, float], step: int, score: float | None, time_s: float
    ) -> None: ...

    def plot(self, title: str, metrics: tuple[str, ...], x_axis: str) -> None: ...

    def progress(self, fraction: float, remaining_s: float | None) -> None: ...

    def parameters(self, name: str) -> Mapping[str, Array]:
        """The tensors of a checkpoint. Raises ParametersUnavailable."""


class Stop(Protocol):
    """Whether the worker is ending."""

    def is_set(self) -> bool: ...


class ChildProcess:
    """One child. It lives on between runs, and a dead one is replaced by its owner."""

    def __init__(
        self,
        *,
        data_dir: Path,
        gpu_count: int,
        memory_limit_bytes: int,
        wakeup: Wakeup,
        closing: Stop,
    ) -> None:
        self.gpu_count = gpu_count
        self._memory_limit_bytes = memory_limit_bytes
        self._wakeup = wakeup
        self._closing = closing
        self._data_dir = data_dir
        self._tail: deque[str] = deque(maxlen=MAX_TAIL_LINES)
        self._oom_kills = oom_kills()
        child_read, write_fd = os.pipe2(os.O_CLOEXEC)
        read_fd, child_write = os.pipe2(os.O_CLOEXEC)
        # -P: nothing in the folder the worker was started in passes for a module.
        command = [sys.executable, "-P", "-m", "rafiki.worker.child"]
        try:
            self._process = subprocess.Popen(
                [*command, str(child_read), str(child_write), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(child_read, child_write),
                env=child_environment(data_dir, gpu_count),
                start_new_session=True,
            )
        finally:
            os.close(child_read)
            os.close(child_write)
        assert self._process.stdout is not None and self._process.stderr is not None
        self._writer = FrameWriter(write_fd)
        self._reader = FrameReader(read_fd)
        self._outputs = (
            (LineReader(self._process.stdout.fileno()), LogLevel.INFO),
            (LineReader(self._process.stderr.fileno()), LogLevel.WARNING),
        )
        self._is_running = False
        self._is_closed = False
        logger.debug("child started pid=%d gpu_count=%d", self.pid, gpu_count)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can take another run."""
        return not self._is_closed and not self._has_ended()

    def run(self, task: Task, held: HeldTrial, events: Events) -> tuple[Ended, Mapping[str, Array]]:
        """Runs a task; returns how it ended and the parameters to save, if any.

        A trial that nobody wants any more ends as cancelled, after a short grace by force.

        Raises:
            ChildDied: The process ended before the run; the child is closed.
            WorkerClosing: The worker is ending; the child is closed.
        """
        for output, _ in self._outputs:
            output.read()  # What was printed between runs belongs to no trial.
        self._tail.clear()
        self._is_running = True
        try:
            self._writer.write(task_to_message(task))
            outcome = self._serve(task, held, events)
            self._is_running = False
            return outcome
        except (BrokenFrame, BrokenPipeError, KeyError, TypeError, ValueError) as error:
            raise self._died(events, f"{type(error).__name__}: {error}") from error

    def saved(self, name: str) -> None:
        """Tells the child that what it dumped last is now checkpoint `name`."""
        try:
            self._writer.write({"type": "saved", "name": name})
        except BrokenPipeError:
            pass  # It has died; the next run will notice.

    def kill(self) -> None:
        """Ends the process, and what it started, now. May be repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        # A template may have left the group; the process itself is ours for certain.
        self._process.kill()
        self._process.wait()
        self._writer.close()
        self._reader.close()
        assert self._process.stdout is not None and self._process.stderr is not None
        self._process.stdout.close()
        self._process.stderr.close()
        if self._is_running:
            self._forget_half_written_programs()

    def _serve(
        self, task: Task, held: HeldTrial, events: Events
    ) -> tuple[Ended, Mapping[str, Array]]:
        stop_sent: bool | None = None  # whether it said to cancel
        kill_at = float("inf")
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            selector.register(self._wakeup, selectors.EVENT_READ)
            for output, _ in self._outputs:
                if not output.at_end:
                    selector.register(output, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(WATCH_INTERVAL_S)]
                self._wakeup.clear()
                self._forward_output(events)
                for output, _ in self._outputs:
                    if output.at_end and output in ready:
                        selector.unregister(output)
                if self._reader in ready:
                    frame = self._reader.read()
                    if frame is None:
                        raise self._died(events, "")
                    ended = self._handle(frame, task, events)
                    if ended is not None:
                        self._forward_output(events)
                        return ended, frame.tensors
                if self._closing.is_set():
                    self.kill()
                    raise WorkerClosing
                cancel = held.is_unwanted
                if cancel and time.monotonic() >= kill_at:
                    self.kill()
                    return Ended(run=task.run, cancelled=True), {}
                if (cancel or held.stop_reason is not None) and stop_sent is not cancel:
                    stop_sent = cancel
                    self._writer.write({"type": "stop", "run": task.run, "cancel": cancel})
                    if cancel:
                        kill_at = time.monotonic() + CANCEL_GRACE_S
                self._check_memory(events)
                if self._has_ended() and self._reader not in ready:
                    raise self._died(events, "")

    def _handle(self, frame: Frame, task: Task, events: Events) -> Ended | None:
        message: Message = frame.message
        if message.get("run") != task.run:
            return None
        match message["type"]:
            case "ended":
                return ended_from_message(message)
            case "need_parameters":
                self._answer(str(message["name"]), events)
            case "log":
                level = LogLevel(message["level"])
                events.log(str(message["message"]), level, float(message["time"]))
            case "metrics":
                score = message["score"]
                events.metrics(
                    {str(name): float(value) for name, value in message["values"].items()},
                    int(message["step"] or 0),
                    None if score is None else float(score),
                    float(message["time"]),
                )
            case "plot":
                events.plot(
                    str(message["title"]),
                    tuple(map(str, message["metrics"])),
                    str(message["x_axis"]),
                )
            case "progress":
                remaining_s = message["remaining_s"]
                events.progress(
                    float(message["fraction"]), None if remaining_s is None else float(remaining_s)
                )
            case unknown:
                raise BrokenFrame(f"a message of type {unknown!r}")
        return None

    def _answer(self, name: str, events: Events) -> None:
        try:
            tensors = events.parameters(name)
        except ParametersUnavailable as error:
            self._writer.write({"type": "no_parameters", "name": name, "message": str(error)})
        else:
            self._writer.write({"type": "parameters", "name": name}, tensors)

    def _forward_output(self, events: Events) -> None:
        now = time.time()
        for output, level in self._outputs:
            for line in output.read():
                if level is LogLevel.WARNING:
                    self._tail.append(line)
                events.log(line, level, now)

    def _check_memory(self, events: Events) -> None:
        used = resident_bytes(self.pid)
        if used > self._memory_limit_bytes:
            self.kill()
            raise ChildDied(
                TrialError(
                    kind=TrialErrorKind.OUT_OF_MEMORY,
                    message=f"the model used {used >> 20} MiB of memory, "
                    f"over the limit of {self._memory_limit_bytes >> 20} MiB",
                )
            )

    def _has_ended(self) -> bool:
        # Without reaping it: until then its number cannot be another's.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def _died(self, events: Events, detail: str) -> ChildDied:
        """Closes the child and says how it ended."""
        self._forward_output(events)
        self.kill()
        status = self._process.returncode
        if status == -signal.SIGKILL and oom_kills() > self._oom_kills:
            kind = TrialErrorKind.OUT_OF_MEMORY
            message = "the process of the model was killed by the kernel: memory ran out"
        elif status < 0:
            kind = TrialErrorKind.CRASHED
            message = f"the process of the model was ended by {_signal_name(-status)}"
        else:
            kind = TrialErrorKind.CRASHED
            message = f"the process of the model exited with status {status}"
        if detail:
            logger.debug("child broke off pid=%d: %s", self.pid, detail)
        return ChildDied(TrialError(kind=kind, message=message, traceback="\n".join(self._tail)))

    def _forget_half_written_programs(self) -> None:
        """Drops what the child may have been writing to the compilation cache when it died.

        JAX writes in place and never again under the same name.
        """
        since = time.time() - CACHE_WRITE_S
        for path in (self._data_dir / "jax-cache").glob("*/*"):
            try:
                if path.stat().st_mtime >= since:
                    path.unlink()
            except OSError:
                continue  # Another worker was quicker.


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
