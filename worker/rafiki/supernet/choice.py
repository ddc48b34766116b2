"""A choice at run time among branches of one program.

`lax.switch` computes one branch, but its derivative makes every branch return what every
other could need later. Here the derivative keeps the operands alone and computes the chosen
branch again.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
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
