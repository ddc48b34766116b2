"""Banks: the weights of all architectures, of which one architecture uses some rows.

A bank is an array with a row per alternative. A program takes the active rows out before it
differentiates, and puts them back with their optimiser state when they are updated: so the
backward pass never touches the bank, and what is not active keeps every bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jax import Array

Tensors: TypeAlias = dict[str, Array]

# Per bank, the indices of its active rows: integer arrays that index its first axes. Past the
# end stands for no row: zeros are taken from there, and nothing is put back.
Rows: TypeAlias = Mapping[str, tuple[np.ndarray | Array, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a bank as a tensor of checkpoints.

    Attributes:
        index: Where it is in the bank.
        path: Its path in a checkpoint.
        length: How much of its first axis is its own; what is beyond is padding.
    """

    index: tuple[int, ...]
    path: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """A bank as checkpoints have it: all its rows, each a tensor of its own."""

    rows: tuple[Row, ...]

    @property
    def depth(self) -> int:
        """How many axes the indices of its rows have."""
        return len(self.rows[0].index)


def gather_active(tensors: Mapping[str, Array], rows: Rows) -> Tensors:
    """What an architecture uses: the active rows of the banks (0 where none), all the rest."""
    return {
        name: tensor.at[rows[name]].get(mode="fill", fill_value=0) if name in rows else tensor
        for name, tensor in tensors.items()
    }


def scatter_active(tensors: Mapping[str, Array], active: Tensors, rows: Rows) -> Tensors:
    """The tensors with the active ones put back; all others keep every bit.

    No row may be active twice: which of its two values stays would be left to chance.
    """
    return {
        name: tensor.at[rows[name]].set(active[name], mode="drop") if name in rows else active[name]
        for name, tensor in tensors.items()
    }
