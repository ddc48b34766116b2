"""A choice among branches at run time, and its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from rafiki.supernet import choose
from rafiki.supernet.choice import write_chosen


def _sine(x: Array, weight: Array) -> Array:
    return jnp.sin(x * weight)


def _product(x: Array, weight: Array) -> Array:
    return x @ jnp.outer(weight, weight)


def _first(x: Array, weight: Array) -> Array:
    return x


BRANCHES = (_sine, _product, _first)
X, WEIGHT = np.random.default_rng(0).standard_normal((2, 4, 4)).astype(np.float32)


def chosen(index: Array, x: Array, weight: Array) -> Array:
    y: Array = choose(BRANCHES, index, x, weight)
    return jnp.sum(y * jnp.cos(x))


def switched(index: Array, x: Array, weight: Array) -> Array:
    return jnp.sum(lax.switch(index, BRANCHES, x, weight) * jnp.cos(x))


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 3])
def test_value_and_gradients_are_those_of_a_switch(index: int) -> None:
    arguments = (jnp.int32(index), jnp.asarray(X), jnp.asarray(WEIGHT[0]))
    found = jax.jit(jax.value_and_grad(chosen, argnums=(1, 2)))(*arguments)
    expected = jax.jit(jax.value_and_grad(switched, argnums=(1, 2)))(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_what_the_branch_does_not_use_has_a_gradient_of_exactly_zero() -> None:
    grad = jax.grad(chosen, argnums=2)(jnp.int32(2), jnp.asarray(X), jnp.asarray(WEIGHT[0]))
    assert not np.asarray(grad).any()


CALLS: list[str] = []


def _told(name: str) -> jax.typing.ArrayLike:
    CALLS.append(name)
    return np.float32(0)


def _low(x: Array) -> Array:
    y: Array = x + jax.pure_callback(lambda: _told("low"), jnp.float32(0))
    return y


def _high(x: Array) -> Array:
    y: Array = x - jax.pure_callback(lambda: _told("high"), jnp.float32(0))
    return y


def test_only_the_chosen_branch_is_computed() -> None:
    CALLS.clear()
    program = jax.jit(lambda index, x: choose((_low, _high), index, x))
    program(jnp.int32(1), jnp.float32(2)).block_until_ready()
    assert CALLS == ["high"]


def test_nothing_but_the_operands_is_kept_for_the_derivative() -> None:
    _, backward = jax.vjp(lambda x: choose(BRANCHES, jnp.int32(0), x, WEIGHT[0]), jnp.asarray(X))
    kept = [leaf.shape for leaf in jax.tree.leaves(backward) if getattr(leaf, "size", 0) > 1]
    assert sorted(kept) == [(4,), (4, 4)]


BUFFER = np.arange(12, dtype=np.float32).reshape(4, 3)


def _double(buffers: tuple[Array], source: Array) -> tuple[Array]:
    return (2 * buffers[0][source],)


def _told_of(buffers: tuple[Array], source: Array) -> tuple[Array]:
    told = jax.pure_callback(lambda _: _told("other"), jnp.float32(0), source)
    return (buffers[0][source] + told,)


def rewritten(index: int) -> np.ndarray:
    program = jax.jit(
        lambda index, buffer: write_chosen(
            (_double, _told_of), index, (buffer,), (3,), jnp.int32(1)
        )[0]
    )
    return np.asarray(program(jnp.int32(index), jnp.asarray(BUFFER)))


def test_the_chosen_branch_alone_writes_and_into_its_row_alone() -> None:
    CALLS.clear()
    found = rewritten(0)
    np.testing.assert_array_equal(found[:3], BUFFER[:3])
    np.testing.assert_array_equal(found[3], 2 * BUFFER[1])
    assert not CALLS


@pytest.mark.parametrize("index", [-1, 2])
def test_out_of_range_nothing_is_written(index: int) -> None:
    np.testing.assert_array_equal(rewritten(index), BUFFER)


def _of_operands(buffers: tuple[Array], x: Array) -> tuple[Array]:
    return (x @ x,)


def test_nothing_of_a_branch_is_computed_before_it_is_chosen() -> None:
    program = jax.jit(
        lambda index, buffer, x: write_chosen((_of_operands,), index, (buffer,), (0,), x)[0]
    )
    text = program.lower(jnp.int32(0), jnp.zeros((2, 8, 8)), jnp.ones((8, 8))).compile().as_text()
    assert text is not None
    entry = text[text.index("ENTRY") :]
    assert "while(" in entry
    assert "dot" not in entry.partition("while(")[0]
