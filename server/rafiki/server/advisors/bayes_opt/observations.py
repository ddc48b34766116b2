"""Which of the tried points the model holds, so that a proposal costs the same for ever.

Letters: N points.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rafiki.server.advisors.bayes_opt.dimensions import Floats
from rafiki.server.advisors.bayes_opt.targets import targets
from rafiki.server.advisors.tuning.history import History
from rafiki.server.advisors.tuning.points import Point

# How many failed points the model holds at most; the latest.
FAILURES = 50


@dataclass(frozen=True, slots=True)
class Observations:
    """Points with their targets: `[N]`."""

    points: list[Point]
    targets: Floats


def observations(history: History, limit: int) -> Observations:
    """What the model is to hold of a history with scored points: about `limit` observations.

    A point that failed counts as scored like the worst: where trials fail, the model expects
    nothing. Targets are those by all points, so that they do not depend on which are held.
    """
    failed = history.failed[-FAILURES:]
    rewards = np.array([entry.reward for entry in history.scored])
    values = targets(np.append(rewards, np.full(len(failed), rewards.min())))
    held = representatives(rewards, limit)
    points = [history.scored[number].point for number in held.tolist()]
    return Observations([*points, *failed], np.append(values[held], values[len(rewards) :]))


def representatives(rewards: Floats, limit: int) -> NDArray[np.int64]:
    """The places of up to `limit` rewards, ascending: all, or the best, the latest and a spread.

    Half are the best, a quarter the latest of the others, which say where the search is now,
    and a quarter is spread evenly over the ranks of the rest, which say where not to return.
    """
    if len(rewards) <= limit:
        return np.arange(len(rewards))
    order = np.argsort(-rewards, kind="stable")
    best, others = np.split(order, [limit - limit // 2])
    latest = np.sort(others)[-(limit // 4) :]
    rest = others[~np.isin(others, latest)]
    spread = rest[np.linspace(0, len(rest) - 1, limit // 2 - limit // 4).astype(np.int64)]
    return np.sort(np.concatenate([best, latest, spread]))
