"""The operations on images, and the branches by which a program chooses one of them.

Letters as in `rafiki.supernet`.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet.depthwise import depthwise_convolution
from rafiki.supernet.normalization import batch_norm
from rafiki.supernet.pointwise import pointwise_convolution

OPERATIONS = ("sepconv3", "sepconv5", "avgpool3", "maxpool3", "identity")
KERNEL_SIZES = (3, 5)  # of the operations that have weights, which come first


def packed_size(size: int, channels: int) -> int:
    """Floats of a packed separable convolution with kernels of `size` x `size`.

    Two times in a row: depthwise kernel `[size, size, C]`, pointwise kernel `[C, C]`, scale
    and offset `[C]` of the batch norm.
    """
    return 2 * (size * size * channels + channels * channels + 2 * channels)


# The parts of half a separable convolution: depthwise kernel, pointwise kernel, scale, offset.
Half: TypeAlias = tuple[Array, Array, Array, Array]


def unpacked(size: int, channels: int, packed: Array) -> tuple[Half, Half]:
    """The two halves of a packed separable convolution."""
    parts = (size * size * channels, channels * channels, channels, channels)
    ends = np.cumsum(parts * 2).tolist()
    kernel, pointwise, scale, offset, kernel2, pointwise2, scale2, offset2 = (
        packed[end - part : end] for end, part in zip(ends, parts * 2, strict=True)
    )
    sizes, square = (size, size, channels), (channels, channels)
    return (
        (kernel.reshape(sizes), pointwise.reshape(square), scale, offset),
        (kernel2.reshape(sizes), pointwise2.reshape(square), scale2, offset2),
    )


def separable_product(x: Array, half: Half) -> Array:
    """ReLU and separable convolution, without the batch norm."""
    kernel, pointwise, _, _ = half
    return pointwise_convolution(depthwise_convolution(jax.nn.relu(x), kernel), pointwise)


def separable_convolution(size: int) -> Callable[[Array, Array], Array]:
    """An operation: two times ReLU, separable convolution, batch norm."""

    def operation(x: Array, packed: Array) -> Array:
        for half in unpacked(size, x.shape[-1], packed):
            x = batch_norm(separable_product(x, half), *half[2:])[0]
        return x

    return operation


def _pool3(x: Array, combine: Callable[[Array, Array], Array], fill: float) -> Array:
    """Combines 3x3 windows of x `[B, H, W, C]`, SAME, one side after the other."""
    # Padded once, on all sides: loops over an array with a padding in them are not vectorised.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    for axis in (1, 2):
        length = x.shape[axis] - 2
        first, second, third = (lax.slice_in_dim(x, k, k + length, axis=axis) for k in range(3))
        x = combine(combine(first, second), third)
    return x


def average_pool(x: Array) -> Array:
    """The mean of 3x3 windows; pixels outside the image do not count."""
    rows, columns = (
        1 + np.minimum(np.arange(k), 1) + np.minimum(np.arange(k)[::-1], 1) for k in x.shape[1:3]
    )
    counts = np.outer(rows, columns)[:, :, None]
    return _pool3(x, jnp.add, 0.0) * jnp.asarray(1.0 / counts, x.dtype)


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """The maximum of 3x3 windows."""
    return _pool3(x, jnp.maximum, -jnp.inf)


def _max_pool_forward(x: Array) -> tuple[Array, Array]:
    return max_pool(x), x


def _max_pool_backward(x: Array, grad: Array) -> tuple[Array]:
    first, second, third = _around(x, 1, 1, -jnp.inf)
    columns = jnp.maximum(jnp.maximum(first, second), third)
    return (_leave_maximum(x, _leave_maximum(columns, grad, 2), 1),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _leave_maximum(x: Array, grad: Array, axis: int) -> Array:
    """The gradient of x, of whose neighbours along an axis, three each, the maximum was taken.

    Every pixel collects from the three windows that it is in. JAX's own derivative hands out
    instead, by adding up arrays with a padding, up to seven times slower on CPUs. As there,
    equals share alike: the third with the larger of the first two, and these with each other.
    """
    before2, before, here, after, after2 = _around(x, axis, 2, -jnp.inf)
    as_third, as_second, as_first = _around(grad, axis, 1, 0.0)
    third = as_third * _share(here, jnp.maximum(before2, before))
    second = as_second * _share(here, before) * _share(jnp.maximum(before, here), after)
    first = as_first * _share(here, after) * _share(jnp.maximum(here, after), after2)
    return third + second + first


def _around(x: Array, axis: int, reach: int, fill: float) -> list[Array]:
    """x moved along an axis, from what is `reach` pixels before each to what is as far after."""
    margins = [(0, 0)] * x.ndim
    margins[axis] = (reach, reach)
    # Before the loops that read it: with a padding in them they are not vectorised.
    padded = lax.optimization_barrier(jnp.pad(x, margins, constant_values=fill))  # type: ignore[no-untyped-call]
    length = x.shape[axis]
    return [lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(2 * reach + 1)]


def _share(x: Array, other: Array) -> Array:
    """Of the gradient of their maximum, the share of x."""
    half = jnp.where(x == other, 0.5, 0.0)
    return jnp.where(x > other, 1.0, half).astype(x.dtype)


def identity(x: Array) -> Array:
    """x itself."""
    return x


def _without_weights(operation: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda x, packed: operation(x)


UNWEIGHTED = (average_pool, max_pool, identity)

# The branches of the switches, in the order of OPERATIONS.
BRANCHES = (
    *(separable_convolution(size) for size in KERNEL_SIZES),
    *(_without_weights(operation) for operation in UNWEIGHTED),
)
