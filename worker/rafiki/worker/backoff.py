"""Waiting longer and longer between attempts, never in step with other workers."""

import random
import threading


class Backoff:
    """Delays that double from `first_s` up to `limit_s`, each drawn from its upper half."""

    def __init__(self, first_s: float = 0.2, limit_s: float = 4.0) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._next_s = first_s
        # Jitter only; nothing that a trial computes depends on it.
        self._random = random.Random()

    def reset(self) -> None:
        """Starts over, after a success."""
        self._next_s = self._first_s

    def wait(self, closing: threading.Event) -> bool:
        """Waits for the next delay; returns False at once when `closing` is set."""
        delay_s = self._next_s * self._random.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._limit_s)
        return not closing.wait(delay_s)
