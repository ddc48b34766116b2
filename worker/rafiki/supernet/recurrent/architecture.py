"""A recurrent cell as int32 arrays, and the knob that chooses it.

Letters as in `rafiki.supernet.recurrent`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rafiki.model import ArchKnob, KnobValue, NodeRef

ACTIVATIONS = ("tanh", "relu", "identity", "sigmoid")


def recurrent_cell_knob(nodes: int) -> ArchKnob:
    """The knob of a cell: for each of the nodes 1 to N an earlier node, then an activation."""
    activations = [KnobValue(name) for name in ACTIVATIONS]
    items: list[Sequence[KnobValue | NodeRef]] = []
    builds = []
    for node in range(1, nodes + 1):
        items += [[NodeRef(earlier) for earlier in range(node)], activations]
        builds += [node, node]
    return ArchKnob(items, builds)


def bank_row(node: int, earlier: int) -> int:
    """The row of the weights with which `node` (from 1) reads `earlier`, in order of both."""
    return node * (node - 1) // 2 + earlier


class RecurrentArchitecture(NamedTuple):
    """One cell.

    Attributes:
        sources: `[N]` the earlier node that each node reads.
        activations: `[N]` indices of ACTIVATIONS.
        rows: `[N]` the rows of their weights.
    """

    sources: np.ndarray
    activations: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, values: Sequence[object]) -> "RecurrentArchitecture":
        """A cell from the values of its knob.

        Raises:
            ValueError: There are no pairs of values, or one is no choice of its position.
        """
        if len(values) % 2 or not values:
            raise ValueError(f"a cell takes two values per node, not {len(values)} in all")
        sources, activations = [], []
        for node, (source, activation) in enumerate(
            zip(values[::2], values[1::2], strict=True), start=1
        ):
            if type(source) is not int or not 0 <= source < node:
                raise ValueError(f"node {node} of a cell cannot read {source!r}")
            if activation not in ACTIVATIONS:
                raise ValueError(f"node {node} of a cell has no activation {activation!r}")
            sources.append(source)
            activations.append(ACTIVATIONS.index(str(activation)))
        rows = [bank_row(node, source) for node, source in enumerate(sources, start=1)]
        return cls(*(np.array(field, np.int32) for field in (sources, activations, rows)))
