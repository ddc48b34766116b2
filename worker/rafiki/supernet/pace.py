"""How fast a training is."""

import time
from typing import TypedDict


class Lap(TypedDict):
    """The metrics of an epoch: its seconds, and how many examples were seen in each."""

    epoch_s: float
    examples_per_s: float


class Pace:
    """A stopwatch for epochs, or rounds, from when it is made.

    What is compiled on the way counts in: the first lap of a process is the slow one. The
    worker tells a trial's seconds of compilation apart from those of its training.
    """

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def lap(self, examples: int) -> Lap:
        """Metrics of the epoch that has ended, in which so many examples were seen."""
        now_s = time.monotonic()
        epoch_s = now_s - self._began_s
        self._began_s = now_s
        return {"epoch_s": epoch_s, "examples_per_s": examples / max(epoch_s, 1e-9)}
