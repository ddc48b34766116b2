"""The operations on images, and the branches by which a program chooses one of them.

Letters as in `rafiki.supernet`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet.depthwise import depthwise_convolution
from rafiki.supernet.normalization import batch_norm

OPERATIONS = ("sepconv3", "sepconv5", "avgpool3", "maxpool3", "identity")
KERNEL_SIZES = (3, 5)  # of the operations that have weights, which come first


def packed_size(size: int, channels: int) -> int:
    """Floats of a packed separable convolution with kernels of `size` x `size`.

    Two times in a row: depthwise kernel `[size, size, C]`, pointwise kernel `[C, C]`, scale
    and offset `[C]` of the batch norm.
    """
    return 2 * (size * size * channels + channels * channels + 2 * channels)


def separable_convolution(size: int) -> Callable[[Array, Array], Array]:
    """An operation: two times ReLU, separable convolution, batch norm."""

    def operation(x: Array, packed: Array) -> Array:
        channels = x.shape[-1]
        parts = (size * size * channels, channels * channels, channels, channels)
        at = 0
        for _ in range(2):
            kernel, pointwise, scale, offset = (
                packed[start : start + part]
                for start, part in zip(
                    (at, at + parts[0], at + parts[0] + parts[1], at + sum(parts[:3])),
                    parts,
                    strict=True,
                )
            )
            at += sum(parts)
            x = depthwise_convolution(jax.nn.relu(x), kernel.reshape(size, size, channels))
            x = batch_norm(x @ pointwise.reshape(channels, channels), scale, offset)[0]
        return x

    return operation


def _pool3(x: Array, combine: Callable[[Array, Array], Array], fill: float) -> Array:
    """Combines 3x3 windows of x `[B, H, W, C]`, SAME, one side after the other."""
    for axis in (1, 2):
        pads = [(1, 1) if k == axis else (0, 0) for k in range(4)]
        padded = jnp.pad(x, pads, constant_values=fill)
        length = x.shape[axis]
        first, second, third = (
            lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(3)
        )
        x = combine(combine(first, second), third)
    return x


def average_pool(x: Array) -> Array:
    """The mean of 3x3 windows; pixels outside the image do not count."""
    rows, columns = (
        1 + np.minimum(np.arange(k), 1) + np.minimum(np.arange(k)[::-1], 1) for k in x.shape[1:3]
    )
    counts = np.outer(rows, columns)[:, :, None]
    return _pool3(x, jnp.add, 0.0) * jnp.asarray(1.0 / counts, x.dtype)


def max_pool(x: Array) -> Array:
    """The maximum of 3x3 windows."""
    return _pool3(x, jnp.maximum, -jnp.inf)


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
