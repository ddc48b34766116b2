"""The pointwise convolution against XLA's convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet import pointwise_convolution


def test_the_convolution_and_its_gradients_are_those_of_xla() -> None:
    def reference(x: Array, matrix: Array) -> Array:
        convolved: Array = lax.conv_general_dilated(
            x, matrix[None, None], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return convolved

    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, matrix, grad = (
            jnp.asarray(rng.standard_normal(shape))
            for shape in ((3, 7, 9, 4), (4, 5), (3, 7, 9, 5))
        )
        found, pull = jax.vjp(pointwise_convolution, x, matrix)
        expected, pull_expected = jax.vjp(reference, x, matrix)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        for one, wanted in zip(pull(grad), pull_expected(grad), strict=True):
            np.testing.assert_allclose(one, wanted, rtol=1e-9, atol=1e-9)
