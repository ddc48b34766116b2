"""Optimisers, losses and learning rates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rafiki.supernet import accuracy, cosine, cross_entropy, nesterov, restarting_cosine

RATE, DECAY = 0.1, 0.01


def test_nesterov_is_that_of_optax_with_decay_in_the_gradient() -> None:
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[3.0]])}
    reference = optax.chain(
        optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=0.9, nesterov=True)
    )
    optimizer, state = nesterov(DECAY), reference.init(params)
    expected, slots = params, {"momentum": jax.tree.map(jnp.zeros_like, params)}
    for step in range(3):
        grads = jax.tree.map(lambda tensor, k=step: jnp.cos(tensor + k), params)
        params, slots = optimizer.update(params, slots, grads, jnp.float32(RATE))
        changes, state = reference.update(grads, state, expected)
        expected = optax.apply_updates(expected, changes)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, expected)
    assert slots.keys() == set(optimizer.slots)


def test_the_loss_of_narrow_scores_is_not_narrow() -> None:
    logits, labels = jnp.zeros((4, 3), jnp.bfloat16), jnp.zeros(4, jnp.int32)
    loss = cross_entropy(logits, labels)
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(math.log(3))


def test_scores_that_are_no_numbers_have_no_accuracy() -> None:
    labels = np.array([0, 1])
    assert accuracy(np.array([[1.0, 0.0], [1.0, 0.0]]), labels) == 0.5
    assert math.isnan(accuracy(np.array([[1.0, 0.0], [np.nan, 0.0]]), labels))


def test_the_rate_restarts_after_periods_that_double() -> None:
    assert cosine(0.0, RATE) == pytest.approx(RATE)
    assert cosine(1.0, RATE) == pytest.approx(RATE / 100)
    rates = [restarting_cosine(epoch, 10, RATE) for epoch in (0, 10, 30, 70)]
    assert rates == pytest.approx([RATE] * 4)
    assert restarting_cosine(20, 10, RATE) == pytest.approx(cosine(0.5, RATE))
