"""A search space of one layer, small enough to be computed by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jax import Array

from rafiki.supernet import Bank, Initializer, Row, Rows, Tensors, choose

PIXELS, CLASSES = 16, 3
# How many pixels the operations with weights see; a third operation has none.
SIZES = (16, 9)


class Layer(NamedTuple):
    """Which of the three operations: int32 scalar."""

    operation: np.ndarray


def layer(operation: int) -> Layer:
    return Layer(np.array(operation, np.int32))


def _seeing(size: int) -> Callable[[Array, Array], Array]:
    return lambda x, kernel: x[:, :size] @ kernel[:size]


BRANCHES = (*(_seeing(size) for size in SIZES), lambda x, kernel: x[:, :CLASSES])


@dataclass(frozen=True)
class ToySpace:
    def init(self, seed: int) -> dict[str, np.ndarray]:
        layers = np.zeros((len(SIZES), PIXELS, CLASSES), np.float32)
        for row, size in enumerate(SIZES):
            layers[row, :size] = Initializer(seed + row).normal(size, size, CLASSES)
        ones = np.ones(len(SIZES), np.float32)
        return {"bias": np.zeros(CLASSES, np.float32), "layers": layers, "scales": ones}

    def banks(self) -> Mapping[str, Bank]:
        def bank(name: str, *sizes: int) -> Bank:
            rows = (Row(index=(k,), path=f"row_{k}/{name}", length=n) for k, n in enumerate(sizes))
            return Bank(rows=tuple(rows))

        return {"layers": bank("kernel", *SIZES), "scales": bank("scale", 1, 1)}

    def rows(self, arch: Layer) -> Rows:
        return {name: (arch.operation.reshape(1),) for name in ("layers", "scales")}

    def logits(self, active: Tensors, arch: Layer, images: Array) -> Array:
        x = images.reshape(len(images), PIXELS)
        y: Array = choose(BRANCHES, arch.operation, x, active["layers"][0])
        return y * (1 + active["scales"][0]) + active["bias"]
