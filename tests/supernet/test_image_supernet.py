"""A supernet of images, with a toy space: minibatches and candidates in one call."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.supernet.toy_space import CLASSES, Layer, ToySpace, layer

from rafiki.supernet import (
    Data,
    ImageSupernet,
    Inputs,
    minibatches,
    normalised,
    on_devices,
    programs,
)
from rafiki.supernet import image_supernet as module

BATCH, RATE, DECAY = 8, 0.1, 0.01
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(64, 4, 4, 1), dtype=np.uint8)
LABELS = RNG.integers(CLASSES, size=64).astype(np.int32)
MEAN, DEVIATION = np.full(1, 0.5, np.float32), np.full(1, 0.3, np.float32)


@pytest.fixture
def data() -> Data:
    return Data(on_devices(IMAGES), LABELS, CLASSES, MEAN, DEVIATION)


@pytest.fixture
def supernet(data: Data) -> ImageSupernet[Layer]:
    supernet = ImageSupernet(Inputs.of(data), ToySpace(), DECAY)
    supernet.reset(0)
    return supernet


def train(
    supernet: ImageSupernet[Layer],
    data: Data,
    operations: Sequence[int],
    is_stopped: Callable[[float], bool] = lambda share: False,
) -> list[float]:
    archs = [layer(operation) for operation in operations]
    rates = [RATE / (1 + number) for number in range(len(archs))]
    return supernet.train(data, minibatches(64, BATCH, 3), archs, rates, is_stopped)


def test_a_step_is_gradient_descent_on_the_normalised_minibatch(
    supernet: ImageSupernet[Layer], data: Data
) -> None:
    before, indices = supernet.dump(), next(minibatches(64, BATCH, 3))
    (loss,) = train(supernet, data, [1])
    x = ((IMAGES[indices] / 255.0 - 0.5) / 0.3).reshape(BATCH, -1)[:, :9]
    logits = 2 * (x @ before["row_1/kernel"])
    errors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[LABELS[indices]]
    kernel_grad = 2 * x.T @ errors / BATCH + DECAY * before["row_1/kernel"]
    after = supernet.dump()
    np.testing.assert_allclose(
        after["optimizer/momentum/row_1/kernel"], kernel_grad, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        after["row_1/kernel"], before["row_1/kernel"] - RATE * 1.9 * kernel_grad, rtol=1e-4
    )
    shifted = np.log(np.exp(logits).sum(1)) - logits[np.arange(BATCH), LABELS[indices]]
    assert loss == pytest.approx(shifted.mean(), rel=1e-4)


def test_what_no_architecture_used_keeps_every_bit(
    supernet: ImageSupernet[Layer], data: Data
) -> None:
    train(supernet, data, [0, 1, 2])
    before = supernet.dump()
    train(supernet, data, [1, 2, 1])
    after, updates = supernet.dump(), supernet.weights.updates([layer(1), layer(2), layer(1)])
    changed = {path for path in before if before[path].tobytes() != after[path].tobytes()}
    assert changed == updates.keys()
    assert not any("row_0" in path for path in changed)


def test_any_number_of_architectures_and_minibatches_is_one_compilation(
    supernet: ImageSupernet[Layer], data: Data
) -> None:
    for count in (1, 40, 3):
        train(supernet, data, [number % 3 for number in range(count)])
        supernet.logits([layer(k % 3) for k in range(count)], data.images, np.arange(BATCH))
    assert supernet.steps == 44
    assert supernet._programs.train._cache_size() == 1  # type: ignore[attr-defined]
    assert supernet._programs.evaluate._cache_size() == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("call_s", [0.0, math.inf])
def test_a_training_cut_into_other_calls_gives_the_same_weights(
    supernet: ImageSupernet[Layer], data: Data, monkeypatch: pytest.MonkeyPatch, call_s: float
) -> None:
    operations = [number % 3 for number in range(40)]
    batches = minibatches(64, BATCH, 3)
    losses = []
    for number, operation in enumerate(operations):
        rates = [RATE / (1 + number)]
        losses += supernet.train(data, batches, [layer(operation)], rates, lambda share: False)
    one_by_one = supernet.dump()
    # A call is to take no time: one minibatch each; any time: 1, 2, 4, 8, 16 and what is left.
    monkeypatch.setattr(programs, "CALL_S", call_s)
    supernet.reset(0)
    supernet._calls.steps = 1
    shares: list[float] = []

    def told(share: float) -> bool:
        shares.append(share)
        return False

    assert train(supernet, data, operations, told) == losses
    assert len(shares) == (40 if call_s == 0.0 else 6)
    dumped = supernet.dump()
    assert all(dumped[path].tobytes() == one_by_one[path].tobytes() for path in dumped)


def test_training_ends_when_it_is_told_to(supernet: ImageSupernet[Layer], data: Data) -> None:
    losses = train(supernet, data, [0] * 40, lambda share: share > 0.2)
    assert len(losses) == supernet.steps < 40


def test_ten_candidates_in_one_call_score_as_in_ten_calls(
    supernet: ImageSupernet[Layer], data: Data
) -> None:
    archs = [layer(number % 3) for number in range(10)]
    together = supernet.logits(archs, data.images, np.arange(BATCH))
    alone = [supernet.logits([arch], data.images, np.arange(BATCH))[0] for arch in archs]
    assert together.shape == (10, BATCH, CLASSES)
    assert together.tobytes() == np.stack(alone).tobytes()


def test_more_candidates_than_a_call_takes_are_several_calls(
    supernet: ImageSupernet[Layer], data: Data
) -> None:
    logits = supernet.logits([layer(k % 3) for k in range(23)], data.images, np.arange(BATCH))
    assert logits.shape == (23, BATCH, CLASSES)
    assert logits[0].tobytes() == logits[21].tobytes()


def test_images_are_normalised_in_the_dtype_of_the_data_sets_mean() -> None:
    with jax.enable_x64(True):
        wide = normalised(
            *(jnp.asarray(a) for a in (IMAGES, np.float64(MEAN), np.float64(DEVIATION)))
        )
    narrow = normalised(*(jnp.asarray(array) for array in (IMAGES, MEAN, DEVIATION)))
    assert (str(wide.dtype), str(narrow.dtype)) == ("float64", "float32")
    np.testing.assert_allclose(wide, (IMAGES / 255.0 - 0.5) / np.float64(DEVIATION), rtol=1e-12)


def test_bfloat16_computes_near_float32_and_keeps_no_weight(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> tuple[ImageSupernet[Layer], np.ndarray]:
        module.image_programs.cache_clear()
        supernet = ImageSupernet(Inputs.of(data), ToySpace(), DECAY)
        supernet.reset(0)
        train(supernet, data, [0, 1, 2, 1])
        return supernet, supernet.logits([layer(1)], data.images, np.arange(BATCH))[0]

    _, expected = trained()
    monkeypatch.setattr(programs, "compute_dtype", lambda: np.dtype(jnp.bfloat16))
    supernet, logits = trained()
    module.image_programs.cache_clear()
    assert logits.dtype == np.float32
    assert logits.tobytes() != expected.tobytes()
    np.testing.assert_allclose(logits, expected, atol=0.03 * np.abs(expected).max())
    held = jax.tree.leaves(supernet.weights.current)
    assert {str(tensor.dtype) for tensor in held} == {"float32"}
