"""An architecture as int32 arrays, and the order of the weights that it chooses from.

Letters as in `rafiki.supernet.cells`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rafiki.model import ArchKnob, KnobValue, NodeRef
from rafiki.supernet.operations import KERNEL_SIZES, OPERATIONS

NODES = 5
STATES = NODES + 2
EDGES = 2 * NODES
SIDES = ("x", "y")

# A slot is an edge with one of its possible sources; it has a row of weights per operation
# with weights. _EDGE_SLOTS `[E]` is the slot of every edge with source 0.
_EDGE_SOURCES = np.repeat(np.arange(2, STATES), 2)
_EDGE_SLOTS = np.concatenate([[0], np.cumsum(_EDGE_SOURCES)[:-1]])
SLOTS = int(_EDGE_SOURCES.sum())
ROWS = SLOTS * len(KERNEL_SIZES)


def _row_names() -> list[str]:
    return [
        f"node_{edge // 2 + 2}/{SIDES[edge % 2]}/from_{source}/{operation}"
        for edge in range(EDGES)
        for source in range(_EDGE_SOURCES[edge])
        for operation in OPERATIONS[: len(KERNEL_SIZES)]
    ]


ROW_NAMES = _row_names()


def cell_knob(operations: Sequence[KnobValue]) -> ArchKnob:
    """The knob of one kind of cell: node by node, two earlier states, then two operations.

    Args:
        operations: One value per name in OPERATIONS; the same objects for both kinds of cell
            if they are to be the same choices to an advisor.
    """
    items: list[Sequence[KnobValue | NodeRef]] = []
    nodes = []
    for node in range(2, STATES):
        states = [NodeRef(state) for state in range(node)]
        items += [states, states, operations, operations]
        nodes += [node] * 4
    return ArchKnob(items, nodes)


class Architecture(NamedTuple):
    """One architecture as int32 arrays; what follows from `choices` is made on the host.

    Attributes:
        choices: `[2, N, 4]` of the normal and the reduction cell: per node, two earlier states
            and two operations.
        rows: `[2, E]` the row of a cell's weights for every edge; R where there are none.
        loose: `[2, S]` the state itself where no node reads it, otherwise S. The inputs of a
            cell count as well, as in the authors' code.
    """

    choices: np.ndarray
    rows: np.ndarray
    loose: np.ndarray

    @classmethod
    def of(cls, normal: Sequence[object], reduction: Sequence[object]) -> "Architecture":
        """An architecture from the values of the arch knobs.

        Args:
            normal: Per node, two earlier states and two names of operations, in one list.
            reduction: Likewise.

        Raises:
            ValueError: There are too few or too many values, or one is no choice of its position.
        """
        choices = np.zeros((2, NODES, 4), np.int32)
        for kind, values in enumerate((normal, reduction)):
            if len(values) != 4 * NODES:
                raise ValueError(f"a cell takes {4 * NODES} values, not {len(values)}")
            for position, value in enumerate(values):
                node, part = divmod(position, 4)
                allowed: Sequence[object] = range(node + 2) if part < 2 else OPERATIONS
                if value not in allowed:
                    raise ValueError(f"position {position} of a cell cannot be {value!r}")
                choices[kind, node, part] = allowed.index(value)
        sources = choices[:, :, :2].reshape(2, EDGES)
        operations = choices[:, :, 2:].reshape(2, EDGES)
        rows = (_EDGE_SLOTS + sources) * len(KERNEL_SIZES) + operations
        rows = np.where(operations < len(KERNEL_SIZES), rows, ROWS).astype(np.int32)
        read = np.stack([np.isin(np.arange(STATES), of_kind) for of_kind in sources])
        loose = np.where(read, STATES, np.arange(STATES)).astype(np.int32)
        return cls(choices, rows, loose)
