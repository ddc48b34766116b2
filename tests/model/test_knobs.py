"""The rules of the six knob types."""

import enum
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.model import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    InvalidKnobConfig,
    Knob,
    KnobValue,
    NodeRef,
    Policy,
    PolicyKnob,
    Scalar,
)
from rafiki.model.knobs import (
    arch_values,
    check_knob_config,
    check_value,
    choice_tokens,
    model_arguments,
    offered_policies,
)


class Size(enum.IntEnum):
    SMALL = 1


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "fixed list": (lambda: FixedKnob([1]), "not list"),  # type: ignore[arg-type]
    "fixed NaN": (lambda: FixedKnob(math.nan), "finite"),
    "fixed too large": (lambda: FixedKnob(2**63), "64 bits"),
    "fixed lone surrogate": (lambda: FixedKnob("\ud800"), "Unicode"),
    "fixed NumPy float": (lambda: FixedKnob(np.float64(0.1)), "not float64"),
    "fixed enum": (lambda: FixedKnob(Size.SMALL), "not Size"),
    "no categories": (lambda: CategoricalKnob([]), "1 to 1000"),
    "too many categories": (lambda: CategoricalKnob(range(1001)), "1 to 1000"),
    "mixed categories": (lambda: CategoricalKnob([1, 1.5]), "one type"),
    "equal categories": (lambda: CategoricalKnob(["a", "a"]), "distinct"),
    "a string of categories": (lambda: CategoricalKnob("abc"), "a list of values"),
    "categories in a set": (lambda: CategoricalKnob({1, 2}), "a list"),  # type: ignore[arg-type]
    "integer from float": (lambda: IntegerKnob(1.0, 2), "integers"),  # type: ignore[arg-type]
    "integer from bool": (lambda: IntegerKnob(True, 2), "integers"),
    "integer interval": (lambda: IntegerKnob(3, 2), "must not exceed"),
    "integer too large": (lambda: IntegerKnob(0, 2**63), "64 bits"),
    "integer log from 0": (lambda: IntegerKnob(0, 2, is_exp=True), "above 0"),
    "integer scale": (lambda: IntegerKnob(1, 2, is_exp="yes"), "is_exp"),  # type: ignore[arg-type]
    "skips too few": (lambda: ArchKnob([[0, 1], [0, 1]], skips=[True]), "every position"),
    "skip as number": (lambda: ArchKnob([[0, 1]], skips=[1]), "True or False"),  # type: ignore[list-item]
    "skip of three": (lambda: ArchKnob([[0, 1, 2]], skips=[True]), "position 0 is a skip"),
    "skip to a node": (lambda: ArchKnob([[0, NodeRef(1)]], skips=[True]), "two values"),
    "float from text": (lambda: FloatKnob("0", 1), "numbers"),  # type: ignore[arg-type]
    "float infinite": (lambda: FloatKnob(0, math.inf), "finite"),
    "float huge integer": (lambda: FloatKnob(0, 10**400), "64 bits"),
    "float interval": (lambda: FloatKnob(0.2, 0.1), "must not exceed"),
    "float log below 0": (lambda: FloatKnob(-1.0, 1.0, is_exp=True), "above 0"),
    "no positions": (lambda: ArchKnob([]), "1 to 1000 positions"),
    "no choices": (lambda: ArchKnob([[1], []]), "position 1 needs"),
    "a flat list": (lambda: ArchKnob([1, 2]), "list of positions"),  # type: ignore[list-item]
    "a string as position": (lambda: ArchKnob(["ab"]), "list of positions"),
    "one instance twice": (
        lambda: ArchKnob([[value := KnobValue(1), value]]),
        "position 0 has two choices of one meaning",
    ),
    "one node twice": (lambda: ArchKnob([[NodeRef(1), NodeRef(1)]]), "two choices"),
    "negative node reference": (lambda: ArchKnob([[NodeRef(-1)]]), "a node is in"),
    "value that is a list": (
        lambda: ArchKnob([[KnobValue([1])]]),  # type: ignore[arg-type]
        "not list",
    ),
    "too few nodes": (lambda: ArchKnob([[1], [2]], nodes=[0]), "for every position"),
    "no nodes": (lambda: ArchKnob([[1], [2]], nodes=[]), "for every position"),
    "negative node": (lambda: ArchKnob([[1]], nodes=[-1]), "a node is an integer"),
    "unknown policy": (lambda: PolicyKnob("FASTER"), "no policy is called 'FASTER'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_knob_is_refused(case: str) -> None:
    make, rule = REFUSED[case]
    with pytest.raises(ValueError, match=rule):
        make()


def test_quick_train_is_the_old_name_of_early_stop() -> None:
    assert PolicyKnob("QUICK_TRAIN") == PolicyKnob(Policy.EARLY_STOP)


def test_both_names_of_one_policy_are_refused() -> None:
    config = {"quick": PolicyKnob("QUICK_TRAIN"), "early": PolicyKnob("EARLY_STOP")}
    with pytest.raises(InvalidKnobConfig, match="which 'quick' does already") as raised:
        check_knob_config(config)
    assert raised.value.knob == "early"


@pytest.mark.parametrize("name", ["", "Upper", "1st", "with-dash", "a" * 64, "ä"])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidKnobConfig, match="a name matches"):
        check_knob_config({name: FixedKnob(1)})


