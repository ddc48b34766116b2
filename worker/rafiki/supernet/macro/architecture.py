"""An architecture of the macro space as int32 arrays.

Letters as in `rafiki.supernet.macro`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rafiki.model import ArchKnob, KnobValue
from rafiki.supernet.macro.operations import OPERATIONS


def network_knob(layers: int) -> ArchKnob:
    """The knob of a network: layer by layer its operation, then a bit for every earlier state.

    Layer k (from 0) has k bits: of state 0, the stem, to state k - 1. State k, the layer before
    it, always enters through the operation. The bits are marked as skips.
    """
    operations = [KnobValue(name) for name in OPERATIONS]
    bits = [KnobValue(0), KnobValue(1)]
    items, skips = [], []
    for layer in range(layers):
        items += [operations, *[bits] * layer]
        skips += [False, *[True] * layer]
    return ArchKnob(items, skips=skips)


class MacroArchitecture(NamedTuple):
    """One architecture as int32 arrays.

    Attributes:
        operations: `[L]` indices into OPERATIONS.
        sources: `[L, L]` the states that every layer skips from, in order, then L.
        counts: `[L]` how many they are.
        last_readers: `[L]` the last layer that reads a state.
    """

    operations: np.ndarray
    sources: np.ndarray
    counts: np.ndarray
    last_readers: np.ndarray

    @classmethod
    def of(cls, values: Sequence[object]) -> "MacroArchitecture":
        """An architecture from the values of the arch knob.

        Raises:
            ValueError: There are too few or too many values, or one is no choice of its position.
        """
        layers = 0
        while layers * (layers + 1) // 2 < len(values):
            layers += 1
        if layers * (layers + 1) // 2 != len(values):
            raise ValueError(f"{len(values)} values describe no whole number of layers")
        operations = np.zeros(layers, np.int32)
        bits = np.zeros((layers, layers), bool)
        for layer in range(layers):
            start = layer * (layer + 1) // 2
            name, *skips = values[start : start + layer + 1]
            if name not in OPERATIONS:
                raise ValueError(f"layer {layer} cannot have the operation {name!r}")
            if any(bit not in (0, 1) for bit in skips):
                raise ValueError(f"the skips of layer {layer} are 0 or 1, not {skips}")
            operations[layer] = OPERATIONS.index(str(name))
            bits[layer, :layer] = skips
        numbers = np.arange(layers)
        sources = np.sort(np.where(bits, numbers, layers)).astype(np.int32)
        # State k is read by layer k, if by no later one.
        last = np.max(np.where(bits | np.eye(layers, dtype=bool), numbers[:, None], 0), axis=0)
        return cls(operations, sources, bits.sum(1, dtype=np.int32), last.astype(np.int32))
