"""A short training of supernets on as many devices as there are, for a process of its own.

    python -m tests.supernet.device_training FOLDER

with XLA_FLAGS=--xla_force_host_platform_device_count=4, say. It writes `cells.npz`, `macro.npz`,
`toy.npz` and `undivided.npz` into the folder: the weights after the training, its losses, and
class scores; and prints what the test wants to know in JSON.
"""

import json
import sys
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from tests.supernet.cells.static_network import make_arch, random_cells
from tests.supernet.macro.static_network import LAYERS, random_values
from tests.supernet.toy_space import ToySpace, layer

from rafiki.supernet import (
    MOST_STEPS,
    Data,
    ImageSpace,
    ImageSupernet,
    Inputs,
    minibatches,
    on_devices,
    stack_archs,
    take_images,
)
from rafiki.supernet.cells import CellSpace, Shape
from rafiki.supernet.macro import MacroArchitecture, MacroShape, MacroSpace

STEPS, CLASSES = 4, 3
Arch = TypeVar("Arch", bound=tuple[np.ndarray, ...])


def make_data(side: int, dtype: str) -> Data:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(64, side, side, 1), dtype=np.uint8)
    labels = rng.integers(CLASSES, size=64).astype(np.int32)
    mean, deviation = np.full(1, 0.5, dtype), np.full(1, 0.3, dtype)
    return Data(on_devices(images), labels, CLASSES, mean, deviation)


def train(
    data: Data, space: ImageSpace[Arch], archs: list[Arch], batch: int, path: Path
) -> dict[str, object]:
    """Trains a minibatch with each of `archs`; what its program is like."""
    supernet = ImageSupernet(Inputs.of(data), space, weight_decay=0.01)
    supernet.reset(0)
    supernet.weights.current = jax.tree.map(
        lambda tensor: tensor.astype(data.mean.dtype), supernet.weights.current
    )
    indices = np.stack([next(minibatches(64, batch, 0))] * MOST_STEPS)
    images = take_images(data.images, indices)
    program = supernet._programs.train.lower(  # type: ignore[attr-defined]
        supernet.weights.current,
        stack_archs(archs, MOST_STEPS),
        np.zeros(MOST_STEPS, np.float32),
        np.int32(1),
        images,
        data.labels[indices],
        (supernet.inputs.mean, supernet.inputs.deviation),
    ).compile()
    supernet._programs = supernet._programs._replace(train=program)
    rates = [0.1] * len(archs)
    losses = supernet.train(data, minibatches(64, batch, 0), archs, rates, lambda share: False)
    logits = supernet.logits(archs, data.images, indices[0])
    np.savez(path, losses=np.array(losses), logits=logits, **supernet.dump())  # type: ignore[arg-type]
    return {
        "devices": len(jax.devices()),
        "batches": [shard.data.shape[1] for shard in images.addressable_shards],
        "all_reduce": "all-reduce" in program.as_text(),
        "whole_weights": all(
            tensor.is_fully_replicated for tensor in jax.tree.leaves(supernet.weights.current)
        ),
    }


def main(folder: Path) -> None:
    data = make_data(4, "float32")
    layers = [layer(number % 3) for number in range(STEPS)]
    told = {
        name: train(data, ToySpace(), layers, batch, folder / f"{name}.npz")
        for name, batch in (("toy", 8), ("undivided", 6))
    }
    with jax.enable_x64(True):
        data = make_data(8, "float64")
        space = CellSpace(Shape.of(Inputs.of(data), 2, 1))
        archs = [make_arch(random_cells(seed)) for seed in range(STEPS)]
        told["cells"] = train(data, space, archs, 8, folder / "cells.npz")
        macro = MacroSpace(MacroShape.of(Inputs.of(data), LAYERS, 4, 2))
        layers_of = [MacroArchitecture.of(random_values(seed)) for seed in range(STEPS)]
        told["macro"] = train(data, macro, layers_of, 8, folder / "macro.npz")
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
