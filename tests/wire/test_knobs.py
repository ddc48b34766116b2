import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.model.knobs import (
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
from rafiki.model.serial import config_to_json
from rafiki.v1 import knobs_pb2
from rafiki.wire.fields import InvalidField
from rafiki.wire.knobs import (
    arch_value_from_proto,
    arch_value_to_proto,
    knob_config_from_proto,
    knob_config_to_proto,
    scalar_from_proto,
    scalar_to_proto,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
SCALARS: st.SearchStrategy[Scalar] = st.one_of(INT64, FLOATS, st.booleans(), TEXTS)


@st.composite
def arch_knobs(draw: st.DrawFn) -> ArchKnob:
    pool = [KnobValue(draw(SCALARS)) for _ in range(3)]
    choices = st.sampled_from(pool) | st.integers(0, 5).map(NodeRef)
    position = st.lists(choices, min_size=1, max_size=4, unique=True)
    items = draw(st.lists(position, min_size=1, max_size=4))
    node = st.none() | st.integers(0, 999)
    may_skip = [len(x) == 2 and not any(isinstance(c, NodeRef) for c in x) for x in items]
    return ArchKnob(
        items,
        draw(st.lists(node, min_size=len(items), max_size=len(items))),
        [may and draw(st.booleans()) for may in may_skip],
    )


KNOBS: st.SearchStrategy[Knob] = st.one_of(
    st.builds(FixedKnob, SCALARS),
    *(
        st.builds(CategoricalKnob, st.lists(values, min_size=1, max_size=4, unique=True))
        for values in (INT64, FLOATS, TEXTS, st.booleans())
    ),
    st.tuples(INT64, INT64).map(lambda bounds: IntegerKnob(min(bounds), max(bounds))),
    st.tuples(FLOATS, FLOATS).map(lambda bounds: FloatKnob(min(bounds), max(bounds))),
    st.floats(1e-9, 1e9).map(lambda low: FloatKnob(low, low * 2, is_exp=True)),
    st.integers(1, 9).map(lambda low: IntegerKnob(low, low + 1, is_exp=True)),
    arch_knobs(),
)
CONFIGS = st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True), KNOBS, max_size=5)


@given(CONFIGS)
def test_a_config_survives_the_round_trip(config: dict[str, Knob]) -> None:
    read = knob_config_from_proto(knob_config_to_proto(config))
    assert list(read) == list(config)
    assert config_to_json(read) == config_to_json(config)


@pytest.mark.parametrize("policy", Policy)
def test_a_policy_knob_survives_the_round_trip(policy: Policy) -> None:
    config: dict[str, Knob] = {"switch": PolicyKnob(policy)}
    assert knob_config_from_proto(knob_config_to_proto(config)) == config


def test_a_skip_of_more_than_two_choices_is_refused() -> None:
    message = knob_config_to_proto({"a": ArchKnob([["x", "y", "z"]])})
    message.knobs[0].spec.arch_knob.positions[0].skip = True
    with pytest.raises(InvalidKnobConfig, match="position 0 is a skip"):
        knob_config_from_proto(message)


def test_a_shared_value_is_one_instance_again_across_knobs() -> None:
    shared = KnobValue("conv")
    config = {"a": ArchKnob([[shared, "conv"], [shared]]), "b": ArchKnob([[shared]])}
    read = knob_config_from_proto(knob_config_to_proto(config))
    first, second = read["a"], read["b"]
    assert isinstance(first, ArchKnob) and isinstance(second, ArchKnob)
    assert first.items[0][0] is first.items[1][0] is second.items[0][0]
    assert first.items[0][1] is not first.items[0][0]


