"""A cell whose nodes and activations are chosen at run time, along a text.

Letters as in `rafiki.supernet.recurrent`.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from rafiki.supernet.banks import Tensors
from rafiki.supernet.recurrent.architecture import RecurrentArchitecture


def run_cell(
    active: Tensors, arch: RecurrentArchitecture, x: Array, state: Array, mask: Array | float
) -> tuple[Array, Array]:
    """The outputs `[T, B, H]` of all steps, and the state `[B, H]` after the last.

    Args:
        active: "cell/input" `[H, 2 H]`, "cell/state" `[H, 2 H]`, "cell/nodes" `[N, H, 2 H]`.
        arch: The cell.
        x: `[T, B, H]`.
        state: `[B, H]` before the first step.
        mask: Is multiplied with whatever is read of the state and of nodes.
    """
    nodes = active["cell/nodes"]
    choices = (jnp.arange(len(nodes)), jnp.asarray(arch.sources), jnp.asarray(arch.activations))

    def step(state: Array, entering: Array) -> tuple[Array, Array]:
        value, gate = jnp.split(entering + (state * mask) @ active["cell/state"], 2, axis=-1)
        first = state + jax.nn.sigmoid(gate) * (jnp.tanh(value) - state)
        values = jnp.zeros((len(nodes) + 1, *first.shape), first.dtype).at[0].set(first)
        (_, total), _ = lax.scan(run_node, (values, jnp.zeros_like(first)), (*choices, nodes))
        state = total / len(nodes)
        return state, state

    def run_node(
        carry: tuple[Array, Array], node: tuple[Array, Array, Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        values, total = carry
        number, source, activation, weights = node
        read = values[source]
        value, gate = jnp.split((read * mask) @ weights, 2, axis=-1)
        made = read + jax.nn.sigmoid(gate) * (activated(value, activation) - read)
        return (values.at[number + 1].set(made), total + made), None

    state, outputs = lax.scan(step, state, x @ active["cell/input"])
    return outputs, state


def activated(x: Array, activation: Array) -> Array:
    """`x` after the activation of that index in ACTIVATIONS.

    All of them are computed: for so few numbers a branch saves nothing on a CPU, and it costs
    more than it saves on other devices.
    """
    return lax.select_n(activation, jnp.tanh(x), jax.nn.relu(x), x, jax.nn.sigmoid(x))
