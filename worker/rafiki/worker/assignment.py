"""What the server asks of a worker, as plain values, and how it takes it back."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from rafiki.model.knobs import KnobConfig
from rafiki.resources import JSON, Digest, StopReason, Trial


class WorkerClosing(Exception):
    """The worker is ending: what was going on is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyInfo:
    """What all trials of a study need. `model_class` is empty for an external study."""

    name: str
    knob_config: KnobConfig
    model_class: str = ""
    source: Digest | None = None
    dependencies: Mapping[str, str] = field(default_factory=dict)
    train_dataset: Digest | None = None
    validation_dataset: Digest | None = None
    test_dataset: Digest | None = None
    train_args: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A trial to run and the lease on it."""

    trial: Trial
    study: StudyInfo
    lease_token: str
    gpu_count: int = 0
    evaluate: bool = True
    save: bool = True


class Wakeup:
    """Interrupts a wait on descriptors, from any thread and from a signal handler."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Readable after `set`, until `clear`."""
        return self._read_fd

    def set(self) -> None:
        """Wakes whoever waits, now or next."""
        try:
            os.write(self._write_fd, b"\0")
        except BlockingIOError:
            pass  # It is full of wake-ups already.

    def clear(self) -> None:
        """Takes note of all wake-ups so far."""
        try:
            while os.read(self._read_fd, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Closes both descriptors; nothing may use them afterwards."""
        os.close(self._read_fd)
        os.close(self._write_fd)


class HeldTrial:
    """An assignment whose lease this worker holds. Thread-safe.

    The session sets why the trial should end; the runner, woken, looks.
    """

    def __init__(self, assignment: Assignment, wakeup: Wakeup) -> None:
        self.assignment = assignment
        self._wakeup = wakeup
        self._lock = threading.Lock()
        self._stop_reason: StopReason | None = None
        self._is_lost = False

    def stop(self, reason: StopReason) -> None:
        """The server wants it to end. A stop for good is not taken back."""
        with self._lock:
            if self._stop_reason in (None, StopReason.EARLY_STOPPED):
                self._stop_reason = reason
        self._wakeup.set()

    def lose(self) -> None:
        """The lease is gone: nobody takes the outcome."""
        with self._lock:
            self._is_lost = True
        self._wakeup.set()

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the server wants it to end, if it does."""
        with self._lock:
            return self._stop_reason

    @property
    def is_lost(self) -> bool:
        """Whether the lease is gone."""
        with self._lock:
            return self._is_lost

    @property
    def is_unwanted(self) -> bool:
        """Whether its outcome is of no use to anyone."""
        return self.is_lost or self.stop_reason in (StopReason.JOB_ENDED, StopReason.SUPERSEDED)
