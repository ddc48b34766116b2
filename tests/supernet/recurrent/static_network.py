"""The language model of one cell written down plainly, in Flax."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rafiki.supernet.recurrent import RecurrentSpace

FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": lambda x: jnp.maximum(x, 0),
    "identity": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + jnp.exp(-x)),
}


class StaticNetwork(nnx.Module):
    """Weights by their paths in a checkpoint; no path of another cell is read."""

    def __init__(self, params: Mapping[str, np.ndarray], cell: list[object]) -> None:
        self.embedding = nnx.Param(jnp.asarray(params["embedding"]))
        self.bias = nnx.Param(jnp.asarray(params["output/bias"]))
        self.first = nnx.Param(
            jnp.concatenate([params["cell/input"], params["cell/state"]], axis=0)
        )
        self.reads = tuple(int(str(value)) for value in cell[::2])
        self.functions = tuple(str(value) for value in cell[1::2])
        self.nodes = nnx.List(
            nnx.Param(
                jnp.asarray(
                    params["cell/nodes"][node - 1]
                    if "cell/nodes" in params
                    else params[f"cell/node_{node}/from_{read}"]
                )
            )
            for node, read in enumerate(self.reads, start=1)
        )

    def __call__(self, words: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scores `[T, B, V]` of next words, and the last state."""
        scores = []
        for word in words:
            both = jnp.concatenate([self.embedding[...][word], state], axis=-1) @ self.first[...]
            value, gate = jnp.split(both, 2, axis=-1)
            gate = FUNCTIONS["sigmoid"](gate)
            nodes = [gate * jnp.tanh(value) + (1 - gate) * state]
            for read, name, weights in zip(self.reads, self.functions, self.nodes, strict=True):
                value, gate = jnp.split(nodes[read] @ weights[...], 2, axis=-1)
                gate = FUNCTIONS["sigmoid"](gate)
                nodes.append(gate * FUNCTIONS[name](value) + (1 - gate) * nodes[read])
            state = jnp.stack(nodes[1:]).mean(0)
            scores.append(state @ self.embedding[...].T + self.bias[...])
        return jnp.stack(scores), state


def static_loss(
    network: StaticNetwork, words: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The mean of -log p of the words `[T + 1, B]` but the first, and the last state."""
    scores, state = network(words[:-1], state)
    steps, rows = words.shape[0] - 1, words.shape[1]
    chosen = jax.nn.log_softmax(scores)[
        jnp.arange(steps)[:, None], jnp.arange(rows)[None], words[1:]
    ]
    return -chosen.mean(), state


def paths_of(space: RecurrentSpace, cell: list[object]) -> list[str]:
    """The paths of the weights of the nodes of a cell."""
    if not space.is_shared:
        return ["cell/nodes"]
    return [f"cell/node_{node}/from_{read}" for node, read in enumerate(cell[::2], start=1)]
