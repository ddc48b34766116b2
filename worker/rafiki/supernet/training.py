"""Loss, accuracy, optimisers and learning rates of every training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rafiki.supernet.banks import Tensors

MOMENTUM = 0.9

Slots: TypeAlias = dict[str, Tensors]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """How gradients change weights that an architecture uses.

    `optax` keeps state per tree of parameters; here a tensor's state must be found and put
    back row by row, with the tensor.

    Attributes:
        slots: Names of the states that every tensor has, of its own size, at first 0.
        update: From the active weights, their states by slot, their gradients and the
            learning rate to new weights and states.
    """

    slots: tuple[str, ...]
    update: Callable[[Tensors, Slots, Tensors, Array], tuple[Tensors, Slots]]


def nesterov(weight_decay: float) -> Optimizer:
    """Stochastic gradient descent with Nesterov momentum 0.9; weight decay is in the gradient."""

    def update(
        params: Tensors, slots: Slots, grads: Tensors, learning_rate: Array
    ) -> tuple[Tensors, Slots]:
        updated, momentum = {}, {}
        for name, value in params.items():
            grad = grads[name] + weight_decay * value
            momentum[name] = MOMENTUM * slots["momentum"][name] + grad
            updated[name] = value - learning_rate * (grad + MOMENTUM * momentum[name])
        return updated, {"momentum": momentum}

    return Optimizer(("momentum",), update)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """The mean over a minibatch, float32."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of labels hit; NaN, which is no score, if the network has diverged."""
    if not np.isfinite(logits).all():
        return math.nan
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def cosine(share: float, rate: float, least: float | None = None) -> float:
    """From `rate` to `least` (None: a hundredth of it) in half a cosine, as `share` goes to 1."""
    least = 0.01 * rate if least is None else least
    return least + (rate - least) * 0.5 * (1.0 + math.cos(math.pi * share))


def restarting_cosine(
    epoch: float, period: float, rate: float, least: float | None = None
) -> float:
    """Cosine with restarts, each period twice as long (SGDR, arXiv 1608.03983)."""
    while epoch >= period:
        epoch, period = epoch - period, 2 * period
    return cosine(epoch / period, rate, least)
