"""Architectures and sizes of the macro space."""

import numpy as np
import pytest

from rafiki.supernet import Inputs
from rafiki.supernet.macro import OPERATIONS, MacroArchitecture, MacroShape, network_knob


def inputs(side: int) -> Inputs:
    return Inputs((side, side, 1), 10, np.zeros(1, np.float32), np.ones(1, np.float32))


def test_a_layer_has_an_operation_and_a_skip_from_every_state_before_its_input() -> None:
    knob = network_knob(3)
    assert [len(choices) for choices in knob.items] == [6, 6, 2, 6, 2, 2]
    assert knob.skips == (False, False, True, False, True, True)


def test_the_operations_are_the_same_choices_in_every_layer() -> None:
    knob = network_knob(3)
    assert knob.items[0] == knob.items[1] == knob.items[3]
    assert [getattr(choice, "value", None) for choice in knob.items[0]] == list(OPERATIONS)


def test_sources_are_the_states_whose_bits_are_set() -> None:
    arch = MacroArchitecture.of(["conv3", "conv5", 1, "maxpool3", 0, 1, "avgpool3", 1, 0, 1])
    assert arch.operations.tolist() == [0, 2, 5, 4]
    assert arch.sources.tolist() == [[4, 4, 4, 4], [0, 4, 4, 4], [1, 4, 4, 4], [0, 2, 4, 4]]
    assert arch.counts.tolist() == [0, 1, 1, 2]
    # State 1 is the input of layer 1 and skipped from by layer 2; state 3 is the last input.
    assert arch.last_readers.tolist() == [3, 2, 3, 3]
    assert {field.dtype.name for field in arch} == {"int32"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["conv3", "conv3"], "2 values describe no whole number of layers"),
        (["conv7"], "layer 0 cannot have the operation 'conv7'"),
        (["conv3", "conv3", 2], "the skips of layer 1 are 0 or 1"),
    ],
)
def test_what_is_no_architecture_is_refused(values: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MacroArchitecture.of(values)


@pytest.mark.parametrize(
    ("side", "layers", "stages"),
    [
        (8, 4, [[0, 1], [2, 3]]),
        (15, 5, [[0, 1], [2, 3, 4]]),
        (32, 12, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
    ],
)
def test_layers_are_in_stages(side: int, layers: int, stages: list[list[int]]) -> None:
    shape = MacroShape.of(inputs(side), layers, channels=6, widening=2)
    assert [list(shape.stage_layers(stage)) for stage in range(len(stages))] == stages
    assert shape.channels == (6, 12, 24)[: len(stages)]


def test_too_small_images_and_too_few_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels"):
        MacroShape.of(inputs(7), 6, 4, 1)
    with pytest.raises(ValueError, match="at least 6 layers, not 5"):
        MacroShape.of(inputs(16), 5, 4, 1)
