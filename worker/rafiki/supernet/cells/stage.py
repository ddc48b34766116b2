"""The cells of a stage of the supernet, whatever their architecture.

All states of a stage are in one array, into which operations write: see `_Slots`.

Letters as in `rafiki.supernet.cells`.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet.cells.architecture import EDGES, NODES, STATES
from rafiki.supernet.choice import put, take, write_chosen
from rafiki.supernet.normalization import batch_norm, normalisation, normalised_by, scale_and_shift
from rafiki.supernet.operations import (
    BRANCHES,
    KERNEL_SIZES,
    UNWEIGHTED,
    separable_product,
    unpacked,
)
from rafiki.supernet.pointwise import pointwise_convolution

INPUTS = 3

# Until it is used, an operation with weights is its last product, `[1, B, H, W, C]`, and what
# batch norm does with that, `[1, 3, C]`.
Pending: TypeAlias = tuple[Array, Array]


class StageCells(NamedTuple):
    """The cells of a stage.

    Attributes:
        choices: `[L, N, 4]`.
        loose: `[L, S]`.
        edges: `[L, E, P]` packed weights of the active operations.
        outputs: `[L, S, C, C]` a matrix per loose end.
        norms: `[L, 2, C]` of the cells' outputs.
    """

    choices: Array
    loose: Array
    edges: Array
    outputs: Array
    norms: Array


class _Slots(NamedTuple):
    """Where the states of a stage are: int32 `[L, S]`, and the outputs of its cells, `[L]`.

    The inputs of the stage come first.
    """

    size: int
    states: np.ndarray
    outputs: np.ndarray


def _kept(cells: int) -> _Slots:
    """A slot for every state."""
    nodes = INPUTS + (NODES + 1) * np.arange(cells)
    return _slots(nodes, nodes + NODES)


def _reused(cells: int) -> _Slots:
    """Slots for one cell, whose output takes the place of its first input."""
    return _slots(np.full(cells, INPUTS), np.where(np.arange(cells) % 2, 2, 0))


def _slots(nodes: np.ndarray, outputs: np.ndarray) -> _Slots:
    # The output of a cell is the second input of the next and the first of that after it.
    second = np.array([1, *outputs[:-1]])
    first = np.array([0, 2, *outputs[:-2]])[: len(outputs)]
    states = np.stack([first, second, *(nodes + node for node in range(NODES))], axis=1)
    return _Slots(
        int(max(nodes.max() + NODES, outputs.max() + 1)),
        states.astype(np.int32),
        outputs.astype(np.int32),
    )


def _pend(size: int) -> Callable[..., Pending]:
    """An operation with weights, the first of two: it is normalised when the second is known."""

    def pend(pending: Pending, states: Array, source: Array, packed: Array) -> Pending:
        product, norm = _product(size, take(states, source), packed)
        return product, jnp.stack(norm)

    return pend


def _product(size: int, x: Array, packed: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    first, second = unpacked(size, x.shape[-1], packed)
    x = batch_norm(separable_product(x, first), *first[2:])[0]
    product = separable_product(x, second)
    return product, normalisation(product, *second[2:])


def _add_weighted(size: int) -> Callable[..., tuple[Array]]:
    def add(
        buffers: tuple[Array], pending: Pending, source: Array, other: Array, packed: Array
    ) -> tuple[Array]:
        product, norm = _product(size, take(buffers[0], other), packed)
        return (_arrived(pending) + normalised_by(product, norm),)

    return add


def _add_unweighted(operation: Callable[[Array], Array]) -> Callable[..., tuple[Array]]:
    def add(
        buffers: tuple[Array], pending: Pending, source: Array, other: Array, packed: Array
    ) -> tuple[Array]:
        return (_arrived(pending) + operation(take(buffers[0], other)),)

    return add


def _both_unweighted(
    left: Callable[[Array], Array], right: Callable[[Array], Array]
) -> Callable[..., tuple[Array]]:
    def add(
        buffers: tuple[Array], pending: Pending, source: Array, other: Array, packed: Array
    ) -> tuple[Array]:
        return (left(take(buffers[0], source)) + right(take(buffers[0], other)),)

    return add


def _arrived(pending: Pending) -> Array:
    product, norm = pending
    return normalised_by(product[0], (norm[0, 0], norm[0, 1], norm[0, 2]))


_PAIRS = [(i, j) for i in range(len(UNWEIGHTED)) for j in range(i, len(UNWEIGHTED))]
_FIRST = tuple(_pend(size) for size in KERNEL_SIZES)
# The second operation of a node by its number, if the first has weights; then pairs without.
_SECOND = (
    *(_add_weighted(size) for size in KERNEL_SIZES),
    *(_add_unweighted(operation) for operation in UNWEIGHTED),
    *(_both_unweighted(UNWEIGHTED[i], UNWEIGHTED[j]) for i, j in _PAIRS),
)


def _second_branches() -> np.ndarray:
    """int32: from the two operations of a node, in order, to the branch of the second."""
    weighted, operations = len(KERNEL_SIZES), len(BRANCHES)
    branches = np.tile(np.arange(operations), (operations, 1))
    for number, (i, j) in enumerate(_PAIRS):
        branches[weighted + i, weighted + j] = operations + number
    return branches.astype(np.int32)


_SECOND_BRANCHES = _second_branches()


@jax.custom_vjp
def search_stage(cells: StageCells, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """The outputs of the last two cells of a stage, or of its only one.

    The output of a cell is the sum over its loose ends, each ReLUed and multiplied by its own
    matrix, which is the 1x1 convolution of their concatenation, and a batch norm.

    The derivative is written out: it keeps the states and the sums alone, and recomputes inside
    the branch that was taken.

    Args:
        cells: What the cells have chosen and their weights.
        inputs: `[B, H, W, C]` each: the two inputs of the first cell, and the first input of
            the second one if there is one.
    """
    outputs = cells.loose.shape[0]
    states, _ = _run_cells(_reused(outputs), cells, inputs)
    return _last_two(_reused(outputs), states)


def _search_stage_forward(
    cells: StageCells, inputs: tuple[Array, ...]
) -> tuple[tuple[Array, ...], tuple[StageCells, Array, Array]]:
    slots = _kept(cells.loose.shape[0])
    states, sums = _run_cells(slots, cells, inputs)
    return _last_two(slots, states), (cells, states, sums)


def _last_two(slots: _Slots, states: Array) -> tuple[Array, ...]:
    return tuple(states[slot] for slot in slots.outputs[-2:].tolist())


def _run_cells(slots: _Slots, cells: StageCells, inputs: tuple[Array, ...]) -> tuple[Array, Array]:
    """All states in their slots, and the sums `[L, B, H, W, C]` that were normalised."""
    image, dtype = inputs[0].shape, inputs[0].dtype
    wide = jnp.promote_types(dtype, jnp.float32)
    of_states, of_outputs = jnp.asarray(slots.states), jnp.asarray(slots.outputs)

    def run_cell(
        number: Array, carry: tuple[Array, Array, Pending]
    ) -> tuple[Array, Array, Pending]:
        states, sums, pending = carry
        slot, choices = of_states[number], cells.choices[number]
        # The operation with the lower number comes first: those with weights do.
        swapped = (choices[:, 2] > choices[:, 3]).astype(jnp.int32)

        def enter_node(node: Array, carry: tuple[Array, Pending]) -> tuple[Array, Pending]:
            states, pending = carry
            sides = (swapped[node], 1 - swapped[node])
            source, other = (slot[choices[node, side]] for side in sides)
            first, second = (choices[node, 2 + side] for side in sides)
            edge, other_edge = (cells.edges[number, 2 * node + side] for side in sides)
            product, norm = write_chosen(_FIRST, first, pending, (0, 0), states, source, edge)
            branch = jnp.asarray(_SECOND_BRANCHES)[first, second]
            operands = ((product, norm), source, other, other_edge)
            (states,) = write_chosen(_SECOND, branch, (states,), (slot[node + 2],), *operands)
            return states, (product, norm)

        states, pending = lax.fori_loop(0, NODES, enter_node, (states, pending))
        ends, count = loose_ends(cells.loose[number])

        def end_product(end: Array) -> Array:
            return _end_product(take(states, slot[end]), cells.outputs[number, end])

        total = lax.fori_loop(
            1, count, lambda k, total: total + end_product(ends[k]), end_product(ends[0])
        )
        if len(sums):
            sums = put(sums, total, number)
        output = scale_and_shift(total, cells.norms[number])
        return put(states, output, of_outputs[number]), sums, pending

    # Not before the loop over candidates, which would then have to copy them.
    zeros = jnp.zeros((slots.size, *image), dtype)
    states, _ = lax.optimization_barrier((zeros, cells.choices))  # type: ignore[no-untyped-call]
    for slot, entering in enumerate(inputs):
        states = put(states, entering, slot)
    count = len(slots.outputs)
    keeps = slots.size > INPUTS + NODES
    sums = jnp.zeros((count if keeps else 0, *image), dtype)
    pending = (jnp.zeros((1, *image), dtype), jnp.zeros((1, 3, image[-1]), wide))
    states, sums, _ = lax.fori_loop(0, count, run_cell, (states, sums, pending))
    return states, sums


def _end_product(state: Array, matrix: Array) -> Array:
    return pointwise_convolution(jax.nn.relu(state), matrix)


def loose_ends(loose: Array) -> tuple[Array, Array]:
    """The loose ends of a cell, before what is none, and their number."""
    return jnp.sort(loose), jnp.sum(loose < STATES, dtype=jnp.int32)


def leave_edge_by(
    branch: Callable[[Array, Array], Array],
) -> Callable[..., tuple[Array, Array]]:
    """Of an operation, the branch of the backward pass: gradients of its source and weights."""

    def leave(
        buffers: tuple[Array, Array], grad: Array, x: Array, source: Array, packed: Array
    ) -> tuple[Array, Array]:
        grad_x, grad_packed = jax.vjp(branch, x, packed)[1](grad)
        return take(buffers[0], source) + grad_x, grad_packed

    return leave


_LEAVING = tuple(leave_edge_by(branch) for branch in BRANCHES)


def _search_stage_backward(
    saved: tuple[StageCells, Array, Array], grads: tuple[Array, ...]
) -> tuple[StageCells, tuple[Array, ...]]:
    cells, states, sums = saved
    count = len(sums)
    slots = _kept(count)
    of_states, of_outputs = jnp.asarray(slots.states), jnp.asarray(slots.outputs)

    def leave_cell(back: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        grad_states, grad_edges, grad_outputs, grad_norms = carry
        number = count - 1 - back
        slot, choices = of_states[number], cells.choices[number]
        grad_sum, grad_norm = jax.vjp(scale_and_shift, sums[number], cells.norms[number])[1](
            take(grad_states, of_outputs[number])
        )
        ends, ends_count = loose_ends(cells.loose[number])

        def leave_end(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            end = ends[k]
            at, matrix = slot[end], cells.outputs[number, end]
            grad_state, grad_output = jax.vjp(_end_product, take(states, at), matrix)[1](grad_sum)
            return put(carry[0], take(carry[0], at) + grad_state, at), carry[1].at[number, end].set(
                grad_output
            )

        def leave_edge(back: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            edge = EDGES - 1 - back
            node, side = edge // 2, edge % 2
            source = slot[choices[node, side]]
            # Taken before: a branch that read several rows of what it writes would have it copied.
            operands = (take(carry[0], slot[node + 2]), take(states, source), source)
            grad_states, grad_edges = write_chosen(
                _LEAVING,
                choices[node, side + 2],
                carry,
                (source, number * EDGES + edge),
                *operands,
                cells.edges[number, edge],
            )
            return grad_states, grad_edges

        grad_states, grad_outputs = lax.fori_loop(
            0, ends_count, leave_end, (grad_states, grad_outputs)
        )
        grad_states, grad_edges = lax.fori_loop(0, EDGES, leave_edge, (grad_states, grad_edges))
        return grad_states, grad_edges, grad_outputs, grad_norms.at[number].set(grad_norm)

    grad_states = jnp.zeros_like(states)
    for place, grad in zip(slots.outputs[-2:].tolist(), grads, strict=True):
        grad_states = put(grad_states, grad, place)
    edges = cells.edges.reshape(-1, cells.edges.shape[-1])
    grad_states, grad_edges, grad_outputs, grad_norms = lax.fori_loop(
        0,
        count,
        leave_cell,
        (grad_states, *(jnp.zeros_like(part) for part in (edges, cells.outputs, cells.norms))),
    )
    grad_cells = StageCells(
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        grad_edges.reshape(cells.edges.shape),
        grad_outputs,
        grad_norms,
    )
    inputs = INPUTS if count > 1 else INPUTS - 1
    return grad_cells, tuple(grad_states[slot] for slot in range(inputs))


search_stage.defvjp(_search_stage_forward, _search_stage_backward)
