"""What models log while trials run: lines, metrics and plots."""

from rafiki.resources import LogLevel, TrialLog, TrialMetrics, TrialPlot
from rafiki.v1 import trials_pb2
from rafiki.wire.enums import enum_to_proto
from rafiki.wire.fields import (
    InvalidField,
    at,
    at_least,
    at_most_bytes,
    at_most_items,
    required_enum,
)
from rafiki.wire.text import clean_head
from rafiki.wire.times import timestamp_from_proto, timestamp_to_proto

MAX_LOG_BYTES = 8 << 10
MAX_METRICS = 64


def trial_log_to_proto(log: TrialLog) -> trials_pb2.TrialLog:
    """The message for a log line, cut to 8 KiB."""
    return trials_pb2.TrialLog(
        sequence=log.sequence,
        attempt=log.attempt,
        time=timestamp_to_proto(log.time),
        level=enum_to_proto(log.level),
        message=clean_head(log.message, MAX_LOG_BYTES),
    )


def trial_log_from_proto(message: trials_pb2.TrialLog, path: str = "") -> TrialLog:
    """A log line with its time and level, of at most 8 KiB."""
    if not message.HasField("time"):
        raise InvalidField(at(path, "time"), "must be set")
    return TrialLog(
        sequence=at_least(message.sequence, 1, at(path, "sequence")),
        time=timestamp_from_proto(message.time, at(path, "time")),
        level=required_enum(LogLevel, message.level, at(path, "level")),
        message=at_most_bytes(message.message, MAX_LOG_BYTES, at(path, "message")),
        attempt=at_least(message.attempt, 0, at(path, "attempt")),
    )


def trial_metrics_to_proto(metrics: TrialMetrics) -> trials_pb2.TrialMetrics:
    """The message for metrics."""
    return trials_pb2.TrialMetrics(
        sequence=metrics.sequence,
        attempt=metrics.attempt,
        time=timestamp_to_proto(metrics.time),
        step=metrics.step,
        values=metrics.values,
        score=metrics.score,
    )


def trial_metrics_from_proto(message: trials_pb2.TrialMetrics, path: str = "") -> TrialMetrics:
    """At most 64 metrics with their time; values and score may be NaN or infinite."""
    if not message.HasField("time"):
        raise InvalidField(at(path, "time"), "must be set")
    at_most_items(len(message.values), MAX_METRICS, at(path, "values"))
    return TrialMetrics(
        sequence=at_least(message.sequence, 1, at(path, "sequence")),
        time=timestamp_from_proto(message.time, at(path, "time")),
        values=dict(sorted(message.values.items())),
        step=at_least(message.step, 0, at(path, "step")),
        score=message.score if message.HasField("score") else None,
        attempt=at_least(message.attempt, 0, at(path, "attempt")),
    )


def trial_plot_to_proto(plot: TrialPlot) -> trials_pb2.TrialPlot:
    """The message for a plot."""
    return trials_pb2.TrialPlot(title=plot.title, metrics=plot.metrics, x_axis=plot.x_axis)


def trial_plot_from_proto(message: trials_pb2.TrialPlot, path: str = "") -> TrialPlot:
    """A plot with a title."""
    if not message.title:
        raise InvalidField(at(path, "title"), "must not be empty")
    return TrialPlot(title=message.title, metrics=tuple(message.metrics), x_axis=message.x_axis)
