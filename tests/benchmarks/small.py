"""Small tables with results that can be counted by hand."""

import numpy as np
from benchmarks.simulation import Run
from benchmarks.tables import Parameter, Table

from rafiki.resources import Direction

NAN = float("nan")


def small_table(*, name: str = "small", direction: Direction = Direction.MAXIMIZE) -> Table:
    """Two rates by two kinds, of one or two seeds: means 1, 2, 4 and 8 in their order."""
    return Table(
        name=name,
        direction=direction,
        parameters=(
            Parameter("rate", (0.1, 0.2), is_ordered=True),
            Parameter("kind", ("a", "b"), is_ordered=False),
        ),
        results=np.array([[1.0, NAN], [1.0, 3.0], [4.0, 4.0], [9.0, 7.0]]),
    )


def arch_table() -> Table:
    """Architectures of two positions with three operations, worth their number."""
    operations = ("none", "skip", "conv")
    return Table(
        name="archs",
        direction=Direction.MAXIMIZE,
        parameters=tuple(Parameter(f"op{n}", operations, is_ordered=False) for n in range(2)),
        results=np.arange(9.0).reshape(9, 1),
        is_architecture=True,
    )


def make_run(
    scheme: str,
    *incumbents: tuple[int, float],
    seed: int = 0,
    workers: int = 1,
    table: str = "small",
) -> Run:
    """A run of ten evaluations."""
    return Run(
        table=table,
        scheme=scheme,
        workers=workers,
        seed=seed,
        evaluations=10,
        incumbents=incumbents,
        repeats=0,
        ask_tell_ms=1.0,
    )
