import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.resources import LogLevel, TrialLog, TrialMetrics, TrialPlot
from rafiki.v1 import trials_pb2
from rafiki.wire.fields import InvalidField
from rafiki.wire.reports import (
    trial_log_from_proto,
    trial_log_to_proto,
    trial_metrics_from_proto,
    trial_metrics_to_proto,
    trial_plot_from_proto,
    trial_plot_to_proto,
)

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
TIMES = st.datetimes(timezones=st.just(UTC))
SEQUENCES = st.integers(1, 2**63 - 1)
COUNTS = st.integers(0, 2**31 - 1)
FLOATS = st.floats(allow_nan=False)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(
    st.builds(
        TrialLog,
        sequence=SEQUENCES,
        time=TIMES,
        level=st.sampled_from(LogLevel),
        message=TEXTS,
        attempt=COUNTS,
    )
)
def test_a_log_line_survives_the_round_trip(log: TrialLog) -> None:
    assert trial_log_from_proto(trial_log_to_proto(log)) == log


@given(
    st.builds(
        TrialMetrics,
        sequence=SEQUENCES,
        time=TIMES,
        values=st.dictionaries(TEXTS, FLOATS, max_size=3),
        step=st.integers(0, 2**63 - 1),
        score=st.none() | FLOATS,
        attempt=COUNTS,
    )
)
def test_metrics_survive_the_round_trip(metrics: TrialMetrics) -> None:
    assert trial_metrics_from_proto(trial_metrics_to_proto(metrics)) == metrics


@given(
    st.builds(
        TrialPlot,
        title=TEXTS.filter(bool),
        metrics=st.lists(TEXTS, max_size=3).map(tuple),
        x_axis=TEXTS,
    )
)
def test_a_plot_survives_the_round_trip(plot: TrialPlot) -> None:
    assert trial_plot_from_proto(trial_plot_to_proto(plot)) == plot


def test_a_metric_may_be_nan() -> None:
    metrics = TrialMetrics(sequence=1, time=NOW, values={"loss": math.nan})
    assert math.isnan(trial_metrics_from_proto(trial_metrics_to_proto(metrics)).values["loss"])


def test_a_long_line_is_cut() -> None:
    log = TrialLog(sequence=1, time=NOW, level=LogLevel.INFO, message="x" * 9000)
    assert len(trial_log_to_proto(log).message) == 8 << 10


LOG = trial_log_to_proto(TrialLog(sequence=1, time=NOW, level=LogLevel.INFO, message="x"))
METRICS = trial_metrics_to_proto(TrialMetrics(sequence=1, time=NOW, values={}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", None),
        ("level", None),
        ("level", 99),
        ("sequence", 0),
        ("sequence", -1),
        ("message", "x" * 8193),
        ("attempt", -1),
    ],
)
def test_a_malformed_log_line_is_refused_by_path(field: str, value: object) -> None:
    message = trials_pb2.TrialLog()
    message.CopyFrom(LOG)
    message.ClearField(field)  # type: ignore[arg-type]
    message.MergeFrom(trials_pb2.TrialLog(**{field: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=rf"^logs\[0\]\.{field}: "):
        trial_log_from_proto(message, "logs[0]")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", None),
        ("sequence", 0),
        ("step", -1),
        ("values", {str(n): 0.0 for n in range(65)}),
    ],
)
def test_malformed_metrics_are_refused_by_path(field: str, value: object) -> None:
    message = trials_pb2.TrialMetrics()
    message.CopyFrom(METRICS)
    message.ClearField(field)  # type: ignore[arg-type]
    message.MergeFrom(trials_pb2.TrialMetrics(**{field: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=rf"^metrics\[3\]\.{field}: "):
        trial_metrics_from_proto(message, "metrics[3]")


def test_a_plot_without_a_title_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"^plots.title: must not be empty"):
        trial_plot_from_proto(trials_pb2.TrialPlot(), "plots")
