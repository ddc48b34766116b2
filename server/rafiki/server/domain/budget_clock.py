"""The clock of a job's time budget: from its first assignment after PROBE, without pauses."""

import math
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetTimes:
    """What is stored of the clock.

    `pause_time` is since when the job is paused, None if it is not. `paused` is the length of
    its ended pauses, as far as they were after `start`.
    """

    start: datetime | None = None
    paused: timedelta = timedelta(0)
    pause_time: datetime | None = None

    def elapsed_s(self, now: datetime) -> float:
        """Seconds used at `now`; 0 before the start."""
        if self.start is None:
            return 0.0
        until = now if self.pause_time is None else min(now, self.pause_time)
        return max(0.0, (until - self.start - self.paused).total_seconds())

    def resumed(self, now: datetime) -> "BudgetTimes":
        """The times once the pause has ended at `now`; one before the start costs nothing."""
        paused = self.paused
        if self.start is not None and self.pause_time is not None:
            paused += max(timedelta(0), now - self.pause_time)
        return replace(self, paused=paused, pause_time=None)


class BudgetClock:
    """The clock of one job, shared by its studies.

    `times` is replaced, never changed, and read by any thread. Whoever changes what is stored
    of it, or assigns a trial, holds `turn` until `times` is what is stored: then nothing is
    assigned in a pause.
    """

    def __init__(self, times: BudgetTimes = BudgetTimes()) -> None:
        self.times = times
        self.turn = threading.Lock()

    @property
    def is_paused(self) -> bool:
        """Whether the job is paused."""
        return self.times.pause_time is not None

    def elapsed_s(self, now: datetime) -> float:
        """Seconds used at `now`; 0 before the start."""
        return self.times.elapsed_s(now)

    def is_over(self, now: datetime, time_s: float | None) -> bool:
        """Whether a budget of `time_s` is used up."""
        return self.elapsed_s(now) >= (math.inf if time_s is None else time_s)
