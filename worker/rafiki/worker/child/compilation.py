"""Watches what JAX compiles, through its monitoring events, once a template imported it.

Source: jax 0.10, `jax/_src/dispatch.py` and `compiler.py`. Tracing, lowering and compiling a
program each end in a time span with its name as `fun_name`; inner spans end before outer
ones. A program found in the persistent cache also ends a "compilation" (of milliseconds):
the event of a cache hit comes before it, on the same thread.
"""

import sys
import threading
from collections import Counter
from dataclasses import dataclass, field

_SPANS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
_COMPILED = _SPANS[2]
_CACHE_HIT = "/jax/compilation_cache/cache_hits"


@dataclass(slots=True)
class Compilations:
    """What was compiled in some stretch of time.

    Attributes:
        seconds: Tracing, lowering and compiling (or loading from the cache), overlaps once.
        programs: Real compilations by the name of the program.
        longest_s: The longest compilation by name, in seconds.
        cache_hits: Programs that came from the cache on disk.
    """

    seconds: float = 0.0
    programs: Counter[str] = field(default_factory=Counter)
    longest_s: dict[str, float] = field(default_factory=dict)
    cache_hits: int = 0


class CompilationWatch:
    """Counts compilations of this process. Its listeners run on the threads that compile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._installed = False
        self._hit = threading.local()
        self._spans: list[tuple[float, float]] = []
        self._current = Compilations()

    def install(self) -> None:
        """Starts to listen if the process has imported jax, and not before."""
        if self._installed or "jax" not in sys.modules:
            return
        from jax import monitoring

        monitoring.register_event_listener(self._on_event)
        monitoring.register_event_time_span_listener(self._on_span)
        self._installed = True

    def begin(self) -> None:
        """Starts to count from nothing."""
        with self._lock:
            self._spans = []
            self._current = Compilations()

    @property
    def seconds(self) -> float:
        """Seconds spent compiling since `begin`."""
        with self._lock:
            return self._seconds()

    def end(self) -> Compilations:
        """What was compiled since `begin`."""
        with self._lock:
            self._current.seconds = self._seconds()
            return self._current

    def _seconds(self) -> float:
        return sum(end - start for start, end in self._spans)

    def _on_event(self, event: str, **_: str | int) -> None:
        if event == _CACHE_HIT:
            self._hit.pending = True

    def _on_span(
        self, event: str, start_time: float, end_time: float, **metadata: str | int
    ) -> None:
        if event not in _SPANS:
            return
        with self._lock:
            # An outer span swallows the inner ones, which ended before it.
            while self._spans and self._spans[-1][0] >= start_time:
                self._spans.pop()
            if self._spans:
                start_time = max(start_time, min(self._spans[-1][1], end_time))
            self._spans.append((start_time, end_time))
            if event == _COMPILED:
                self._count(str(metadata.get("fun_name", "")), end_time - start_time)

    def _count(self, name: str, seconds: float) -> None:
        if getattr(self._hit, "pending", False):
            self._hit.pending = False
            self._current.cache_hits += 1
            return
        # "jit(train_step)" is the function `train_step`, whatever transformed it.
        name = name.rpartition("(")[2].rstrip(")") or "unknown"
        self._current.programs[name] += 1
        self._current.longest_s[name] = max(seconds, self._current.longest_s.get(name, 0.0))
