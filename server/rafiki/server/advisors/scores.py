"""Summaries of the scores of an arm."""

import statistics
from collections.abc import Sequence

from rafiki.resources import Direction, ScoreStats


def sign(direction: Direction) -> int:
    """What a score is multiplied with to be a reward: higher is better."""
    return 1 if direction is Direction.MAXIMIZE else -1


def score_stats(scores: Sequence[float], direction: Direction) -> ScoreStats:
    """The stats of finite scores; zeros if there are none."""
    if not scores:
        return ScoreStats(count=0, mean=0.0, standard_deviation=0.0, best=0.0)
    return ScoreStats(
        count=len(scores),
        mean=statistics.fmean(scores),
        standard_deviation=statistics.stdev(scores) if len(scores) > 1 else 0.0,
        best=max(scores) if direction is Direction.MAXIMIZE else min(scores),
    )
