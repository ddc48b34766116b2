"""Which running trials are behind, by the scores that they report.

Rewards are scores, negated where less is better. A trial is judged when it reports; what is
behind stays so. A report of an earlier step means that another attempt began: all that the
trial reported before is forgotten.
"""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rafiki.resources import EarlyStopping, EarlyStoppingRule
from rafiki.server.advisors.tuning.points import Arrays
from rafiki.server.domain.advisor import AdvisorState

# A curve keeps so many of its means at most: beyond it every other one is dropped, and the mean
# at a step is the latest one kept up to it.
CURVE_POINTS = 64

# Trials are compared with so many of the latest curves at most.
CURVES = 1000


class StoppingRule(Protocol):
    """Tells who is behind."""

    def report(self, number: int, step: int, reward: float) -> bool:
        """Takes in a report of a trial, its steps ascending; returns whether it is behind."""

    def restart(self, number: int) -> None:
        """Forgets what a running trial has reported."""

    def end(self, number: int, is_scored: bool) -> None:
        """Takes in the end of a trial that may have reported."""

    def dump(self) -> AdvisorState:
        """All of it as plain JSON and arrays."""

    def load(self, state: AdvisorState) -> None:
        """Restores what `dump` gave."""


class EarlyStopper:
    """Which trials are behind, by one rule."""

    def __init__(self, options: EarlyStopping) -> None:
        is_median = options.rule is EarlyStoppingRule.MEDIAN
        self._rule: StoppingRule = Median(options) if is_median else Asha(options)
        self._steps: dict[int, int] = {}  # the latest by running trial
        self._behind: set[int] = set()

    @property
    def behind(self) -> frozenset[int]:
        """The running trials that are behind."""
        return frozenset(self._behind)

    def report(self, number: int, step: int, reward: float) -> None:
        """Takes in a report of a running trial; one of the latest step again is ignored."""
        latest = self._steps.get(number)
        if latest is not None and step <= latest:
            if step == latest:
                return
            self._rule.restart(number)
            self._behind.discard(number)
        self._steps[number] = step
        if self._rule.report(number, step, reward):
            self._behind.add(number)

    def end(self, number: int, is_scored: bool) -> None:
        """Takes in the end of a trial."""
        if self._steps.pop(number, None) is not None:
            self._behind.discard(number)
            self._rule.end(number, is_scored)

    def dump(self) -> AdvisorState:
        """All of it as plain JSON and arrays."""
        rule = self._rule.dump()
        values = {
            "steps": list(self._steps.items()),
            "behind": sorted(self._behind),
            "rule": dict(rule.values),
        }
        return AdvisorState(values=values, arrays=rule.arrays)

    def load(self, state: AdvisorState) -> None:
        """Restores what `dump` gave."""
        self._steps = dict(state.values["steps"])
        self._behind = set(state.values["behind"])
        self._rule.load(AdvisorState(values=state.values["rule"], arrays=state.arrays))


@dataclass(slots=True)
class Curve:
    """The running means of a trial: `means[i]` is that of all reports up to `steps[i]`.

    Of `count` reports, the latest of step `last`, every `stride`-th is kept, from the first.
    """

    steps: list[int] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    count: int = 0
    stride: int = 1
    last: int = 0
    mean: float = 0.0
    best: float = -math.inf

    def add(self, step: int, reward: float) -> None:
        """Takes in a report."""
        if self.count % self.stride == 0 and len(self.steps) == CURVE_POINTS:
            del self.steps[1::2], self.means[1::2]
            self.stride *= 2
        self.mean += (reward - self.mean) / (self.count + 1)
        if self.count % self.stride == 0:
            self.steps.append(step)
            self.means.append(self.mean)
        self.count += 1
        self.last = step
        self.best = max(self.best, reward)

    def mean_at(self, step: int) -> float | None:
        """The mean of the reports up to `step`; None unless there are some, and one as late."""
        if self.last < step:
            return None
        index = bisect.bisect_right(self.steps, step)
        return self.means[index - 1] if index else None


# What a snapshot holds of a curve beside its steps and means.
_COUNTS = ("count", "stride", "last")
_LEVELS = ("mean", "best")


class Median:
    """The median stopping rule: Golovin et al. 2017, "Google Vizier", section 3.2.2.

    A trial is behind at step s if its best reward so far is strictly worse than the median of
    the running means up to s of the other trials that have come as far. Those that still run
    count as well, errored and cancelled ones do not.
    """

    def __init__(self, options: EarlyStopping) -> None:
        self._options = options
        self._curves: dict[int, Curve] = {}
        self._ended: list[int] = []

    def report(self, number: int, step: int, reward: float) -> bool:
        curve = self._curves.setdefault(number, Curve())
        curve.add(step, reward)
        if step < self._options.min_steps:
            return False
        means = [
            mean
            for other, theirs in self._curves.items()
            if other != number and (mean := theirs.mean_at(step)) is not None
        ]
        if len(means) < self._options.min_trials:
            return False
        return curve.best < float(np.median(means))

    def restart(self, number: int) -> None:
        self._curves.pop(number, None)

    def end(self, number: int, is_scored: bool) -> None:
        if not is_scored:
            del self._curves[number]
            return
        self._ended.append(number)
        if len(self._ended) > CURVES:
            del self._curves[self._ended.pop(0)]

    def dump(self) -> AdvisorState:
        curves = self._curves.values()
        arrays: dict[str, NDArray[np.generic]] = {
            "number": np.array(list(self._curves), np.int64),
            "length": np.array([len(curve.steps) for curve in curves], np.int64),
            "steps": np.array([step for curve in curves for step in curve.steps], np.int64),
            "means": np.array([mean for curve in curves for mean in curve.means], np.float64),
        }
        for names, dtype in ((_COUNTS, np.int64), (_LEVELS, np.float64)):
            for name in names:
                arrays[name] = np.array([getattr(curve, name) for curve in curves], dtype)
        return AdvisorState(values={"ended": list(self._ended)}, arrays=arrays)

    def load(self, state: AdvisorState) -> None:
        arrays = state.arrays
        self._ended = list(state.values["ended"])
        self._curves = {}
        ends = np.cumsum(arrays["length"])
        starts = (ends - arrays["length"]).tolist()
        steps, means = arrays["steps"].tolist(), arrays["means"].tolist()
        columns = [arrays[name].tolist() for name in ("number", *_COUNTS, *_LEVELS)]
        for start, end, number, *rest in zip(starts, ends.tolist(), *columns, strict=True):
            self._curves[number] = Curve(steps[start:end], means[start:end], *rest)


class Asha:
    """Asynchronous successive halving: Li et al. 2020, "A System for Massively Parallel
    Hyperparameter Tuning", section 3.2, in the variant that stops trials and never resumes.

    Rungs are at min_steps * eta^k, k = 0, 1, ... The first reward that a trial reports at or
    past a rung (its current one, not its best) enters the rung, and the trial is behind unless
    it is among the best floor(n / eta) of the n in it; of equals none is behind. With fewer
    than eta in the rung it goes on.
    """

    def __init__(self, options: EarlyStopping) -> None:
        self._options = options
        self._rungs: list[list[float]] = []  # rewards, ascending
        self._entries: dict[int, list[float]] = {}  # of running trials, by rung

    def report(self, number: int, step: int, reward: float) -> bool:
        entries = self._entries.setdefault(number, [])
        is_behind = False
        while step >= self._steps_of(len(entries)):
            if len(entries) == len(self._rungs):
                self._rungs.append([])
            rung = self._rungs[len(entries)]
            bisect.insort(rung, reward)
            entries.append(reward)
            better = len(rung) - bisect.bisect_right(rung, reward)
            kept = int(len(rung) / self._options.reduction_factor)
            is_behind = is_behind or (kept > 0 and better >= kept)
        return is_behind

    def _steps_of(self, rung: int) -> float:
        return self._options.min_steps * self._options.reduction_factor**rung

    def restart(self, number: int) -> None:
        for rung, reward in zip(self._rungs, self._entries.pop(number, ()), strict=False):
            rung.remove(reward)

    def end(self, number: int, is_scored: bool) -> None:
        # What a trial that failed had reached it had reached all the same.
        self._entries.pop(number, None)

    def dump(self) -> AdvisorState:
        values = {"entries": list(self._entries.items())}
        arrays: dict[str, NDArray[np.generic]] = {
            "length": np.array([len(rung) for rung in self._rungs], np.int64),
            "rewards": np.array([reward for rung in self._rungs for reward in rung], np.float64),
        }
        return AdvisorState(values=values, arrays=arrays)

    def load(self, state: AdvisorState) -> None:
        self._entries = {number: list(entries) for number, entries in state.values["entries"]}
        self._rungs = list(_split(state.arrays))


def _split(arrays: Arrays) -> Iterable[list[float]]:
    start = 0
    for length in arrays["length"].tolist():
        yield arrays["rewards"][start : start + length].tolist()
        start += length
