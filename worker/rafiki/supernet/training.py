"""Loss, accuracy, momentum and learning rates of every training."""

import math

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

MOMENTUM = 0.9


def cross_entropy(logits: Array, labels: Array) -> Array:
    """The mean over a minibatch."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of labels hit; NaN, which is no score, if the network has diverged."""
    if not np.isfinite(logits).all():
        return math.nan
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def cosine(share: float, rate: float) -> float:
    """From `rate` to a hundredth of it in half a cosine, as `share` goes from 0 to 1."""
    return rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share)))


def restarting_cosine(epoch: float, period: float, rate: float) -> float:
    """Cosine with restarts, each period twice as long (SGDR, arXiv 1608.03983)."""
    while epoch >= period:
        epoch, period = epoch - period, 2 * period
    return cosine(epoch / period, rate)
