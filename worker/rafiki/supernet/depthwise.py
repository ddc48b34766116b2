"""A depthwise convolution that is fast on every kind of device.

Letters as in `rafiki.supernet`.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax


def _shifted_products(x: Array, kernel: Array) -> Array:
    size, (_, height, width, _) = kernel.shape[0], x.shape
    pad = size // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return sum(
        (
            padded[:, i : i + height, j : j + width] * kernel[i, j]
            for i in range(size)
            for j in range(size)
        ),
        start=jnp.zeros_like(x),
    )


@jax.custom_vjp
def _depthwise_cpu(x: Array, kernel: Array) -> Array:
    """A depthwise convolution as shifted products: XLA's own is 15 to 50 times slower."""
    return _shifted_products(x, kernel)


def _depthwise_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _shifted_products(x, kernel), (x, kernel)


def _depthwise_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    size = kernel.shape[0]
    pad = size // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def tap(index: Array) -> Array:
        window = lax.dynamic_slice(padded, (0, index // size, index % size, 0), x.shape)
        return jnp.sum(jnp.sum(window * grad, (0, 1)), 0)

    # A loop: unrolled, XLA computes every tap from memory of its own, many times slower.
    grad_kernel = lax.map(tap, jnp.arange(size * size)).reshape(kernel.shape)
    return _shifted_products(grad, kernel[::-1, ::-1]), grad_kernel


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
