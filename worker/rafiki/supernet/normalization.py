"""Batch norm by the statistics of the minibatch, with its derivative written out.

Letters as in `rafiki.supernet`.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

NORM_EPSILON = 1e-5


@jax.custom_vjp
def batch_norm(x: Array, scale: Array, offset: Array) -> tuple[Array, Array, Array]:
    """Normalises x `[B, H, W, C]` by the statistics of the batch.

    Returns:
        The normalised x, the mean and the variance `[C]`; no gradient flows through the
        latter two.
    """
    return _batch_norm_forward(x, scale, offset)[0]


def _batch_norm_forward(
    x: Array, scale: Array, offset: Array
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    mean, variance, inverse = _moments(x)
    y = normalised_by(x, (mean, inverse * scale, offset))
    return (y, mean, variance), (x, mean, inverse, scale)


def _moments(x: Array) -> tuple[Array, Array, Array]:
    """The mean, the variance and one over the deviation of every channel."""
    # Sums over a minibatch need more than the 8 bits of a bfloat16.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = jnp.mean(wide, (0, 1, 2))
    variance = jnp.mean(jnp.square(wide - mean), (0, 1, 2))
    return mean, variance, lax.rsqrt(variance + NORM_EPSILON)


def normalisation(x: Array, scale: Array, offset: Array) -> tuple[Array, Array, Array]:
    """What batch norm does with x, for `normalised_by`: a mean, a factor and an offset `[C]`."""
    mean, _, inverse = _moments(x)
    return mean, inverse * scale, offset


def normalised_by(x: Array, normalisation: tuple[Array, Array, Array]) -> Array:
    """x less the mean, times the factor, plus the offset."""
    mean, factor, offset = normalisation
    wide = x.astype(mean.dtype)
    return ((wide - mean) * factor + offset).astype(x.dtype)


def _batch_norm_backward(
    saved: tuple[Array, ...], grads: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    x, mean, inverse, scale = saved
    grad = grads[0].astype(mean.dtype)
    unit = (x - mean) * inverse
    grad_offset = jnp.sum(grad, (0, 1, 2))
    grad_scale = jnp.sum(grad * unit, (0, 1, 2))
    count = x.size // x.shape[-1]
    grad_x = (scale * inverse) * (grad - grad_offset / count - unit * (grad_scale / count))
    return (
        grad_x.astype(x.dtype),
        grad_scale.astype(scale.dtype),
        grad_offset.astype(scale.dtype),
    )


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def scale_and_shift(x: Array, norm: Array) -> Array:
    """Batch norm with `norm` `[2, C]`: scale and offset."""
    return batch_norm(x, norm[0], norm[1])[0]
