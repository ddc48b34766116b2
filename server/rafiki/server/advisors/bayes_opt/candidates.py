"""Where to look for the points of the highest acquisition.

Letters: N, M points, D dimensions (see `encoding`).
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from rafiki.server.advisors.bayes_opt.dimensions import Floats, Numeric
from rafiki.server.advisors.bayes_opt.encoding import Encoding

# Gives the acquisition of rows of coordinates: `[N, D]` -> `[N]`.
Acquisition: TypeAlias = Callable[[Floats], Floats]

# Spaces up to this size are looked through; beyond, so many points are drawn uniformly.
ENUMERATED = 1000
DRAWS = 500

# So many of the points observed with the highest mean are mutated so often each; then, round
# by round, the candidates that are best so far.
PARENTS = 5
MUTATIONS = 40
CLIMBS = 2
CLIMB_MUTATIONS = 30

# The standard deviation of a numeric mutation, as a part of the range: log-uniform in this.
STEPS = (0.003, 0.3)


def ranked_candidates(
    encoding: Encoding,
    acquisition: Acquisition,
    known: Floats,
    parents: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Points other than those known, the highest acquisition first: `[M, D]`, perhaps none.

    Args:
        encoding: The space.
        acquisition: What is to be high.
        known: Points not to be returned: `[N, D]`.
        parents: Points that are good, near which others may be better: `[N, D]`.
        rng: Is consumed.
    """
    rows = {row.tobytes() for row in known}

    def new(candidates: Floats) -> Floats:
        return candidates[[row.tobytes() not in rows for row in candidates]]

    if math.prod(dimension.size for dimension in encoding.dimensions) <= ENUMERATED:
        pool = new(enumerated(encoding))
        return pool[np.argsort(-acquisition(pool), kind="stable")]
    draws = drawn(encoding, encoding.affordable(DRAWS), rng)
    nearby = mutated(encoding, parents[:PARENTS], encoding.affordable(MUTATIONS), rng)
    pool = new(np.vstack([draws, nearby]))
    values = acquisition(pool)
    for _ in range(CLIMBS):
        best = pool[np.argsort(-values, kind="stable")[:PARENTS]]
        nearby = new(mutated(encoding, best, encoding.affordable(CLIMB_MUTATIONS), rng))
        pool = np.vstack([pool, nearby])
        values = np.concatenate([values, acquisition(nearby)])
    return pool[np.argsort(-values, kind="stable")]


def enumerated(encoding: Encoding) -> Floats:
    """All points of a space of integers and choices: `[N, D]`."""
    axes = np.meshgrid(*(dim.levels() for dim in encoding.dimensions), indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)


def drawn(encoding: Encoding, count: int, rng: np.random.Generator) -> Floats:
    """Uniform points, each dimension in its scale: `[count, D]`."""
    uniform = rng.random((count, len(encoding.dimensions)))
    columns = [dim.draw(column) for dim, column in zip(encoding.dimensions, uniform.T, strict=True)]
    return np.stack(columns, axis=1)


def mutated(encoding: Encoding, rows: Floats, times: int, rng: np.random.Generator) -> Floats:
    """Every point changed in one random dimension and, on average, one more: `[N * times, D]`.

    A numeric value moves by a normal step, of about one value at least where they are integers; a
    choice is drawn anew.
    """
    children = np.repeat(rows, times, axis=0)
    count, dimensions = children.shape
    changes = rng.random((count, dimensions)) < 1 / dimensions
    changes[np.arange(count), rng.integers(dimensions, size=count)] = True
    fresh = drawn(encoding, count, rng)
    scale = np.exp(rng.uniform(math.log(STEPS[0]), math.log(STEPS[1]), count))
    normal = rng.standard_normal((count, dimensions))
    for number, dimension in enumerate(encoding.dimensions):
        if isinstance(dimension, Numeric):
            step = np.maximum(scale, 1 / dimension.size) * normal[:, number]
            fresh[:, number] = dimension.snap(children[:, number] + step)
    return np.where(changes, fresh, children)
