"""A few steps of a training from scratch on as many devices as there are, in twice the precision.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 \
        python -m tests.zoo.final_on_devices {cells,macro} FILE

Writes the tensors after it to a .npz file, and prints the devices that hold minibatches.
"""

import sys

import jax
import numpy as np

from rafiki.supernet import Data, Inputs, minibatches, on_devices, take_images
from rafiki.supernet.cells import Architecture, FinalNetwork, Recipe, Shape
from rafiki.supernet.macro import (
    FinalMacroNetwork,
    MacroArchitecture,
    MacroRecipe,
    MacroShape,
    MacroSpace,
)

RECIPE = Recipe(
    shift=1, flip=True, cutout=3, drop_path_keep=0.6, dropout_keep=0.8, auxiliary_weight=0.4
)
CELL = [value for node in range(5) for value in (node, node + 1, "sepconv3", "avgpool3")]
NETWORK = ["conv5", "sepconv3", 1, "maxpool3", 0, 1, "avgpool3", 1, 0, 1]


def cells_network(inputs: Inputs) -> FinalNetwork:
    shape = Shape(height=8, width=8, depth=1, classes=3, channels=2, stages=(2,))
    network = FinalNetwork(inputs, shape, Architecture.of(CELL, CELL), RECIPE)
    network.reset(0)
    network._weights = jax.tree.map(lambda x: x.astype(np.float64), network._weights)
    return network


def macro_network(inputs: Inputs) -> FinalMacroNetwork:
    space = MacroSpace(MacroShape.of(inputs, 4, 2, 2))
    recipe = MacroRecipe(weight_decay=0.01, shift=1, flip=True)
    network = FinalMacroNetwork(inputs, space, MacroArchitecture.of(NETWORK), recipe)
    network.reset(0)
    network._state = jax.tree.map(lambda x: x.astype(np.float64), network._state)
    return network


def main(space: str, file: str) -> None:
    rng = np.random.default_rng(0)
    images = on_devices(rng.integers(256, size=(64, 8, 8, 1), dtype=np.uint8))
    labels = rng.integers(3, size=64).astype(np.int32)
    data = Data(images, labels, 3, np.full(1, 0.5), np.full(1, 0.3))
    inputs = Inputs.of(data)
    network = macro_network(inputs) if space == "macro" else cells_network(inputs)
    for _ in network.train(data, minibatches(64, 8, 0), [0.05] * 3, 0):
        pass
    np.savez(file, **network.dump())  # type: ignore[arg-type]
    taken = take_images(images, np.zeros((2, 8), np.int32))
    print(len({shard.device for shard in taken.addressable_shards if shard.data.shape[1] == 2}))


if __name__ == "__main__":
    with jax.enable_x64(True):
        main(*sys.argv[1:])
