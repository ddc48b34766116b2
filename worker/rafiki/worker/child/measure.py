"""Durations of calls into a template, with compilation taken out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rafiki.worker.child.compilation import CompilationWatch


@dataclass(slots=True)
class Span:
    """Seconds a call took without compilation; set when it has ended."""

    seconds: float = 0.0


class Stopwatch:
    """Measures calls, with the help of what is known about compilation."""

    def __init__(self, watch: CompilationWatch) -> None:
        self._watch = watch

    def now(self) -> float:
        """A monotonic clock in seconds that stands still during compilation."""
        return time.perf_counter() - self._watch.seconds

    @contextmanager
    def span(self) -> Iterator[Span]:
        """Measures a block, also one that raises."""
        # The template may have imported jax just now; what it compiles from here on counts.
        self._watch.install()
        span = Span()
        start = self.now()
        try:
            yield span
        finally:
            span.seconds = max(self.now() - start, 0.0)
