"""The pooling operations and their derivatives against XLA's windows and JAX's own."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from rafiki.supernet.operations import average_pool, max_pool

SIDES = [(7, 9), (4, 4), (1, 2)]


def windows(x: Array, fill: float, combine: Callable[[Array, Array], Array]) -> Array:
    combined: Array = lax.reduce_window(
        x, np.asarray(fill, x.dtype), combine, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"
    )
    return combined


def random(side: tuple[int, int], seed: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(3, *side, 5)).astype(np.float32))


@pytest.mark.parametrize("side", SIDES)
def test_the_mean_is_that_of_the_pixels_within_the_image(side: tuple[int, int]) -> None:
    x = random(side, 0)
    expected = windows(x, 0.0, lax.add) / windows(jnp.ones_like(x), 0.0, lax.add)
    np.testing.assert_allclose(average_pool(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", SIDES)
def test_the_maximum_and_its_gradient_are_those_of_windows(side: tuple[int, int]) -> None:
    x, grad = random(side, 0), random(side, 1)
    found, pull = jax.vjp(max_pool, x)
    expected, pull_expected = jax.vjp(lambda x: windows(x, -np.inf, lax.max), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(pull(grad)[0], pull_expected(grad)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_among_equals_the_gradient_of_the_maximum_is_shared_as_jax_does(
    side: tuple[int, int],
) -> None:
    def by_jax(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        rows = jnp.maximum(jnp.maximum(x[:, :-2], x[:, 1:-1]), x[:, 2:])
        return jnp.maximum(jnp.maximum(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])

    # Few different values, so that most windows have their maximum several times.
    x, grad = jnp.round(random(side, 0)), random(side, 1)
    found, expected = (jax.vjp(function, x)[1](grad)[0] for function in (max_pool, by_jax))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    # Nothing is lost, nothing made up.
    np.testing.assert_allclose(found.sum(), grad.sum(), rtol=1e-4)


def test_the_gradient_of_the_maximum_keeps_the_precision_of_its_input() -> None:
    x = random((4, 4), 0).astype(jnp.bfloat16)
    assert jax.vjp(max_pool, x)[1](x)[0].dtype == jnp.bfloat16
