"""A depthwise convolution that is fast on every kind of device.

Letters as in `rafiki.supernet`; k is the side of a kernel, odd.
"""

import functools
import operator
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# A loop over so many rows is unrolled by the compiler, so that it takes channels side by side.
_UNROLLED = 8


def _padded(x: Array, size: int, more_rows: int = 0) -> Array:
    """x among zeros, as many as a kernel sees outside of it, and below it some rows more."""
    pad = size // 2
    margins = ((0, 0), (pad, pad + more_rows), (pad, pad), (0, 0))
    # As an array of its own: the tap in the middle, which sees x itself, would compute it again.
    padded: Array = lax.optimization_barrier(jnp.pad(x, margins))  # type: ignore[no-untyped-call]
    return padded


def _windows(padded: Array, size: int, height: int) -> Iterator[Array]:
    """What every tap of a kernel sees, row by row."""
    width = padded.shape[2] - size + 1
    for i in range(size):
        for j in range(size):
            yield padded[:, i : i + height, j : j + width]


def _shifted_products(x: Array, kernel: Array) -> Array:
    size = kernel.shape[0]
    taps = kernel.reshape(-1, x.shape[-1])
    # Without a zero to start from, which would be one more pass over memory.
    windows = _windows(_padded(x, size), size, x.shape[1])
    products = (window * tap for window, tap in zip(windows, taps, strict=True))
    total: Array = functools.reduce(operator.add, products)
    return total


def _sums(arrays: Sequence[Array], axis: int) -> Sequence[Array]:
    """The sum of every array along an axis, all in one pass over memory."""
    zeros = [np.zeros((), array.dtype) for array in arrays]

    def add(left: Sequence[Array], right: Sequence[Array]) -> list[Array]:
        return [a + b for a, b in zip(left, right, strict=True)]

    sums: Sequence[Array] = lax.reduce(list(arrays), zeros, add, (axis,))
    return sums


def _products_with(grad: Array, x: Array, size: int) -> Array:
    """Per tap of a kernel and channel, the sum of the products of grad and what the tap sees.

    A sum over all pixels at once is computed one channel after the other. So it has two steps,
    the first over few rows only.
    """
    batch, height, width, channels = x.shape
    groups = -(-height // _UNROLLED)
    rows = -(-height // groups)
    missing = groups * rows - height
    grad = jnp.pad(grad, ((0, 0), (0, missing), (0, 0), (0, 0)))
    grouped = (batch, groups, rows, width, channels)
    products = [
        window.reshape(grouped) * grad.reshape(grouped)
        for window in _windows(_padded(x, size, missing), size, groups * rows)
    ]
    # A reduction per row of the kernel: of more taps at a time, loops are no longer unrolled.
    of_rows = [
        total for i in range(0, size * size, size) for total in _sums(products[i : i + size], 2)
    ]
    of_rows = lax.optimization_barrier(of_rows)  # type: ignore[no-untyped-call]
    # By image at first: the batch may be spread over devices.
    of_images = jnp.stack([total.sum((1, 2)) for total in of_rows])
    return of_images.sum(1).reshape(size, size, channels)


@jax.custom_vjp
def _depthwise_cpu(x: Array, kernel: Array) -> Array:
    """A depthwise convolution as shifted products: XLA's own is 15 to 50 times slower."""
    return _shifted_products(x, kernel)


def _depthwise_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _shifted_products(x, kernel), (x, kernel)


def _depthwise_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    grad_x = _shifted_products(grad, kernel[::-1, ::-1])
    return grad_x, _products_with(grad, x, kernel.shape[0])


_depthwise_cpu.defvjp(_depthwise_forward, _depthwise_backward)


def depthwise_convolution(x: Array, kernel: Array) -> Array:
    """Convolves every channel of x `[B, H, W, C]` with its own kernel of `[k, k, C]`, SAME."""
    if jax.default_backend() == "cpu":
        return _depthwise_cpu(x, kernel)
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )
