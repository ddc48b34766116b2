"""Shared weights between programs, with a toy space."""

import numpy as np
import pytest
from tests.supernet.toy_space import CLASSES, PIXELS, SIZES, ToySpace, layer

from rafiki.supernet import SharedWeights
from rafiki.supernet import shared_weights as module


def fresh(seed: int = 0, *slots: str) -> "SharedWeights[object]":
    weights = SharedWeights(ToySpace(), slots or ("momentum",))
    weights.reset(seed)
    return weights  # type: ignore[return-value]


def test_every_row_is_a_tensor_without_its_padding() -> None:
    dumped = fresh().dump()
    assert {path: tensor.shape for path, tensor in dumped.items() if "optim" not in path} == {
        "bias": (CLASSES,),
        "row_0/kernel": (SIZES[0], CLASSES),
        "row_1/kernel": (SIZES[1], CLASSES),
        "row_0/scale": (),
        "row_1/scale": (),
    }
    assert {path for path in dumped if "optim" in path} == {
        "optimizer/steps",
        *(f"optimizer/momentum/{path}" for path in dumped if "optim" not in path),
    }


def test_what_was_dumped_is_loaded_bit_for_bit() -> None:
    one, other = fresh(1), fresh(2)
    one.steps = 7
    other.load(one.dump())
    again = other.dump()
    assert other.steps == 7
    assert all(again[path].tobytes() == tensor.tobytes() for path, tensor in one.dump().items())
    layers = np.asarray(other.current.params["layers"])
    assert layers.shape == (len(SIZES), PIXELS, CLASSES)
    assert not layers[1, SIZES[1] :].any()


def test_without_optimiser_states_they_begin_at_zero() -> None:
    weights = fresh()
    weights.steps = 7
    weights.load({k: v + 1 for k, v in weights.dump().items() if "optim" not in k})
    dumped = weights.dump()
    assert weights.steps == 0
    assert not any(dumped[path].any() for path in dumped if "/momentum/" in path)


def test_there_may_be_any_number_of_optimiser_states() -> None:
    assert "optimizer/second/bias" in fresh(0, "first", "second").dump()
    assert [path for path in SharedWeights(ToySpace(), ()).current.slots] == []


def test_a_missing_or_misshapen_tensor_is_named() -> None:
    weights = fresh()
    dumped = weights.dump()
    with pytest.raises(ValueError, match="row_1/kernel is"):
        weights.load({**dumped, "row_1/kernel": np.zeros((PIXELS, CLASSES), np.float32)})
    del dumped["row_1/kernel"]
    with pytest.raises(ValueError, match="lack row_1/kernel"):
        weights.load(dumped)


def test_updates_are_counted_by_tensor_and_what_is_past_the_end_is_none() -> None:
    updates = fresh().updates([layer(0), layer(2), layer(0), layer(2)])
    assert updates == {
        path: count
        for name, count in {"bias": 4, "row_0/kernel": 2, "row_0/scale": 2}.items()
        for path in (name, f"optimizer/momentum/{name}")
    } | {"optimizer/steps": 4}


def test_more_tensors_than_a_checkpoint_may_have_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_TENSORS", 9)
    SharedWeights(ToySpace(), ())
    with pytest.raises(ValueError, match="10 tensors are over the limit of 9"):
        SharedWeights(ToySpace(), ("momentum",))
