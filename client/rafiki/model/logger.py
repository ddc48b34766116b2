"""What a template says while it works: log lines, metrics, plots and progress.

A template imports `logger`. The worker and the test bench connect a sink of their own;
without one, lines go to standard error.
"""

import math
import operator
import sys
from typing import Literal, Protocol, SupportsFloat, SupportsIndex, TypeAlias

Level: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class LogSink(Protocol):
    """Where a logger's calls end up."""

    def log(self, message: str, level: Level) -> None:
        """Takes one log line."""

    def metrics(self, values: dict[str, float], step: int | None, score: float | None) -> None:
        """Takes the metrics of one moment; `step` counts what the template counts."""

    def plot(self, title: str, metrics: list[str], x_axis: str) -> None:
        """Takes the definition of a plot of metrics over `x_axis` ("": over time)."""

    def progress(self, fraction: float, remaining_s: float | None) -> bool:
        """Takes how much of the training is done, in [0, 1]; answers whether to stop now."""


class PrintSink:
    """Prints to standard error and never asks to stop."""

    def log(self, message: str, level: Level) -> None:
        print(message if level == "INFO" else f"{level}: {message}", file=sys.stderr)

    def metrics(self, values: dict[str, float], step: int | None, score: float | None) -> None:
        parts = [] if step is None else [f"step={step}"]
        parts += [] if score is None else [f"score={score:.6g}"]
        parts += [f"{name}={value:.6g}" for name, value in values.items()]
        print(" ".join(parts), file=sys.stderr)

    def plot(self, title: str, metrics: list[str], x_axis: str) -> None:
        pass

    def progress(self, fraction: float, remaining_s: float | None) -> bool:
        return False


class ModelLogger:
    """The logger of a process that runs one template at a time. Not thread-safe."""

    def __init__(self) -> None:
        self._sink: LogSink = PrintSink()

    def connect(self, sink: LogSink | None) -> None:
        """Sends everything from now on to `sink`; None means standard error again."""
        self._sink = PrintSink() if sink is None else sink

    def log(
        self,
        message: str = "",
        *,
        step: SupportsIndex | None = None,
        score: SupportsFloat | None = None,
        level: Level = "INFO",
        **metrics: SupportsFloat,
    ) -> None:
        """Logs a line, metrics by name, or both.

        Args:
            message: One line; empty: only metrics.
            step: What the metrics are plotted over, such as the epoch.
            score: An intermediate score, comparable to what `evaluate` returns.
            level: How much the line matters.
            metrics: Numbers by name.

        Raises:
            ValueError: A metric is not a number; the message names it.
        """
        values = {name: _number(name, value) for name, value in metrics.items()}
        score_value = None if score is None else _number("score", score)
        if message:
            self._sink.log(str(message), level)
        if values or score_value is not None:
            self._sink.metrics(values, None if step is None else operator.index(step), score_value)

    def define_plot(self, title: str, metrics: list[str], x_axis: str = "") -> None:
        """Declares that `metrics` belong in one plot over the metric `x_axis`, or over time."""
        self._sink.plot(title, list(metrics), x_axis)

    def progress(self, fraction: SupportsFloat, remaining_s: SupportsFloat | None = None) -> bool:
        """Tells how much of the training is done and asks whether to go on.

        Args:
            fraction: In [0, 1].
            remaining_s: Expected seconds until the end, where the template knows.

        Returns:
            True: stop now. Finish up and return; the instance stays usable.
        """
        share = _number("fraction", fraction)
        if math.isnan(share):
            raise ValueError("fraction is not a number")
        remaining = None if remaining_s is None else _number("remaining_s", remaining_s)
        return self._sink.progress(min(max(share, 0.0), 1.0), remaining)


logger = ModelLogger()


def _number(name: str, value: SupportsFloat) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, not {type(value).__name__}") from None
