"""Variational dropout: masks that stay the same along a minibatch.

"A Theoretically Grounded Application of Dropout in Recurrent Neural Networks" (arXiv
1512.05287), at the places where enas_lm has it. Letters as in `rafiki.supernet.recurrent`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Which share is dropped, each in [0, 1).

    Attributes:
        words: Of the words of the vocabulary, wherever they occur in a minibatch.
        embeddings: Of the units of embeddings.
        inputs: Of the units that enter the cell, once more.
        nodes: Of the units of a node (and of the state before) that another reads.
        outputs: Of the units that words are predicted from.
    """

    words: float = 0.0
    embeddings: float = 0.0
    inputs: float = 0.0
    nodes: float = 0.0
    outputs: float = 0.0

    def __post_init__(self) -> None:
        for rate in (self.words, self.embeddings, self.inputs, self.nodes, self.outputs):
            if not 0 <= rate < 1:
                raise ValueError(f"a share that is dropped is in [0, 1), not {rate}")


class Masks(NamedTuple):
    """Masks that are multiplied with; 1.0 where nothing is dropped.

    Attributes:
        words: `[V, 1]`.
        inputs: `[B, H]`, on the embeddings of all words of a row.
        nodes: `[B, H]`.
        outputs: `[B, H]`.
    """

    words: Array | float = 1.0
    inputs: Array | float = 1.0
    nodes: Array | float = 1.0
    outputs: Array | float = 1.0


def draw_masks(
    dropout: Dropout, seed: Array, words: int, rows: int, hidden: int, dtype: jnp.dtype
) -> Masks:
    """The masks of a minibatch, from its seed alone.

    Args:
        dropout: Rates.
        seed: int32 scalar.
        words: V.
        rows: B.
        hidden: H.
        dtype: Of the masks.
    """
    keys = jax.random.split(jax.random.key(seed), 5)

    def mask(number: int, rate: float, *size: int) -> Array | float:
        if rate == 0:
            return 1.0
        kept = jax.random.bernoulli(keys[number], 1 - rate, size)
        return kept.astype(dtype) / (1 - rate)

    embeddings = mask(1, dropout.embeddings, rows, hidden)
    return Masks(
        words=mask(0, dropout.words, words, 1),
        inputs=embeddings * mask(2, dropout.inputs, rows, hidden),
        nodes=mask(3, dropout.nodes, rows, hidden),
        outputs=mask(4, dropout.outputs, rows, hidden),
    )
