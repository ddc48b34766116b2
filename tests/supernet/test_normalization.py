"""Batch norm by the statistics of a minibatch."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.supernet import batch_norm

RNG = np.random.default_rng(0)
X, WEIGHTS = RNG.standard_normal((2, 4, 3, 3, 2)).astype(np.float32)
SCALE, OFFSET = RNG.standard_normal((2, 2)).astype(np.float32)


def plain(x: Array, scale: Array, offset: Array) -> Array:
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + offset


def test_value_and_gradients_are_those_of_the_plain_formula() -> None:
    arguments = [jnp.asarray(array) for array in (X, SCALE, OFFSET)]

    def found(*arguments: Array) -> Array:
        return jnp.sum(batch_norm(*arguments)[0] * WEIGHTS)

    def expected(*arguments: Array) -> Array:
        return jnp.sum(plain(*arguments) * WEIGHTS)

    np.testing.assert_allclose(found(*arguments), expected(*arguments), rtol=1e-4)
    grads, plain_grads = (jax.grad(f, argnums=(0, 1, 2))(*arguments) for f in (found, expected))
    for grad, plain_grad in zip(grads, plain_grads, strict=True):
        np.testing.assert_allclose(grad, plain_grad, rtol=1e-3, atol=1e-5)


def test_statistics_of_bfloat16_are_float32_and_exact() -> None:
    narrow = [jnp.asarray(array, jnp.bfloat16) for array in (X + 100, SCALE, OFFSET)]
    y, mean, variance = batch_norm(*narrow)
    wide = np.asarray(narrow[0], np.float64)
    assert (y.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var((0, 1, 2)), rtol=1e-4)