@given(SCALARS)
def test_a_scalar_keeps_its_value_and_type(value: Scalar) -> None:
    read = scalar_from_proto(scalar_to_proto(value))
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, None, [1]])
def test_what_is_no_scalar_is_not_sent(value: Scalar) -> None:
    with pytest.raises(ValueError):
        scalar_to_proto(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(InvalidField, match=r"^knobs: must be finite"):
        scalar_from_proto(knobs_pb2.KnobValue(float_value=value), "knobs")


def test_choices_survive_the_round_trip() -> None:
    assert arch_value_from_proto(arch_value_to_proto([0, 2, 1])) == (0, 2, 1)


@pytest.mark.parametrize("choices", [[-1], [0] * 1001])
def test_choices_that_no_knob_has_are_refused(choices: list[int]) -> None:
    with pytest.raises(InvalidField, match=r"^a.choices: "):
        arch_value_from_proto(knobs_pb2.ArchValue(choices=choices), "a")


def spec(**fields: object) -> knobs_pb2.KnobConfig:
    """A config of one knob, `k`."""
    message = knobs_pb2.KnobConfig()
    message.knobs.add(name="k", spec=knobs_pb2.KnobSpec(**fields))  # type: ignore[arg-type]
    return message


def arch(*choices: knobs_pb2.ArchChoice) -> knobs_pb2.KnobConfig:
    """A config of one knob, `k`, with one position."""
    position = knobs_pb2.ArchPosition(choices=choices)
    return spec(arch_knob=knobs_pb2.ArchKnob(positions=[position]))


ONE, TWO = knobs_pb2.KnobValue(int_value=1), knobs_pb2.KnobValue(int_value=2)


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (spec(), "needs a spec"),
        (spec(fixed_knob=knobs_pb2.FixedKnob()), "value: must hold a value"),
        (spec(categorical_knob=knobs_pb2.CategoricalKnob()), "needs 1 to 1000 values"),
        (spec(categorical_knob=knobs_pb2.CategoricalKnob(values=[ONE, ONE])), "distinct"),
        (
            spec(categorical_knob=knobs_pb2.CategoricalKnob(values=[knobs_pb2.KnobValue()])),
            r"values\[0\]: must hold a value",
        ),
        (spec(integer_knob=knobs_pb2.IntegerKnob(min=2, max=1)), "min must not exceed max"),
        (
            spec(integer_knob=knobs_pb2.IntegerKnob(max=1, scale=knobs_pb2.SCALE_LOG)),
            "min must be above 0",
        ),
        (
            spec(float_knob=knobs_pb2.FloatKnob(scale=9)),  # type: ignore[arg-type]
            "Scale has no value 9",
        ),
        (spec(float_knob=knobs_pb2.FloatKnob(max=float("inf"))), "must be finite"),
        (spec(policy_knob=knobs_pb2.PolicyKnob()), "needs a policy"),
        (
            spec(policy_knob=knobs_pb2.PolicyKnob(policy=77)),  # type: ignore[arg-type]
            "Policy has no value 77",
        ),
        (spec(arch_knob=knobs_pb2.ArchKnob()), "needs 1 to 1000 positions"),
        (arch(), "needs 1 to 1000 choices"),
        (
            arch(knobs_pb2.ArchChoice(value=ONE)),
            r"positions\[0\].choices\[0\].meaning: ",
        ),
        (arch(knobs_pb2.ArchChoice(token=0)), r"value: must hold a value"),
        (arch(knobs_pb2.ArchChoice(value=ONE, token=-1)), "token: must be at least 0"),
        (arch(*[knobs_pb2.ArchChoice(value=ONE, token=3)] * 2), "two choices of one meaning"),
        (
            arch(
                knobs_pb2.ArchChoice(value=ONE, token=3), knobs_pb2.ArchChoice(value=TWO, token=3)
            ),
            "token 3 has two values",
        ),
        (arch(knobs_pb2.ArchChoice(value=ONE, node_ref=2)), "must be the number of the node"),
        (
            arch(knobs_pb2.ArchChoice(value=knobs_pb2.KnobValue(int_value=-1), node_ref=-1)),
            "a node is in",
        ),
    ],
)
def test_a_knob_that_breaks_a_rule_is_refused_by_name(
    message: knobs_pb2.KnobConfig, rule: str
) -> None:
    with pytest.raises(InvalidKnobConfig, match=rule) as caught:
        knob_config_from_proto(message)
    assert caught.value.knob == "k"


@pytest.mark.parametrize("name", ["", "A", "1a", "a-b", "a" * 64, "é"])
def test_a_malformed_name_is_refused(name: str) -> None:
    message = spec(fixed_knob=knobs_pb2.FixedKnob(value=ONE))
    message.knobs[0].name = name
    with pytest.raises(InvalidKnobConfig, match="a name matches"):
        knob_config_from_proto(message)


def test_a_name_declared_twice_is_refused() -> None:
    message = spec(fixed_knob=knobs_pb2.FixedKnob(value=ONE))
    message.knobs.add().CopyFrom(message.knobs[0])
    with pytest.raises(InvalidKnobConfig, match="'k': is declared twice"):
        knob_config_from_proto(message)


def test_a_policy_declared_twice_is_refused() -> None:
    message = spec(policy_knob=knobs_pb2.PolicyKnob(policy=knobs_pb2.POLICY_DOWNSCALE))
    message.knobs.add().CopyFrom(message.knobs[0])
    message.knobs[1].name = "l"
    with pytest.raises(InvalidKnobConfig, match="declares DOWNSCALE"):
        knob_config_from_proto(message)


def test_too_many_knobs_are_refused() -> None:
    message = knobs_pb2.KnobConfig(knobs=[knobs_pb2.Knob()] * 257)
    with pytest.raises(InvalidKnobConfig, match="at most 256 knobs, not 257"):
        knob_config_from_proto(message)


def test_a_config_of_more_than_a_mebibyte_is_refused_both_ways() -> None:
    value = "x" * (1 << 20)
    with pytest.raises(InvalidKnobConfig, match="at most 1048576 bytes"):
        knob_config_to_proto({"k": FixedKnob(value)})
    message = spec(fixed_knob=knobs_pb2.FixedKnob(value=knobs_pb2.KnobValue(string_value=value)))
    with pytest.raises(InvalidKnobConfig, match="at most 1048576 bytes"):
        knob_config_from_proto(message)
