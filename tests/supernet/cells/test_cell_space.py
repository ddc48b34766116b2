"""The programs of the space of cells against a static re-statement of its networks."""

import contextlib
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.supernet.cells.static_network import (
    Cells,
    Tensors,
    make_arch,
    random_cells,
    static_logits,
)

from rafiki.supernet import (
    MOST_STEPS,
    Data,
    ImageSupernet,
    Inputs,
    cross_entropy,
    image_programs,
    programs,
    stack_archs,
)
from rafiki.supernet.cells import Architecture, CellSpace, Shape

pytestmark = pytest.mark.slow

BATCH, CHANNELS, CLASSES, RATE, DECAY = 8, 2, 10, np.float32(0.1), 0.01
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(BATCH, 8, 8, 1), dtype=np.uint8)
LABELS = RNG.integers(CLASSES, size=BATCH).astype(np.int32)
ALL = np.arange(BATCH, dtype=np.int32)
SEEDS = range(3)
# The widest gap to the static network, as a share of the largest number.
TOLERANCES = [("float64", 1e-9), ("float32", 1e-3)]

CellSupernet: TypeAlias = ImageSupernet[Architecture]


def make_supernet(
    seed: int, dtype: str = "float32", decay: float = DECAY
) -> tuple[CellSupernet, Data]:
    mean, deviation = np.full(1, 0.5, dtype), np.full(1, 0.3, dtype)
    data = Data(jnp.asarray(IMAGES), LABELS, CLASSES, mean, deviation)
    inputs = Inputs.of(data)
    supernet = ImageSupernet(inputs, CellSpace(Shape.of(inputs, CHANNELS, cells=1)), decay)
    supernet.reset(seed)
    held = supernet.weights
    held.current = jax.tree.map(lambda tensor: tensor.astype(dtype), held.current)
    return supernet, data


def train(supernet: CellSupernet, data: Data, cells: Cells) -> float:
    (loss,) = supernet.train(
        data, iter([ALL]), [make_arch(cells)], [float(RATE)], lambda share: False
    )
    return loss


def normalised(dtype: str) -> jax.Array:
    return jnp.asarray((IMAGES / 255.0 - 0.5) / 0.3, dtype)


def static_loss(tensors: Tensors, cells: Cells, images: jax.Array) -> jax.Array:
    return cross_entropy(static_logits(tensors, cells, images), jnp.asarray(LABELS))


def trainable(dumped: dict[str, np.ndarray]) -> Tensors:
    skipped = ("input/", "optimizer/")
    return {k: jnp.asarray(v) for k, v in dumped.items() if not k.startswith(skipped)}


def wide(dtype: str) -> contextlib.AbstractContextManager[object]:
    manager: contextlib.AbstractContextManager[object] = jax.enable_x64(dtype == "float64")
    return manager


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_logits_are_those_of_the_static_network(
    seed: int, dtype: str, tolerance: float
) -> None:
    with wide(dtype):
        cells, (supernet, data) = random_cells(seed), make_supernet(seed, dtype)
        static = static_logits(trainable(supernet.dump()), cells, normalised(dtype))
        (logits,) = supernet.logits([make_arch(cells)], data.images, ALL)
    expected = np.asarray(static)
    assert logits.dtype == expected.dtype == dtype
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_is_that_of_the_static_network(seed: int, dtype: str, tolerance: float) -> None:
    with wide(dtype):
        cells, (supernet, data) = random_cells(seed), make_supernet(seed, dtype)
        arch, before = make_arch(cells), trainable(supernet.dump())
        static = jax.value_and_grad(static_loss)(before, cells, normalised(dtype))
        expected_loss, gradients = jax.tree.map(np.asarray, static)
        loss = train(supernet, data, cells)
        after, updates = supernet.dump(), supernet.weights.updates([arch])
    largest = max(np.abs(gradient).max() for gradient in gradients.values())
    assert loss == pytest.approx(float(expected_loss), rel=tolerance)
    for path, gradient in gradients.items():
        found = after[f"optimizer/momentum/{path}"]
        assert found.dtype == after[path].dtype == dtype
        if path not in updates:
            assert not gradient.any()
            continue
        # The first momentum is the gradient with weight decay; the step looks ahead by it.
        expected = gradient + DECAY * np.asarray(before[path])
        atol = tolerance * largest
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=path)
        moved = np.asarray(before[path]) - RATE.astype(dtype) * 1.9 * expected
        np.testing.assert_allclose(after[path], moved, rtol=0, atol=atol, err_msg=path)


def test_the_gradients_of_most_operations_are_not_zero() -> None:
    cells, (supernet, data) = random_cells(1), make_supernet(1)
    train(supernet, data, cells)
    after = supernet.dump()
    touched = [p for p in supernet.weights.updates([make_arch(cells)]) if "/momentum/" in p]
    assert np.mean([bool(after[path].any()) for path in touched]) > 0.8


