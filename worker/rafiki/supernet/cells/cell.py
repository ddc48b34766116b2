"""A cell of the supernet, whatever its architecture.

Letters as in `rafiki.supernet.cells`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from rafiki.supernet.cells.architecture import EDGES, NODES, STATES
from rafiki.supernet.choice import backward_branches
from rafiki.supernet.operations import BRANCHES


def _entering(branch: Callable[[Array, Array], Array]) -> Callable[[Array, Array, Array], Array]:
    """A branch that takes its operand from the states itself: one pass over memory less."""

    def enter(states: Array, source: Array, packed: Array) -> Array:
        return branch(lax.dynamic_index_in_dim(states, source, keepdims=False), packed)

    return enter


# Not for the way back: the derivative of the maximum then takes nearly twice as long.
_ENTERING = tuple(_entering(branch) for branch in BRANCHES)


@jax.custom_vjp
def search_cell(
    choices: Array, loose: Array, first: Array, second: Array, edges: Array, outputs: Array
) -> Array:
    """The sum over the loose ends of a cell, each ReLUed and multiplied by its own matrix.

    That is the 1x1 convolution of their concatenation. The derivative is written out: it
    keeps the states alone and recomputes inside the branch that was taken. Differentiating
    `lax.switch` would keep what every branch could need.

    Args:
        choices: `[N, 4]` of one kind of cell.
        loose: `[S]` likewise.
        first: `[B, H, W, C]`, the output of the cell before the last.
        second: `[B, H, W, C]`, the output of the last cell.
        edges: `[E, P]` packed weights of the active operations.
        outputs: `[S, C, C]` a matrix per state.
    """
    return _search_cell_forward(choices, loose, first, second, edges, outputs)[0]


def _search_cell_forward(
    choices: Array, loose: Array, first: Array, second: Array, edges: Array, outputs: Array
) -> tuple[Array, tuple[Array, ...]]:
    def enter_node(node: Array, states: Array) -> Array:
        x, y = (
            lax.switch(
                choices[node, side + 2],
                _ENTERING,
                states,
                choices[node, side],
                edges[2 * node + side],
            )
            for side in range(2)
        )
        return states.at[node + 2].set(x + y)

    def add_state(index: Array, total: Array) -> Array:
        def add(total: Array) -> Array:
            return total + jax.nn.relu(states[index]) @ outputs[index]

        after: Array = lax.cond(loose[index] < STATES, add, lambda total: total, total)
        return after

    states = jnp.zeros((STATES, *first.shape), first.dtype).at[0].set(first).at[1].set(second)
    states = lax.fori_loop(0, NODES, enter_node, states)
    total = lax.fori_loop(0, STATES, add_state, jnp.zeros_like(first))
    return total, (choices, loose, states, edges, outputs)


def _search_cell_backward(
    saved: tuple[Array, ...], grad: Array
) -> tuple[None, None, Array, Array, Array, Array]:
    choices, loose, states, edges, outputs = saved

    def leave_state(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        def product(state: Array, matrix: Array) -> Array:
            return jax.nn.relu(state) @ matrix

        def leave(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            grad_state, grad_output = jax.vjp(product, states[index], outputs[index])[1](grad)
            return carry[0].at[index].set(grad_state), carry[1].at[index].set(grad_output)

        after: tuple[Array, Array] = lax.cond(
            loose[index] < STATES, leave, lambda carry: carry, carry
        )
        return after

    def leave_edge(back: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        number = EDGES - 1 - back
        node, side = number // 2, number % 2
        source = choices[node, side]
        grad_x, grad_edge = lax.switch(
            choices[node, side + 2],
            backward_branches(BRANCHES),
            (lax.dynamic_index_in_dim(states, source, keepdims=False), edges[number]),
            carry[0][node + 2],
        )
        return carry[0].at[source].add(grad_x), carry[1].at[number].set(grad_edge)

    zeros = (jnp.zeros_like(states), jnp.zeros_like(outputs))
    grad_states, grad_outputs = lax.fori_loop(0, STATES, leave_state, zeros)
    grad_states, grad_edges = lax.fori_loop(
        0, EDGES, leave_edge, (grad_states, jnp.zeros_like(edges))
    )
    return None, None, grad_states[0], grad_states[1], grad_edges, grad_outputs


search_cell.defvjp(_search_cell_forward, _search_cell_backward)
