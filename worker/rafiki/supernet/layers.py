"""What a network has outside of its cells: the stem's patches and the projections.

Letters as in `rafiki.supernet`.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rafiki.supernet.pointwise import pointwise_convolution


def patches3(x: Array) -> Array:
    """The 3x3 neighbourhood of every pixel, `[B, H, W, 9 C]`."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1)


def project(x: Array, kernel: Array, height: int) -> Array:
    """ReLU, then a 1x1 convolution by kernel `[C, C2]`; halves x unless it has `height`.

    Halving is the authors' factorised reduction: one half of the new channels comes from the
    even pixels, the other from the odd ones.
    """
    x = jax.nn.relu(x)
    if x.shape[1] == height:
        return pointwise_convolution(x, kernel)
    half = kernel.shape[-1] // 2
    odd = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1::2, 1::2]
    halves = (x[:, ::2, ::2], kernel[:, :half]), (odd, kernel[:, half:])
    return jnp.concatenate([pointwise_convolution(*own) for own in halves], axis=-1)
