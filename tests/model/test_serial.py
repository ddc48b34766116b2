"""Knob configs survive JSON, with what their shared instances mean."""

import json
import string

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
    KnobConfig,
    KnobValue,
    NodeRef,
    Policy,
    PolicyKnob,
)
from rafiki.model.knobs import Choice, choice_tokens
from rafiki.model.serial import config_digest, config_from_json, config_to_json

integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = st.one_of(integers, floats, st.booleans(), texts)


@st.composite
def arch_knobs(draw: st.DrawFn, pool: list[KnobValue]) -> ArchKnob:
    """Positions that draw on one pool of instances, new instances and nodes."""
    choices = st.one_of(
        st.sampled_from(pool), st.builds(NodeRef, st.integers(0, 5)), st.builds(KnobValue, scalars)
    )
    items = draw(
        st.lists(st.lists(choices, min_size=1, max_size=4, unique=True), min_size=1, max_size=5)
    )
    nodes = st.one_of(st.none(), st.integers(0, 999))
    may_skip = [len(x) == 2 and not any(isinstance(c, NodeRef) for c in x) for x in items]
    return ArchKnob(
        items,
        draw(st.lists(nodes, min_size=len(items), max_size=len(items))),
        [may and draw(st.booleans()) for may in may_skip],
    )


@st.composite
def knob_configs(draw: st.DrawFn) -> dict[str, Knob]:
    pool = [KnobValue(value) for value in draw(st.lists(scalars, min_size=1, max_size=4))]
    knob = st.one_of(
        st.builds(FixedKnob, scalars),
        st.lists(integers, min_size=1, max_size=4, unique=True).map(CategoricalKnob),
        st.lists(texts, min_size=1, max_size=4, unique=True).map(CategoricalKnob),
        st.tuples(integers, integers).map(lambda pair: IntegerKnob(min(pair), max(pair))),
        st.tuples(floats, floats).map(lambda pair: FloatKnob(min(pair), max(pair))),
        st.integers(1, 2**40).map(lambda low: FloatKnob(low, low * 2, is_exp=True)),
        arch_knobs(pool),
    )
    names = st.text(string.ascii_lowercase, min_size=1, max_size=5)
    config = draw(st.dictionaries(names, knob, max_size=6))
    policies = draw(st.sets(st.sampled_from(Policy)))
    return config | {f"policy_{policy.lower()}": PolicyKnob(policy) for policy in sorted(policies)}


def meaning(config: KnobConfig) -> list[object]:
    """All there is to a config: values with types, and tokens for instances."""
    tokens = choice_tokens(config)

    def of_choice(choice: Choice) -> object:
        if isinstance(choice, NodeRef):
            return choice
        return (tokens[choice], type(choice.value), repr(choice.value))

    return [
        (name, [[of_choice(c) for c in items] for items in knob.items], knob.nodes, knob.skips)
        if isinstance(knob, ArchKnob)
        else (name, repr(knob))
        for name, knob in config.items()
    ]


@given(knob_configs())
def test_a_config_survives_json_with_its_order_types_and_shared_instances(
    config: dict[str, Knob],
) -> None:
    text = json.dumps(config_to_json(config), allow_nan=False)
    assert meaning(config_from_json(json.loads(text))) == meaning(config)


@given(knob_configs())
def test_the_digest_survives_json(config: dict[str, Knob]) -> None:
    again = config_from_json(json.loads(json.dumps(config_to_json(config))))
    assert config_digest(again) == config_digest(config)


def test_a_shared_instance_is_one_instance_again_also_across_knobs() -> None:
    shared = KnobValue("conv")
    config = {"a": ArchKnob([[shared, "conv"]]), "b": ArchKnob([["conv", shared]])}
    again = config_from_json(config_to_json(config))
    first, second = again["a"], again["b"]
    assert isinstance(first, ArchKnob)
    assert isinstance(second, ArchKnob)
    assert first.items[0][0] is second.items[0][1]
    assert first.items[0][1] is not second.items[0][0]


def test_the_digest_tells_sharing_from_equal_values() -> None:
    shared = KnobValue(1)
    assert config_digest({"a": ArchKnob([[shared], [shared]])}) != config_digest(
        {"a": ArchKnob([[1], [1]])}
    )


def test_the_digest_depends_on_the_order_and_the_types() -> None:
    digests = {
        config_digest({"a": FixedKnob(1), "b": FixedKnob(2)}),
        config_digest({"b": FixedKnob(2), "a": FixedKnob(1)}),
        config_digest({"a": FixedKnob(1.0), "b": FixedKnob(2)}),
        config_digest({"a": FixedKnob(True), "b": FixedKnob(2)}),
    }
    assert len(digests) == 4


