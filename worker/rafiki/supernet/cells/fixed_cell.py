"""A cell of the network of one architecture, which is an argument of programs nevertheless.

It computes what a cell of `stage.search_stage` does, and has running statistics beside:
training returns those of the minibatch, evaluation uses what training has made of them. There
are two batch norms in a separable convolution, so `statistics` of a cell are `[E, 2, 2, C]`:
per edge and batch norm, mean and variance. Edges without weights have some, too, which say
nothing.

Letters as in `rafiki.supernet.cells`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from rafiki.supernet.cells.architecture import EDGES, STATES
from rafiki.supernet.cells.stage import leave_edge_by, loose_ends
from rafiki.supernet.choice import put, take, write_chosen
from rafiki.supernet.depthwise import depthwise_convolution
from rafiki.supernet.normalization import NORM_EPSILON, batch_norm
from rafiki.supernet.operations import KERNEL_SIZES, UNWEIGHTED
from rafiki.supernet.pointwise import pointwise_convolution


def running_norm(x: Array, norm: Array, statistics: Array) -> Array:
    """Batch norm with `norm` `[2, C]` by a mean and a variance `[2, C]` from elsewhere."""
    inverse = lax.rsqrt(statistics[1] + NORM_EPSILON) * norm[0]
    return (x * inverse + (norm[1] - statistics[0] * inverse)).astype(x.dtype)


def _halves(size: int, channels: int, packed: Array) -> tuple[Array, Array, Array]:
    """Depthwise and pointwise kernels and norms of both halves, each with a first axis of 2."""
    kernels, pointwise = size * size * channels, channels * channels
    halves = packed[: 2 * (kernels + pointwise + 2 * channels)].reshape(2, -1)
    return (
        halves[:, :kernels].reshape(2, size, size, channels),
        halves[:, kernels : kernels + pointwise].reshape(2, channels, channels),
        halves[:, kernels + pointwise :].reshape(2, 2, channels),
    )


def _trained_separable(size: int) -> Callable[[Array, Array], tuple[Array, Array]]:
    def half(x: Array, own: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        kernel, pointwise, norm = own
        x = pointwise_convolution(depthwise_convolution(jax.nn.relu(x), kernel), pointwise)
        y, mean, variance = batch_norm(x, norm[0], norm[1])
        return y, jnp.stack([mean, variance])

    # A scan over two: what is not written out twice is not compiled twice.
    def trained_separable(x: Array, packed: Array) -> tuple[Array, Array]:
        return lax.scan(half, x, _halves(size, x.shape[-1], packed))

    return trained_separable


def _evaluated_separable(size: int) -> Callable[[Array, Array, Array], Array]:
    def half(x: Array, own: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        kernel, pointwise, norm, statistics = own
        x = pointwise_convolution(depthwise_convolution(jax.nn.relu(x), kernel), pointwise)
        return running_norm(x, norm, statistics), None

    def evaluated_separable(x: Array, packed: Array, statistics: Array) -> Array:
        y, _ = lax.scan(half, x, (*_halves(size, x.shape[-1], packed), statistics))
        return y

    return evaluated_separable


def _trained_unweighted(
    operation: Callable[[Array], Array],
) -> Callable[[Array, Array], tuple[Array, Array]]:
    def trained_unweighted(x: Array, packed: Array) -> tuple[Array, Array]:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return operation(x), jnp.zeros((2, 2, x.shape[-1]), wide)

    return trained_unweighted


def _evaluated_unweighted(
    operation: Callable[[Array], Array],
) -> Callable[[Array, Array, Array], Array]:
    return lambda x, packed, statistics: operation(x)


# The branches of the choices, in the order of OPERATIONS. Of what they write they read one row
# only: with several XLA would copy all of it.
_TRAINED = (
    *(_trained_separable(size) for size in KERNEL_SIZES),
    *(_trained_unweighted(operation) for operation in UNWEIGHTED),
)
_EVALUATED = (
    *(_evaluated_separable(size) for size in KERNEL_SIZES),
    *(_evaluated_unweighted(operation) for operation in UNWEIGHTED),
)


def _enter_trained(
    branch: Callable[[Array, Array], tuple[Array, Array]],
) -> Callable[..., tuple[Array, Array]]:
    def enter(
        buffers: tuple[Array, Array],
        source: Array,
        node: Array,
        packed: Array,
        mask: Array | None,
    ) -> tuple[Array, Array]:
        y, statistics = branch(take(buffers[0], source), packed)
        return node + _masked(y, mask), statistics

    return enter


def _enter_evaluated(
    branch: Callable[[Array, Array, Array], Array],
) -> Callable[..., tuple[Array]]:
    def enter(
        buffers: tuple[Array], source: Array, node: Array, packed: Array, statistics: Array
    ) -> tuple[Array]:
        return (node + branch(take(buffers[0], source), packed, statistics),)

    return enter


def _without_statistics(
    branch: Callable[[Array, Array], tuple[Array, Array]],
) -> Callable[[Array, Array], Array]:
    return lambda x, packed: branch(x, packed)[0]


_ENTER_TRAINED = tuple(_enter_trained(branch) for branch in _TRAINED)
_ENTER_EVALUATED = tuple(_enter_evaluated(branch) for branch in _EVALUATED)
_LEAVE_TRAINED = tuple(leave_edge_by(_without_statistics(branch)) for branch in _TRAINED)


def evaluated_cell(
    choices: Array,
    loose: Array,
    first: Array,
    second: Array,
    edges: Array,
    outputs: Array,
    statistics: Array,
) -> Array:
    """The sum over the loose ends of a cell, with running `statistics`; see `trained_cell`."""

    def enter_edge(number: Array, states: Array) -> Array:
        node, side = number // 2, number % 2
        source, target = choices[node, side], node + 2
        operands = (source, take(states, target), edges[number], statistics[number])
        (states,) = write_chosen(
            _ENTER_EVALUATED, choices[node, side + 2], (states,), (target,), *operands
        )
        return states

    states = lax.fori_loop(0, EDGES, enter_edge, _first_states(first, second))
    return _combine(loose, states, outputs)


@jax.custom_vjp
def trained_cell(
    choices: Array,
    loose: Array,
    first: Array,
    second: Array,
    edges: Array,
    outputs: Array,
    masks: Array | None,
) -> tuple[Array, Array]:
    """The sum over the loose ends of a cell, and the statistics of the minibatch.

    The derivative is written out as there, for the same reason. None flows through the
    statistics.

    Args:
        choices: `[N, 4]` of one kind of cell.
        loose: `[S]` likewise.
        first: `[B, H, W, C]`, the output of the cell before the last.
        second: `[B, H, W, C]`, the output of the last cell.
        edges: `[E, P]` packed weights of the active operations.
        outputs: `[S, C, C]` a matrix per state.
        masks: `[E, B]`, what the results of edges are multiplied by, in drop path; or None.
    """
    return _trained_cell_forward(choices, loose, first, second, edges, outputs, masks)[0]


def _trained_cell_forward(
    choices: Array,
    loose: Array,
    first: Array,
    second: Array,
    edges: Array,
    outputs: Array,
    masks: Array | None,
) -> tuple[tuple[Array, Array], tuple[Array | None, ...]]:
    def enter_edge(number: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        node, side = number // 2, number % 2
        source, target = choices[node, side], node + 2
        operands = (source, take(carry[0], target), edges[number], _of_edge(masks, number))
        states, statistics = write_chosen(
            _ENTER_TRAINED, choices[node, side + 2], carry, (target, number), *operands
        )
        return states, statistics

    wide = jnp.promote_types(first.dtype, jnp.float32)
    statistics = jnp.zeros((EDGES, 2, 2, first.shape[-1]), wide)
    states, statistics = lax.fori_loop(
        0, EDGES, enter_edge, (_first_states(first, second), statistics)
    )
    total = _combine(loose, states, outputs)
    return (total, statistics), (choices, loose, states, edges, outputs, masks)


def _trained_cell_backward(
    saved: tuple[Array, ...], grads: tuple[Array, Array]
) -> tuple[Array | None, ...]:
    choices, loose, states, edges, outputs, masks = saved
    grad = grads[0]

    def leave_end(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        grad_states, grad_outputs = carry
        end = ends[k]
        grad_state, grad_output = jax.vjp(_product, take(states, end), outputs[end])[1](grad)
        return put(grad_states, grad_state, end), put(grad_outputs, grad_output, end)

    def leave_edge(back: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        number = EDGES - 1 - back
        node, side = number // 2, number % 2
        source = choices[node, side]
        grad_y = _masked(take(carry[0], node + 2), _of_edge(masks, number))
        operands = (grad_y, take(states, source), source, edges[number])
        grad_states, grad_edges = write_chosen(
            _LEAVE_TRAINED, choices[node, side + 2], carry, (source, number), *operands
        )
        return grad_states, grad_edges

    ends, count = loose_ends(loose)
    zeros = (jnp.zeros_like(states), jnp.zeros_like(outputs))
    grad_states, grad_outputs = lax.fori_loop(0, count, leave_end, zeros)
    grad_states, grad_edges = lax.fori_loop(
        0, EDGES, leave_edge, (grad_states, jnp.zeros_like(edges))
    )
    no_grad = None if masks is None else jnp.zeros_like(masks)
    return None, None, grad_states[0], grad_states[1], grad_edges, grad_outputs, no_grad


trained_cell.defvjp(_trained_cell_forward, _trained_cell_backward)


def _first_states(first: Array, second: Array) -> Array:
    """The states of a cell `[S, B, H, W, C]`, of which only its inputs are known yet."""
    states = jnp.zeros((STATES, *first.shape), first.dtype)
    return put(put(states, first, 0), second, 1)


def _of_edge(masks: Array | None, number: Array) -> Array | None:
    return None if masks is None else masks[number]


def _masked(y: Array, mask: Array | None) -> Array:
    return y if mask is None else y * mask[:, None, None, None]


def _product(state: Array, matrix: Array) -> Array:
    return pointwise_convolution(jax.nn.relu(state), matrix)


def _combine(loose: Array, states: Array, outputs: Array) -> Array:
    """The sum over the loose ends, each ReLUed and multiplied by its matrix."""

    def end_product(end: Array) -> Array:
        return _product(take(states, end), outputs[end])

    ends, count = loose_ends(loose)
    total: Array = lax.fori_loop(
        1, count, lambda k, total: total + end_product(ends[k]), end_product(ends[0])
    )
    return total
