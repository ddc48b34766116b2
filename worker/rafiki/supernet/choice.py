"""A choice at run time among branches of one program.

`lax.switch` computes one branch, but its derivative makes every branch return what every
other could need later. Here the derivative keeps the operands alone and computes the chosen
branch again.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

T = TypeVar("T")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def choose(branches: tuple[Callable[..., T], ...], index: Array, *operands: object) -> T:
    """`branches[index](*operands)`, all of whose results have one structure and type.

    Args:
        branches: Functions at module level: others are a new choice, and a new compilation, in
            every call.
        index: int32 scalar; out of range it counts as the nearest.
        operands: Arrays or trees of arrays, of floats where they are differentiated.
    """
    chosen: T = lax.switch(index, branches, *operands)
    return chosen


def _forward(
    branches: tuple[Callable[..., T], ...], index: Array, *operands: object
) -> tuple[T, tuple[object, ...]]:
    return lax.switch(index, branches, *operands), (index, operands)


def _backward(
    branches: tuple[Callable[..., T], ...], saved: tuple[Array, tuple[object, ...]], grad: T
) -> tuple[object, ...]:
    index, operands = saved
    return (None, *lax.switch(index, backward_branches(branches), operands, grad))


@functools.cache
def backward_branches(
    branches: tuple[Callable[..., T], ...],
) -> tuple[Callable[[tuple[object, ...], T], tuple[object, ...]], ...]:
    """Per branch, the function from its operands and the gradient of its result to theirs."""

    def backward(branch: Callable[..., T]) -> Callable[[tuple[object, ...], T], tuple[object, ...]]:
        return lambda operands, grad: tuple(jax.vjp(branch, *operands)[1](grad))

    return tuple(backward(branch) for branch in branches)


choose.defvjp(_forward, _backward)


def take(buffer: Array, row: int | Array) -> Array:
    """A row of a buffer."""
    taken: Array = lax.dynamic_index_in_dim(buffer, row, keepdims=False)
    return taken


def put(buffer: Array, value: Array, row: int | Array) -> Array:
    """The buffer with another row, written in place.

    `buffer.at[row].set(value)` keeps what was there if there is no such row, and so reads all
    of the buffer.
    """
    written: Array = lax.dynamic_update_index_in_dim(buffer, value, row, 0)
    return written


def write_chosen(
    branches: tuple[Callable[..., Sequence[Array]], ...],
    index: Array,
    buffers: tuple[Array, ...],
    rows: tuple[int | Array, ...],
    *operands: object,
) -> tuple[Array, ...]:
    """The buffers, with what `branches[index](buffers, *operands)` returns in `rows`.

    On CPUs the branch writes where the buffers are: neither they nor its results are copied.
    There is no derivative.

    Args:
        branches: From the buffers and the operands to a row for every buffer.
        index: int32 scalar; if it is out of range, the buffers stay as they are.
        buffers: Arrays.
        rows: An index into the first axis of every buffer.
        operands: Arrays or trees of arrays.
    """

    def written(buffers: tuple[Array, ...], results: Sequence[Array]) -> tuple[Array, ...]:
        each = zip(buffers, results, rows, strict=True)
        return tuple(put(buffer, result, row) for buffer, result, row in each)

    def once(branch: Callable[..., Sequence[Array]]) -> Callable[..., tuple[Array, ...]]:
        def body(zero: Array, buffers: tuple[Array, ...]) -> tuple[Array, ...]:
            # What does not depend on the number of the round would be computed before the loop,
            # chosen or not.
            found, _ = lax.optimization_barrier((operands, zero))  # type: ignore[no-untyped-call]
            return written(buffers, branch(buffers, *found))

        return body

    if jax.default_backend() == "cpu":
        # XLA computes a loop in place, but copies what enters and leaves a switch. Hence a loop
        # for every branch: of one round for the one chosen, of none for the others.
        for number, branch in enumerate(branches):
            rounds = (index == number).astype(jnp.int32)
            buffers = lax.fori_loop(0, rounds, once(branch), buffers)
        return buffers

    def keep(buffers: tuple[Array, ...], *_: object) -> list[Array]:
        return [take(buffer, row) for buffer, row in zip(buffers, rows, strict=True)]

    within = jnp.where((index >= 0) & (index < len(branches)), index, len(branches))
    return written(buffers, lax.switch(within, (*branches, keep), buffers, *operands))