def test_what_is_no_knob_is_refused() -> None:
    with pytest.raises(InvalidKnobConfig, match="'size': is no knob but int"):
        check_knob_config({"size": 3})  # type: ignore[dict-item]


def test_what_is_no_config_is_refused() -> None:
    with pytest.raises(InvalidKnobConfig, match="a dict, not list"):
        check_knob_config([FixedKnob(1)])  # type: ignore[arg-type]


def test_more_than_256_knobs_are_refused() -> None:
    with pytest.raises(InvalidKnobConfig, match="at most 256"):
        check_knob_config({f"k{number}": FixedKnob(1) for number in range(257)})


def test_a_shared_instance_has_one_token_and_equal_values_have_their_own() -> None:
    shared = KnobValue(3)
    config = {
        "first": ArchKnob([[shared, 3], [shared, NodeRef(0)]]),
        "second": ArchKnob([[KnobValue(3), shared]]),
    }
    tokens = choice_tokens(config)
    assert list(tokens.values()) == [0, 1, 2]
    assert tokens[shared] == 0


def test_a_model_receives_every_declared_knob_in_order() -> None:
    config: dict[str, Knob] = {
        "rate": FloatKnob(0.1, 1.0),
        "cell": ArchKnob([[5, 7], [NodeRef(2), NodeRef(4)]]),
        "units": IntegerKnob(1, 9),
        "quick": PolicyKnob("EARLY_STOP"),
        "small": PolicyKnob("DOWNSCALE"),
        "kind": CategoricalKnob(["a", "b"]),
        "fixed": FixedKnob(True),
    }
    knobs: dict[str, Scalar] = {"rate": 0.5, "units": 3, "kind": "b", "fixed": True}
    arguments = model_arguments(config, knobs, {"cell": [1, 1]}, frozenset({Policy.DOWNSCALE}))
    assert list(arguments) == list(config)
    assert arguments == {
        "rate": 0.5,
        "cell": [7, 4],
        "units": 3,
        "quick": False,
        "small": True,
        "kind": "b",
        "fixed": True,
    }


def test_a_knob_without_a_value_is_named() -> None:
    with pytest.raises(ValueError, match="knob 'units' has no value"):
        model_arguments({"units": IntegerKnob(1, 2)}, {}, {}, frozenset())


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        (FixedKnob(1), 1.0),
        (FixedKnob(1), True),
        (CategoricalKnob(["a"]), "b"),
        (CategoricalKnob([1, 0]), True),
        (IntegerKnob(1, 3), 4),
        (IntegerKnob(1, 3), 2.0),
        (IntegerKnob(0, 1), True),
        (FloatKnob(0.0, 1.0), 1),
        (FloatKnob(0.0, 1.0), math.nan),
        (FloatKnob(0.0, 1.0), 1.5),
    ],
)
def test_a_value_outside_its_domain_is_refused(
    knob: FixedKnob | CategoricalKnob | IntegerKnob | FloatKnob, value: float
) -> None:
    with pytest.raises(ValueError, match="is not in"):
        check_value(knob, value)


@pytest.mark.parametrize("choices", [[0], [0, 0, 0], [0, 2], [-1, 0]])
def test_choices_that_do_not_fit_are_refused(choices: list[int]) -> None:
    with pytest.raises(ValueError, match=r"choices are needed|has no choice"):
        arch_values(ArchKnob([[1, 2], [3, 4]]), choices)


@given(st.integers(), st.integers())
def test_an_integer_knob_takes_exactly_its_closed_interval(low: int, value: int) -> None:
    low = max(min(low, 2**62), -(2**62))
    knob = IntegerKnob(low, low + 5)
    is_inside = low <= value <= low + 5
    try:
        check_value(knob, value)
    except ValueError:
        assert not is_inside
    else:
        assert is_inside


def test_the_offered_policies_are_those_declared() -> None:
    config: dict[str, Knob] = {"a": PolicyKnob("SKIP_TRAIN"), "b": FixedKnob(1)}
    assert offered_policies(config) == {Policy.SKIP_TRAIN}
