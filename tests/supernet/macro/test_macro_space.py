"""The macro space against a static re-statement of its networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from tests.supernet.macro.static_network import (
    IMAGES,
    INPUTS,
    LABELS,
    SPACE,
    by_path,
    random_active,
    random_arch,
    random_values,
    static_logits,
)

from rafiki.supernet import ImageSupernet, cross_entropy
from rafiki.supernet.macro import MacroArchitecture

pytestmark = pytest.mark.slow

# Of the architecture, the type, and the widest gap to the static network as a share of the
# largest number. The static network is compiled for each, which takes most of the time.
CASES = [(0, np.float64, 1e-9), (1, np.float64, 1e-9), (2, np.float64, 1e-9), (3, np.float32, 1e-3)]


def loss(active: dict[str, Array], arch: MacroArchitecture, images: Array) -> tuple[Array, Array]:
    logits = SPACE.logits(active, arch, images)
    return cross_entropy(logits, jnp.asarray(LABELS)), logits


def static_loss(
    tensors: dict[str, Array], values: list[object], images: Array
) -> tuple[Array, Array]:
    logits = static_logits(tensors, values, images)
    return cross_entropy(logits, jnp.asarray(LABELS)), logits


# One program for all architectures.
GRADIENTS = jax.jit(jax.grad(loss, has_aux=True))


@pytest.mark.parametrize(("seed", "dtype", "tolerance"), CASES)
def test_logits_and_gradients_are_those_of_the_static_network(
    seed: int, dtype: type, tolerance: float
) -> None:
    arch = random_arch(seed)
    with jax.enable_x64(dtype is np.float64):
        active = {k: jnp.asarray(v, dtype) for k, v in random_active(arch, seed).items()}
        images = jnp.asarray(IMAGES, dtype)
        grads, logits = GRADIENTS(active, arch, images)
        values = random_values(seed)
        static_grads, static = jax.jit(
            jax.grad(lambda tensors: static_loss(tensors, values, images), has_aux=True)
        )(by_path(active, arch))
        found = by_path(grads, arch)
        assert logits.dtype == dtype
        assert_close(logits, static, tolerance)
        for path, expected in static_grads.items():
            assert_close(found[path], expected, tolerance, largest_of(static_grads), path)


def assert_close(
    found: Array, expected: Array, tolerance: float, largest: float | None = None, path: str = ""
) -> None:
    largest = float(jnp.abs(expected).max()) if largest is None else largest
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest, err_msg=path)


def largest_of(grads: dict[str, Array]) -> float:
    return max(float(jnp.abs(grad).max()) for grad in grads.values())


@pytest.mark.parametrize("seed", range(3))
def test_what_an_architecture_does_not_use_has_no_gradient(seed: int) -> None:
    arch = random_arch(seed)
    active = {k: jnp.asarray(v) for k, v in random_active(arch, seed).items()}
    grads, _ = GRADIENTS(active, arch, jnp.asarray(IMAGES))
    used = {(name, place) for name, place, _ in SPACE.active_rows(arch)}
    for name in SPACE.banks():
        for place in np.ndindex(np.broadcast_arrays(*SPACE.rows(arch)[name])[0].shape):
            if (name, place) not in used:
                assert not np.asarray(grads[name][place]).any()


@pytest.fixture(scope="module")
def supernet() -> ImageSupernet[MacroArchitecture]:
    return ImageSupernet(INPUTS, SPACE, 0.01)


def step(supernet: ImageSupernet[MacroArchitecture], arch: MacroArchitecture) -> None:
    weights, _ = supernet._programs.train(
        supernet.weights.current,
        MacroArchitecture(*(np.stack([part] * 16) for part in arch)),
        np.full(16, 0.1, np.float32),
        np.int32(1),
        jnp.asarray(np.stack([np.clip(128 + 40 * IMAGES, 0, 255).astype(np.uint8)] * 16)),
        np.stack([LABELS] * 16),
        (INPUTS.mean, INPUTS.deviation),
    )
    supernet.weights.current = weights
    supernet.weights.steps += 1


def test_a_step_leaves_every_other_tensor_and_momentum_as_it_was(
    supernet: ImageSupernet[MacroArchitecture],
) -> None:
    supernet.reset(0)
    for seed in range(3):
        step(supernet, random_arch(seed))
    arch, before = random_arch(7), supernet.dump()
    step(supernet, arch)
    after, updates = supernet.dump(), supernet.weights.updates([arch])
    for path in before.keys() - updates.keys():
        assert before[path].tobytes() == after[path].tobytes(), path
    changed = [path for path in updates if before[path].tobytes() != after[path].tobytes()]
    assert len(changed) > 0.9 * len(updates)
    assert len(updates) < 0.6 * len(before)


def test_many_architectures_are_one_compilation(
    supernet: ImageSupernet[MacroArchitecture],
) -> None:
    supernet.reset(0)
    for seed in range(12):
        step(supernet, random_arch(seed))
        images = jnp.asarray(np.zeros((20, 16, 16, 2), np.uint8))
        supernet.logits([random_arch(seed)], images, np.arange(8, dtype=np.int32))
    assert supernet._programs.train._cache_size() == 1  # type: ignore[attr-defined]
    assert supernet._programs.evaluate._cache_size() == 1  # type: ignore[attr-defined]


def test_a_loaded_supernet_dumps_what_it_loaded(supernet: ImageSupernet[MacroArchitecture]) -> None:
    supernet.reset(3)
    step(supernet, random_arch(0))
    dumped = supernet.dump()
    supernet.reset(4)
    supernet.load(dumped)
    again = supernet.dump()
    assert dumped.keys() == again.keys()
    assert all(dumped[path].tobytes() == again[path].tobytes() for path in dumped)
