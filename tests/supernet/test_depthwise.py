"""The depthwise convolution of CPUs against XLA's own."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from rafiki.supernet import depthwise_convolution


def reference(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def result_and_gradients(
    convolution: Callable[[Array, Array], Array], x: Array, kernel: Array, grad: Array
) -> tuple[Array, Array, Array]:
    def run(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array, Array]:
        y, pull = jax.vjp(convolution, x, kernel)
        return (y, *pull(grad))

    results: tuple[Array, Array, Array] = jax.jit(run)(x, kernel, grad)
    return results


@pytest.mark.parametrize(
    ("size", "side"), [(3, (7, 9)), (5, (7, 9)), (5, (1, 2)), (3, (16, 4)), (5, (17, 3))]
)
def test_the_convolution_and_its_gradients_are_those_of_xla(
    size: int, side: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, grad = (jnp.asarray(rng.standard_normal((3, *side, 4))) for _ in range(2))
        kernel = jnp.asarray(rng.standard_normal((size, size, 4)))
        found = result_and_gradients(depthwise_convolution, x, kernel, grad)
        expected = result_and_gradients(reference, x, kernel, grad)
        for one, wanted in zip(found, expected, strict=True):
            assert one.dtype == jnp.float64
            np.testing.assert_allclose(one, wanted, rtol=1e-9, atol=1e-9)


def test_gradients_of_bfloat16_are_bfloat16() -> None:
    x, kernel = jnp.ones((1, 8, 8, 4), jnp.bfloat16), jnp.ones((3, 3, 4), jnp.bfloat16)
    results = result_and_gradients(depthwise_convolution, x, kernel, x)
    assert {result.dtype for result in results} == {jnp.dtype(jnp.bfloat16)}