def test_the_digest_is_the_same_in_every_release() -> None:
    config: dict[str, Knob] = {
        "rate": FloatKnob(1e-3, 1e-1, is_exp=True),
        "op": ArchKnob([["a", NodeRef(0)]]),
    }
    assert config_digest(config) == (
        "2bc9810de1deae8f461a6def0ddf368767673b61140552268b17a90e4bbfb14a"
    )


def test_a_config_without_skips_has_the_digest_it_had_before_there_were_any() -> None:
    items: list[list[str | NodeRef]] = [["a", NodeRef(0)], ["no", "yes"]]
    without = [{"op": ArchKnob(items, skips=skips)} for skips in (None, [False, False])]
    assert "skip" not in json.dumps(config_to_json(without[1]))
    assert config_digest(without[0]) == config_digest(without[1])
    assert config_digest({"op": ArchKnob(items, skips=[False, True])}) != config_digest(without[0])


def test_token_numbers_do_not_matter() -> None:
    def with_tokens(first: int, second: int) -> dict[str, Knob]:
        choices = [{"token": t, "value": {"int": 1}} for t in (first, second)]
        arch = [{"node": None, "choices": choices}]
        return config_from_json({"knobs": [{"name": "a", "arch": arch}]})

    assert config_digest(with_tokens(0, 1)) == config_digest(with_tokens(70, 2))


def test_a_float_without_a_fraction_may_come_as_an_integer() -> None:
    config = config_from_json({"knobs": [{"name": "a", "fixed": {"float": 1}}]})
    assert config == {"a": FixedKnob(1.0)}


def knobs(*items: object) -> object:
    return {"knobs": list(items)}


def arch(*choices: object) -> object:
    return knobs({"name": "a", "arch": [{"node": None, "choices": list(choices)}]})


MALFORMED = {
    "nothing": None,
    "a list": [],
    "another key": {"knobs": [], "extra": 1},
    "knobs as object": {"knobs": {}},
    "no name": knobs({"fixed": {"int": 1}}),
    "bad name": knobs({"name": "A", "fixed": {"int": 1}}),
    "one name twice": knobs(*[{"name": "a", "fixed": {"int": 1}}] * 2),
    "no kind": knobs({"name": "a"}),
    "unknown kind": knobs({"name": "a", "complex": 1}),
    "two kinds": knobs({"name": "a", "fixed": {"int": 1}, "policy": "EARLY_STOP"}),
    "untyped value": knobs({"name": "a", "fixed": 1}),
    "two types": knobs({"name": "a", "fixed": {"int": 1, "float": 1.0}}),
    "bool as int": knobs({"name": "a", "fixed": {"int": True}}),
    "text as float": knobs({"name": "a", "fixed": {"float": "1"}}),
    "NaN": knobs({"name": "a", "fixed": {"float": float("nan")}}),
    "categories as text": knobs({"name": "a", "categorical": "ab"}),
    "no categories": knobs({"name": "a", "categorical": []}),
    "float bound": knobs({"name": "a", "integer": {"min": 1.0, "max": 2, "is_exp": False}}),
    "no scale": knobs({"name": "a", "integer": {"min": 1, "max": 2}}),
    "huge bound": knobs({"name": "a", "float": {"min": 0, "max": 10**400, "is_exp": False}}),
    "empty interval": knobs({"name": "a", "float": {"min": 1.0, "max": 0.0, "is_exp": False}}),
    "unknown policy": knobs({"name": "a", "policy": "FASTER"}),
    "policy as number": knobs({"name": "a", "policy": 1}),
    "policy twice": knobs(
        {"name": "a", "policy": "EARLY_STOP"}, {"name": "b", "policy": "QUICK_TRAIN"}
    ),
    "no choices": arch(),
    "choice without token": arch({"value": {"int": 1}}),
    "negative token": arch({"token": -1, "value": {"int": 1}}),
    "token as text": arch({"token": "0", "value": {"int": 1}}),
    "one token for two values": arch(
        {"token": 0, "value": {"int": 1}}, {"token": 0, "value": {"int": 2}}
    ),
    "one token for two types": arch(
        {"token": 0, "value": {"int": 1}}, {"token": 0, "value": {"bool": True}}
    ),
    "one meaning twice": arch({"node_ref": 1}, {"node_ref": 1}),
    "node and token": arch({"node_ref": 1, "token": 0}),
    "node as bool": arch({"node_ref": True}),
    "skip as number": knobs(
        {
            "name": "a",
            "arch": [
                {
                    "node": None,
                    "skip": 1,
                    "choices": [{"token": t, "value": {"int": t}} for t in (0, 1)],
                }
            ],
        }
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_json_is_refused(case: str) -> None:
    with pytest.raises(InvalidKnobConfig):
        config_from_json(MALFORMED[case])


def test_an_invalid_config_is_not_written() -> None:
    with pytest.raises(InvalidKnobConfig, match="which 'a' does already"):
        config_to_json({"a": PolicyKnob("EARLY_STOP"), "b": PolicyKnob("EARLY_STOP")})
