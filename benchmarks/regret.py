"""What runs come to: mean normalised regret, paired differences, the cost of parallelism.

Letters: S seeds. Runs are paired by seed, table and number of workers. Of several tables,
the regrets of one seed are averaged first: these S averages give the standard errors.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from benchmarks.simulation import Run
from benchmarks.tables import Table
from numpy.typing import NDArray

# The scheme that others are compared with, and the one that has no use for results.
REFERENCE = "optuna-tpe"
RANDOM = ("random", "RANDOM")

# So many standard errors may a difference be above 0 and count as none.
MARGIN = 2.0

# A scheme, with so many workers.
Search = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds, with its standard error (NaN for a single seed)."""

    mean: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a search had come to after `evaluations`, over one table or several.

    `regret` is the normalised regret, `found` the mean of the configuration found, in
    the unit of the table (None for several). `difference` is the regret less that of the
    reference with as many workers, None without one. `lost_advantage` is the share of its
    advantage over random search that the scheme with one worker has and this one not: None for one
    worker, and where a run of either is missing.
    """

    search: Search
    evaluations: int
    regret: Estimate
    found: Estimate | None
    difference: Estimate | None
    lost_advantage: Estimate | None

    @property
    def is_not_worse(self) -> bool:
        """Whether the difference is not above 0 by more than the margin: one-sided."""
        return self.difference is not None and (
            self.difference.mean <= MARGIN * self.difference.error
        )


def figures(runs: Iterable[Run], tables: Mapping[str, Table], at: Sequence[int]) -> list[Figure]:
    """The figures of all searches over all of `tables` together, by number of evaluations.

    Args:
        runs: One of every search on every table with every seed; those of other tables
            are left out.
        tables: By name.
        at: How many evaluations; at most those of the runs.

    Raises:
        ValueError: A search lacks a run, or a run is too short.
    """
    by_search: dict[Search, dict[int, list[Run]]] = {}
    for run in runs:
        if run.table in tables:
            seeds = by_search.setdefault((run.scheme, run.workers), {})
            seeds.setdefault(run.seed, []).append(run)
    values = {
        (search, evaluations): _regrets(by_search[search], tables, evaluations)
        for search in by_search
        for evaluations in at
    }
    found = []
    for (search, evaluations), regrets in values.items():
        reference = values.get(((REFERENCE, search[1]), evaluations))
        if search[0] == REFERENCE:
            reference = None
        found.append(
            Figure(
                search=search,
                evaluations=evaluations,
                regret=estimate(regrets),
                found=_found(by_search[search], evaluations) if len(tables) == 1 else None,
                difference=None if reference is None else estimate(regrets - reference),
                lost_advantage=_lost_advantage(values, search, evaluations),
            )
        )
    return found


def estimate(values: NDArray[np.float64]) -> Estimate:
    """The mean of `[S]` values, with its standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), float(error))


def lost_advantage(
    random: NDArray[np.float64], alone: NDArray[np.float64], together: NDArray[np.float64]
) -> Estimate:
    """The share of its advantage over random search that a scheme loses with several workers.

    Args:
        random: The regrets of random search, to which the number of workers is nothing, `[S]`.
        alone: The regrets of the scheme with one worker, `[S]`.
        together: Its regrets with several, after as many evaluations, `[S]`.

    Returns:
        0 for nothing lost, 1 for everything; NaN where there was no advantage. The error is
        that of the jackknife.
    """
    seeds = len(random)
    share = _lost_share(random, alone, together)
    if seeds < 2:
        return Estimate(share, math.nan)
    others = [~np.eye(seeds, dtype=bool)[seed] for seed in range(seeds)]
    shares = np.array([_lost_share(random[o], alone[o], together[o]) for o in others])
    return Estimate(share, float(shares.std() * math.sqrt(seeds - 1)))


def _lost_share(
    random: NDArray[np.float64], alone: NDArray[np.float64], together: NDArray[np.float64]
) -> float:
    advantage = random.mean() - alone.mean()
    return float((together.mean() - alone.mean()) / advantage) if advantage > 0 else math.nan


def _regrets(
    by_seed: Mapping[int, Sequence[Run]], tables: Mapping[str, Table], at: int
) -> NDArray[np.float64]:
    """The regret by seed, the mean over tables, `[S]`."""
    if any(sorted(run.table for run in runs) != sorted(tables) for runs in by_seed.values()):
        raise ValueError("every seed needs one run per table")
    return np.array(
        [
            np.mean([tables[run.table].regret(run.found(at)) for run in by_seed[seed]])
            for seed in sorted(by_seed)
        ]
    )


def _found(by_seed: Mapping[int, Sequence[Run]], at: int) -> Estimate:
    return estimate(np.array([run.found(at) for (run,) in by_seed.values()]))


def _lost_advantage(
    values: Mapping[tuple[Search, int], NDArray[np.float64]], search: Search, at: int
) -> Estimate | None:
    scheme, workers = search
    alone = values.get(((scheme, 1), at))
    random = next((values[(name, 1), at] for name in RANDOM if ((name, 1), at) in values), None)
    if workers == 1 or alone is None or random is None or scheme in RANDOM:
        return None
    return lost_advantage(random, alone, values[search, at])
