"""Many steps in one program, and the dtype that it computes in."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.supernet import Tensors, computing, each, gather_active, pick, scatter_active


def _add(total: Array, number: Array) -> tuple[Array, Array]:
    return total + number, 10 * number


def test_a_function_is_called_so_often_and_what_it_is_not_called_for_is_zero() -> None:
    total, results = each(_add, jnp.int32(5), jnp.int32(3), most=5)
    assert int(total) == 5 + 0 + 1 + 2
    assert results.tolist() == [0, 10, 20, 0, 0]


def test_one_compilation_serves_any_count() -> None:
    program = jax.jit(lambda count: each(_add, jnp.int32(0), count, most=5))
    assert [int(program(np.int32(count))[0]) for count in range(6)] == [0, 0, 1, 3, 6, 10]
    assert program._cache_size() == 1  # type: ignore[attr-defined]


def test_banks_are_updated_in_place() -> None:
    bank = jnp.zeros((100, 10_000))

    def halve(tensors: Tensors, number: Array) -> tuple[Tensors, Array]:
        rows = {"bank": (jnp.stack([number, number + 7]),)}
        active = gather_active(tensors, rows)
        changed = {"bank": active["bank"] / 2}
        return scatter_active(tensors, changed, rows), jnp.sum(changed["bank"])

    program = jax.jit(lambda tensors, n: each(halve, tensors, n, most=5), donate_argnums=0)
    memory = program.lower({"bank": bank}, np.int32(3)).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < bank.nbytes / 10
    assert memory.alias_size_in_bytes >= bank.nbytes


def test_one_of_stacked_trees_is_picked() -> None:
    stacked = {"a": jnp.arange(3), "b": jnp.arange(6).reshape(3, 2)}
    picked = pick(stacked, jnp.int32(1))
    assert int(picked["a"]) == 1
    assert picked["b"].tolist() == [2, 3]


def test_what_is_not_float32_keeps_its_dtype() -> None:
    with jax.enable_x64(True):
        tensors = computing({"wide": jnp.ones(2, jnp.float64), "whole": jnp.ones(2, jnp.int32)})
    assert {name: str(tensor.dtype) for name, tensor in tensors.items()} == {
        "wide": "float64",
        "whole": "int32",
    }
