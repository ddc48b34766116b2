"""Curves of a training, from the plots that its model declared and what it measured."""

from collections.abc import Mapping, Sequence

from rafiki.client.demo.drawing import Series
from rafiki.resources import TrialMetrics, TrialPlot


def training_curves(
    plots: Sequence[TrialPlot], runs: Mapping[str, Sequence[TrialMetrics]]
) -> tuple[dict[str, list[Series]], str]:
    """The curves of each plot, one per run and metric, and the label of their x axis.

    Args:
        plots: As declared; those over another x axis than the first are left out.
        runs: What was measured, by the label of the run. Of the last attempt.
    """
    if not plots:
        return {}, ""
    axis = plots[0].x_axis
    curves: dict[str, list[Series]] = {}
    for plot in plots:
        if plot.x_axis != axis:
            continue
        series = [
            _series(label if len(plot.metrics) == 1 else f"{label}: {metric}", metric, axis, run)
            for label, run in runs.items()
            for metric in plot.metrics
        ]
        drawn = [curve for curve in series if curve.x]
        if drawn:
            curves[plot.title.lower()] = drawn
    return curves, axis or "seconds"


def _series(label: str, metric: str, axis: str, run: Sequence[TrialMetrics]) -> Series:
    last = max((measured.attempt for measured in run), default=0)
    measured = [m for m in run if m.attempt == last and metric in m.values]
    if axis:
        measured = [m for m in measured if axis in m.values]
        x = [m.values[axis] for m in measured]
    else:
        x = [(m.time - measured[0].time).total_seconds() for m in measured]
    return Series(label=label, x=x, y=[m.values[metric] for m in measured])
