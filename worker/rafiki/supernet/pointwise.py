"""A pointwise convolution whose gradients are fast on every kind of device.

Letters as in `rafiki.supernet`.
"""

from jax import Array


def pointwise_convolution(x: Array, matrix: Array) -> Array:
    """Multiplies every pixel of x `[B, H, W, C]` by a matrix `[C, C2]`: a 1x1 convolution.

    As a product of two matrices: the gradient of the matrix in `x @ matrix`, of more axes, is
    computed from a transposed copy of x, which takes twice as long on CPUs.
    """
    product: Array = x.reshape(-1, x.shape[-1]) @ matrix
    return product.reshape(*x.shape[:-1], matrix.shape[-1])