def test_a_step_leaves_every_other_tensor_and_momentum_as_it_was() -> None:
    supernet, data = make_supernet(0)
    for seed in range(3):
        train(supernet, data, random_cells(seed))
    cells, before = random_cells(7), supernet.dump()
    train(supernet, data, cells)
    after, updates = supernet.dump(), supernet.weights.updates([make_arch(cells)])
    for path in before.keys() - updates.keys():
        assert before[path].tobytes() == after[path].tobytes(), path
    changed = [path for path in updates if before[path].tobytes() != after[path].tobytes()]
    assert len(changed) > 0.8 * len(updates)


def test_the_gradient_of_what_is_not_active_is_exactly_zero() -> None:
    supernet, data = make_supernet(0)
    cells = random_cells(3)
    train(supernet, data, cells)
    after, updates = supernet.dump(), supernet.weights.updates([make_arch(cells)])
    untouched = [path for path in after if "/momentum/" in path and path not in updates]
    assert untouched
    assert not any(after[path].any() for path in untouched)


def test_the_loss_goes_down() -> None:
    supernet, data = make_supernet(0)
    losses = [train(supernet, data, random_cells(2)) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_loaded_supernet_goes_on_as_the_dumped_one() -> None:
    (supernet, data), (other, _) = make_supernet(0), make_supernet(9)
    train(supernet, data, random_cells(0))
    other.load(supernet.dump())
    for one in (supernet, other):
        train(one, data, random_cells(1))
    dumped = other.dump()
    assert all(value.tobytes() == dumped[path].tobytes() for path, value in supernet.dump().items())


def test_random_architectures_are_one_compilation() -> None:
    supernet, data = make_supernet(0)
    of_space = image_programs(supernet.weights.space, DECAY)
    train(supernet, data, random_cells(0))
    supernet.logits([make_arch(random_cells(0))], data.images, ALL)
    before = [program._cache_size() for program in of_space]  # type: ignore[union-attr]
    for seed in range(1, 20):
        train(supernet, data, random_cells(seed))
        archs = [make_arch(random_cells(seed + k)) for k in range(1 + seed % 12)]
        supernet.logits(archs, data.images, ALL)
    assert [program._cache_size() for program in of_space] == before  # type: ignore[union-attr]


def test_ten_candidates_in_one_call_score_as_in_ten_calls() -> None:
    supernet, data = make_supernet(0)
    archs = [make_arch(random_cells(seed)) for seed in range(10)]
    together = supernet.logits(archs, data.images, ALL)
    alone = np.concatenate([supernet.logits([arch], data.images, ALL) for arch in archs])
    assert together.tobytes() == alone.tobytes()


def training_arguments(supernet: CellSupernet) -> tuple[object, ...]:
    return (
        supernet.weights.current,
        stack_archs([make_arch(random_cells(0))], MOST_STEPS),
        np.zeros(MOST_STEPS, np.float32),
        np.int32(1),
        np.zeros((MOST_STEPS, *IMAGES.shape), np.uint8),
        np.zeros((MOST_STEPS, BATCH), np.int32),
        (supernet.inputs.mean, supernet.inputs.deviation),
    )


def test_bfloat16_computes_near_float32_and_keeps_no_weight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arch, (supernet, data) = make_arch(random_cells(1)), make_supernet(1)
    (expected,) = supernet.logits([arch], data.images, ALL)
    monkeypatch.setattr(programs, "compute_dtype", lambda: np.dtype(jnp.bfloat16))
    # Programs of their own, by their own weight decay.
    supernet, data = make_supernet(1, decay=2 * DECAY)
    (logits,) = supernet.logits([arch], data.images, ALL)
    assert logits.tobytes() != expected.tobytes()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=0.1 * np.abs(expected).max())
    trained, losses = jax.eval_shape(supernet._programs.train, *training_arguments(supernet))
    assert {str(tensor.dtype) for tensor in jax.tree.leaves(trained)} == {"float32"}
    assert losses.dtype == np.float32


def test_no_bank_is_copied_by_the_step() -> None:
    supernet, _ = make_supernet(0)
    train = image_programs(supernet.weights.space, DECAY).train
    text = train.lower(*training_arguments(supernet)).compile().as_text()  # type: ignore[attr-defined]
    for name in supernet.weights.space.banks():
        sizes = ",".join(map(str, supernet.weights.current.params[name].shape))
        assert f"f32[{sizes}]" in text
        copies = [line for line in text.splitlines() if f" = f32[{sizes}]" in line]
        assert not [line for line in copies if " copy(" in line]


def test_updates_count_what_each_architecture_uses() -> None:
    archs = [random_cells(seed) for seed in range(5)]
    updates = make_supernet(0)[0].weights.updates([make_arch(cells) for cells in archs])
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
