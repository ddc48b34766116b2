"""How the weights of language models are trained.

Letters as in `rafiki.supernet.recurrent`.
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
from jax import Array

from rafiki.supernet.banks import Tensors
from rafiki.supernet.recurrent.dropout import Dropout
from rafiki.supernet.training import Optimizer, Slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What decides, beside the space, which programs are compiled.

    Attributes:
        rows: B of training.
        evaluation_rows: B of evaluation.
        weight_decay: Times a weight is added to its gradient.
        clip_norm: The largest Euclidean norm that the gradient of all active weights has.
        slowness: Of the mean square of what outputs change from word to word, which is added
            to the loss ("temporal activation regularisation", arXiv 1708.01009).
        dropout: Rates.
        is_averaged: Whether the mean of weights over steps is kept.
    """

    rows: int
    evaluation_rows: int
    weight_decay: float
    clip_norm: float
    slowness: float = 0.0
    dropout: Dropout = field(default_factory=Dropout)
    is_averaged: bool = False


def clipped_descent(weight_decay: float, clip_norm: float) -> Optimizer:
    """Stochastic gradient descent without momentum, gradients clipped by their global norm."""

    def update(
        params: Tensors, slots: Slots, grads: Tensors, learning_rate: Array
    ) -> tuple[Tensors, Slots]:
        grads = {name: grads[name] + weight_decay * value for name, value in params.items()}
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(grad)) for grad in grads.values()))
        # Below the bound the quotient is above 1; a norm of 0 must not give NaN.
        factor = learning_rate / jnp.maximum(norm / clip_norm, 1.0)
        return {name: value - factor * grads[name] for name, value in params.items()}, {}

    return Optimizer((), update)


def averaging_shares(steps: int, begin: float) -> list[float]:
    """How much each of `steps` steps counts in the mean of weights so far: 1 / k at the k-th.

    It is the averaging of ASGD as in "Regularizing and Optimizing LSTM Language Models" (arXiv
    1708.02182, section 4), but begun at a fixed share of the training: a training here has no
    validation data that could trigger it.

    Args:
        steps: Of the training.
        begin: Share of them before the mean begins; 1 or more is never.
    """
    first = int(begin * steps)
    return [0.0 if step < first else 1.0 / (step - first + 1) for step in range(steps)]
