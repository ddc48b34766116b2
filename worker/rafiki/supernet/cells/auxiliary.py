"""The auxiliary head: a second classifier, which reads a cell before the last while training.

Source: `aux_head` in `src/cifar10/micro_child.py` of the authors' code, after NASNet
(arXiv 1707.07012): 5x5 average pooling with stride 3, 128 and then 768 channels, each with
batch norm and ReLU. Departures: on images too small for it, pooling takes all of a side; the
head is trained (their optimiser leaves variables named "aux_head" out).

Letters as in `rafiki.supernet.cells`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet.banks import Tensors
from rafiki.supernet.cells.shape import Shape
from rafiki.supernet.normalization import scale_and_shift
from rafiki.supernet.parameters import Initializer
from rafiki.supernet.pointwise import pointwise_convolution

WINDOW, STRIDE = 5, 3
FEW, MANY = 128, 768
PREFIX = "auxiliary/"


def init_auxiliary(shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """Fresh weights, all of which are needed for training only."""
    # Not the draws that the rest of the network begins with.
    init = Initializer(int(np.random.SeedSequence((seed, 1)).generate_state(1)[0]))
    stage = len(shape.stages) - 1
    channels, pixels = shape.stage_channels(stage), 1
    for side in (shape.stage_height(stage), -(-shape.width // (1 << stage))):
        pixels *= (side - min(WINDOW, side)) // STRIDE + 1
    return {
        "auxiliary/few": init.normal(channels, channels, FEW),
        "auxiliary/few_norm": init.norm(FEW),
        "auxiliary/many": init.normal(pixels * FEW, pixels * FEW, MANY),
        "auxiliary/many_norm": init.norm(MANY),
        "auxiliary/head": init.normal(2 * MANY, MANY, shape.classes),
    }


def auxiliary_logits(weights: Tensors, x: Array) -> Array:
    """Class scores `[B, classes]` from the output x `[B, H, W, C]` of a cell."""
    size = (1, *(min(WINDOW, side) for side in x.shape[1:3]), 1)
    zero = np.zeros((), x.dtype)
    total = lax.reduce_window(jax.nn.relu(x), zero, lax.add, size, (1, STRIDE, STRIDE, 1), "VALID")
    x = total * np.asarray(1.0 / (size[1] * size[2]), x.dtype)
    x = pointwise_convolution(x, weights["auxiliary/few"])
    x = jax.nn.relu(scale_and_shift(x, weights["auxiliary/few_norm"]))
    x = x.reshape(len(x), 1, 1, -1) @ weights["auxiliary/many"]
    x = jax.nn.relu(scale_and_shift(x, weights["auxiliary/many_norm"]))
    return jnp.mean(x, (1, 2)) @ weights["auxiliary/head"]
