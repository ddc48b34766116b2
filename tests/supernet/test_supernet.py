"""The supernet's two programs against a static re-statement of the network."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rafiki.model import KnobValue
from rafiki.model.knobs import arch_values
from rafiki.supernet import OPERATIONS, Architecture, Inputs, Supernet, cell_knob

pytestmark = pytest.mark.slow

BATCH, CHANNELS, CLASSES, WEIGHT_DECAY = 8, 2, 10, 0.01
Cells = dict[str, list[object]]
Tensors = dict[str, jax.Array]
CELL = cell_knob([KnobValue(name) for name in OPERATIONS])
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((BATCH, 8, 8, 1)).astype(np.float32)
LABELS = RNG.integers(CLASSES, size=BATCH).astype(np.int32)


def random_cells(seed: int) -> Cells:
    """The values of both cells, drawn at random."""
    rng = np.random.default_rng(seed)
    return {
        name: list(arch_values(CELL, [int(rng.integers(len(item))) for item in CELL.items]))
        for name in ("normal_cell", "reduction_cell")
    }


def make_arch(cells: Cells) -> Architecture:
    return Architecture.of(cells["normal_cell"], cells["reduction_cell"])


def make_supernet(seed: int = 0) -> Supernet:
    inputs = Inputs((8, 8, 1), CLASSES, np.zeros(1, np.float32), np.ones(1, np.float32))
    supernet = Supernet(inputs, inputs.shape(CHANNELS, cells=1), WEIGHT_DECAY)
    supernet.reset(seed)
    return supernet


def static_norm(x: jax.Array, norm: jax.Array) -> jax.Array:
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * norm[0] + norm[1]


def static_convolution(x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


def static_windows(
    x: jax.Array, start: float, combine: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    y: jax.Array = lax.reduce_window(x, start, combine, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    return y


def static_operation(name: str, x: jax.Array, packed: jax.Array | None) -> jax.Array:
    channels = x.shape[-1]
    if name == "identity":
        return x
    if name == "maxpool3":
        return static_windows(x, -jnp.inf, lax.max)
    if name == "avgpool3":
        return static_windows(x, 0.0, lax.add) / static_windows(jnp.ones_like(x), 0.0, lax.add)
    assert packed is not None
    size = int(name[-1])
    parts = [size * size * channels, channels * channels, channels, channels]
    pieces = jnp.split(packed, np.cumsum(parts + parts)[:-1])
    for half in (pieces[:4], pieces[4:]):
        depthwise = half[0].reshape(size, size, 1, channels)
        x = static_convolution(jax.nn.relu(x), depthwise, groups=channels)
        x = x @ half[1].reshape(channels, channels)
        x = static_norm(x, jnp.stack(half[2:]))
    return x


def static_cell(
    tensors: Tensors, path: str, values: list[object], states: list[jax.Array]
) -> jax.Array:
    read = set()
    for node in range(2, 7):
        x, y, over_x, over_y = values[4 * node - 8 : 4 * node - 4]
        read |= {x, y}
        total = jnp.zeros_like(states[0])
        for side, source, name in (("x", x, over_x), ("y", y, over_y)):
            packed = tensors.get(f"{path}/node_{node}/{side}/from_{source}/{name}")
            total += static_operation(str(name), states[int(str(source))], packed)
        states = [*states, total]
    loose = [state for state in range(7) if state not in read]
    ends = jnp.concatenate([states[state] for state in loose], axis=-1)
    kernel = jnp.concatenate([tensors[f"{path}/output/from_{state}"] for state in loose])
    return jax.nn.relu(ends) @ kernel


def static_projection(tensors: Tensors, path: str, x: jax.Array, halve: bool) -> jax.Array:
    x, kernel = jax.nn.relu(x), tensors[f"{path}/kernel"]
    if halve:
        even, odd = jnp.split(kernel, 2, axis=1)
        x = jnp.concatenate([x[:, ::2, ::2] @ even, x[:, 1::2, 1::2] @ odd], axis=-1)
    else:
        x = x @ kernel
    return static_norm(x, tensors[f"{path}/norm"])


def static_logits(tensors: Tensors, cells: Cells, images: jax.Array) -> jax.Array:
    """Three cells, normal, reduction, normal, from the tensors of a checkpoint."""
    stem = tensors["stem/kernel"].reshape(3, 3, 1, -1)
    x0 = static_norm(static_convolution(images, stem), tensors["stem/norm"])
    normal, reduction = cells["normal_cell"], cells["reduction_cell"]

    def enter(stage: int, index: int, x: jax.Array) -> jax.Array:
        return static_projection(tensors, f"stage_{stage}/input_{index}", x, halve=stage == 1)

    def cell(
        stage: int, number: int, values: list[object], first: jax.Array, second: jax.Array
    ) -> jax.Array:
        y = static_cell(tensors, f"stage_{stage}/cell_{number}", values, [first, second])
        return static_norm(y, tensors[f"stage_{stage}/norms"][number])

    x1 = cell(0, 0, normal, enter(0, 0, x0), enter(0, 1, x0))
    x2 = cell(1, 0, reduction, enter(1, 0, x0), enter(1, 1, x1))
    x3 = cell(1, 1, normal, enter(1, 2, x1), x2)
    return jax.nn.relu(x3).mean((1, 2)) @ tensors["head/kernel"] + tensors["head/bias"]


def static_loss(tensors: Tensors, cells: Cells) -> jax.Array:
    scores = jax.nn.log_softmax(static_logits(tensors, cells, jnp.asarray(IMAGES)))
    return -scores[np.arange(BATCH), LABELS].mean()


def trainable(dumped: dict[str, np.ndarray]) -> Tensors:
    skipped = ("input/", "optimizer/")
    return {k: jnp.asarray(v) for k, v in dumped.items() if not k.startswith(skipped)}


@pytest.mark.parametrize("seed", range(4))
def test_the_logits_are_those_of_the_static_network(seed: int) -> None:
    cells, supernet = random_cells(seed), make_supernet(seed)
    expected = static_logits(trainable(supernet.dump()), cells, jnp.asarray(IMAGES))
    logits = supernet.logits(make_arch(cells), jnp.asarray(IMAGES))
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradients_are_those_of_the_static_network(seed: int) -> None:
    cells, supernet = random_cells(seed), make_supernet(seed)
    arch, before = make_arch(cells), trainable(supernet.dump())
    gradients = jax.grad(static_loss)(before, cells)
    supernet.train_step(arch, jnp.asarray(IMAGES), LABELS, 0.1)
    after, updates = supernet.dump(), supernet.updates([arch])
    for path, gradient in gradients.items():
        # The first momentum of what is active: the gradient with weight decay.
        momentum = gradient + WEIGHT_DECAY * before[path] if path in updates else gradient
        found = after[f"optimizer/momentum/{path}"]
        np.testing.assert_allclose(found, momentum, rtol=2e-3, atol=5e-5, err_msg=path)


def test_the_gradients_of_most_operations_are_not_zero() -> None:
    cells, supernet = random_cells(1), make_supernet(1)
    arch = make_arch(cells)
    supernet.train_step(arch, jnp.asarray(IMAGES), LABELS, 0.1)
    after = supernet.dump()
    touched = [path for path in supernet.updates([arch]) if "/momentum/" in path]
    assert np.mean([bool(after[path].any()) for path in touched]) > 0.8


def test_a_step_leaves_every_other_tensor_and_momentum_as_it_was() -> None:
    supernet = make_supernet()
    for seed in range(3):
        supernet.train_step(make_arch(random_cells(seed)), jnp.asarray(IMAGES), LABELS, 0.1)
    arch, before = make_arch(random_cells(7)), supernet.dump()
    supernet.train_step(arch, jnp.asarray(IMAGES), LABELS, 0.1)
    after, updates = supernet.dump(), supernet.updates([arch])
    for path in before.keys() - updates.keys():
        assert before[path].tobytes() == after[path].tobytes(), path
    changed = [path for path in updates if before[path].tobytes() != after[path].tobytes()]
    assert len(changed) > 0.8 * len(updates)


def test_nesterov_momentum_moves_the_active_parameters() -> None:
    supernet, arch = make_supernet(), make_arch(random_cells(2))
    start = supernet.dump()
    supernet.train_step(arch, jnp.asarray(IMAGES), LABELS, 0.1)
    middle = supernet.dump()
    gradient = middle["optimizer/momentum/head/bias"]
    np.testing.assert_allclose(
        middle["head/bias"], start["head/bias"] - 0.1 * 1.9 * gradient, rtol=1e-4, atol=1e-7
    )


def test_the_loss_goes_down() -> None:
    supernet, arch = make_supernet(), make_arch(random_cells(2))
    losses = [
        float(supernet.train_step(arch, jnp.asarray(IMAGES), LABELS, 0.05)) for _ in range(20)
    ]
    assert losses[-1] < 0.5 * losses[0]


def test_a_loaded_supernet_goes_on_as_the_dumped_one() -> None:
    supernet, other = make_supernet(), make_supernet(seed=9)
    supernet.train_step(make_arch(random_cells(0)), jnp.asarray(IMAGES), LABELS, 0.1)
    other.load(supernet.dump())
    for one in (supernet, other):
        one.train_step(make_arch(random_cells(1)), jnp.asarray(IMAGES), LABELS, 0.1)
    dumped = other.dump()
    assert all(value.tobytes() == dumped[path].tobytes() for path, value in supernet.dump().items())


def test_a_missing_tensor_is_named() -> None:
    supernet = make_supernet()
    dumped = supernet.dump()
    del dumped["stage_1/cell_0/output/from_3"]
    with pytest.raises(ValueError, match="lack stage_1/cell_0/output/from_3"):
        supernet.load(dumped)


def test_updates_count_what_each_architecture_uses() -> None:
    archs = [random_cells(seed) for seed in range(5)]
    updates = make_supernet().updates([make_arch(cells) for cells in archs])
    expected: dict[str, int] = {}
    kinds = {"stage_0/cell_0": "normal", "stage_1/cell_0": "reduction", "stage_1/cell_1": "normal"}
    for cells in archs:
        for place, kind in kinds.items():
            values = cells[f"{kind}_cell"]
            for node in range(2, 7):
                x, y, over_x, over_y = values[4 * node - 8 : 4 * node - 4]
                for side, source, name in (("x", x, over_x), ("y", y, over_y)):
                    path = f"{place}/node_{node}/{side}/from_{source}/{name}"
                    expected[path] = expected.get(path, 0) + ("sepconv" in str(name))
    expected = {path: count for path, count in expected.items() if count}
    assert {k: v for k, v in updates.items() if k.startswith("stage") and "/node_" in k} == expected
    assert updates["head/bias"] == updates["optimizer/steps"] == 5
    assert "input/mean" not in updates
