"""A study on a table: W workers that take time, a scheme that they ask and tell."""

import heapq
import random
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from benchmarks.tables import Indices, Table

# The evaluations whose time is taken: those around the hundredth, where the target is.
TIMED = range(91, 111)


class Scheme(Protocol):
    """A search that is asked for configurations and told results, in any order."""

    def ask(self, number: int) -> Indices | None:
        """The configuration of evaluation `number`; None to wait for a result."""

    def tell(self, number: int, value: float) -> None:
        """The result of evaluation `number`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One study of one scheme on one table.

    `incumbents` are pairs (n, mean): from the n-th result on, the configuration with the best
    result so far has this mean over the seeds of the table. `repeats` counts evaluations
    of configurations that were evaluated before. `ask_tell_ms` is the median CPU time of
    asking for and telling an evaluation around the hundredth.
    """

    table: str
    scheme: str
    workers: int
    seed: int
    evaluations: int
    incumbents: tuple[tuple[int, float], ...]
    repeats: int
    ask_tell_ms: float

    def found(self, evaluations: int) -> float:
        """The mean of the configuration with the best of the first results.

        Raises:
            ValueError: There are not so many results.
        """
        if not 1 <= evaluations <= self.evaluations:
            raise ValueError(f"the run has {self.evaluations} evaluations, not {evaluations}")
        return [mean for number, mean in self.incumbents if number <= evaluations][-1]


def simulate(
    scheme: Scheme, table: Table, *, name: str, seed: int, workers: int, evaluations: int
) -> Run:
    """Runs a scheme until there are `evaluations` results, or it waits for nothing.

    All workers are busy until the end: an evaluation is asked for as soon as one is free, with
    W - 1 others running. So a shorter run is the beginning of a longer one. Which seed
    of the table evaluation n draws, and how long it takes (uniform in [0.5, 1.5]), depends on
    the table, `seed` and n alone, not on the scheme.
    """
    running: list[tuple[float, int, Indices]] = []
    results: list[tuple[Indices, float]] = []
    times_s: dict[int, float] = {}
    now = 0.0
    asked = 0
    while len(results) < evaluations:
        while len(running) < workers:
            started_s = time.process_time()
            indices = scheme.ask(asked + 1)
            if indices is None:
                break
            asked += 1
            times_s[asked] = time.process_time() - started_s
            takes = draw("duration", table.name, seed, asked) + 0.5
            heapq.heappush(running, (now + takes, asked, indices))
        if not running:
            break
        now, number, indices = heapq.heappop(running)
        value = table.observe(indices, draw("result", table.name, seed, number))
        started_s = time.process_time()
        scheme.tell(number, value)
        times_s[number] += time.process_time() - started_s
        results.append((indices, value))
    timed = [times_s[n] for n in TIMED if n in times_s] or list(times_s.values())
    return Run(
        table=table.name,
        scheme=name,
        workers=workers,
        seed=seed,
        evaluations=len(results),
        incumbents=incumbents(table, results),
        repeats=len(results) - len({indices for indices, _ in results}),
        ask_tell_ms=1000 * statistics.median(timed),
    )


def incumbents(
    table: Table, results: Iterable[tuple[Indices, float]]
) -> tuple[tuple[int, float], ...]:
    """The incumbents of a `Run`, by configurations and results in the order of the results."""
    found: list[tuple[int, float]] = []
    best = None
    for number, (indices, value) in enumerate(results, 1):
        if best is None or table.is_better(value, best):
            best = value
            found.append((number, table.mean(indices)))
    return tuple(found)


def draw(what: str, table: str, seed: int, number: int) -> float:
    """Uniform in [0, 1): of one kind (`what`), for evaluation `number` of a run on a table."""
    return random.Random(f"{what} {table} {seed} {number}").random()
