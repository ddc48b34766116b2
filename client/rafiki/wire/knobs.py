"""Search spaces, and the values of knobs.

`KnobValue` instances that are shared in a knob config become tokens, numbered by first
occurrence, and tokens become shared instances again. "Raises" is left out below: the
readers raise `InvalidKnobConfig`, or `InvalidField` for values outside a knob config.
"""

from collections.abc import Mapping, Sequence

from rafiki.model.knobs import (
    INT64_MAX,
    INT64_MIN,
    MAX_KNOBS,
    MAX_POSITIONS,
    NAME,
    ArchKnob,
    CategoricalKnob,
    Choice,
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
    Scalar,
    check_knob_config,
    choice_tokens,
)
from rafiki.v1 import knobs_pb2
from rafiki.wire.enums import enum_from_proto, enum_to_proto
from rafiki.wire.fields import InvalidField, at, finite

MAX_CONFIG_BYTES = 1 << 20


def knob_config_to_proto(config: KnobConfig) -> knobs_pb2.KnobConfig:
    """Raises InvalidKnobConfig if the config breaks a rule of knobs.proto."""
    check_knob_config(config)
    tokens = choice_tokens(config)
    message = knobs_pb2.KnobConfig()
    for name, knob in config.items():
        try:
            message.knobs.add(name=name, spec=_knob_to_proto(knob, tokens))
        except ValueError as error:
            raise InvalidKnobConfig(name, str(error)) from error
    _check_size(message)
    return message


def knob_config_from_proto(message: knobs_pb2.KnobConfig) -> dict[str, Knob]:
    """The knobs by name, in declared order."""
    _check_size(message)
    if len(message.knobs) > MAX_KNOBS:
        raise InvalidKnobConfig("", f"at most {MAX_KNOBS} knobs, not {len(message.knobs)}")
    config: dict[str, Knob] = {}
    values: dict[int, KnobValue] = {}
    for knob in message.knobs:
        name = knob.name
        if not NAME.fullmatch(name):
            raise InvalidKnobConfig(name[:64], f"a name matches {NAME.pattern}")
        if name in config:
            raise InvalidKnobConfig(name, "is declared twice")
        try:
            config[name] = _knob_from_proto(knob.spec, values)
        except ValueError as error:
            raise InvalidKnobConfig(name, str(error)) from None
    check_knob_config(config)
    return config


def scalar_to_proto(value: Scalar) -> knobs_pb2.KnobValue:
    """Raises ValueError if `value` is no scalar, or an integer of more than 64 bits."""
    match value:
        case bool():
            return knobs_pb2.KnobValue(bool_value=value)
        case int():
            if not INT64_MIN <= value <= INT64_MAX:
                raise ValueError("an integer must fit 64 bits")
            return knobs_pb2.KnobValue(int_value=value)
        case float():
            return knobs_pb2.KnobValue(float_value=value)
        case str():
            return knobs_pb2.KnobValue(string_value=value)
    raise ValueError(f"a value is an int, float, bool or str, not {type(value).__name__}")


def scalar_from_proto(message: knobs_pb2.KnobValue, path: str = "") -> Scalar:
    """The value with the type it was declared with; a float is finite."""
    match message.WhichOneof("value"):
        case "int_value":
            return message.int_value
        case "float_value":
            return finite(message.float_value, path)
        case "bool_value":
            return message.bool_value
        case "string_value":
            return message.string_value
    raise InvalidField(path, "must hold a value")


def arch_value_to_proto(choices: Sequence[int]) -> knobs_pb2.ArchValue:
    """One realised arch knob: an index per position."""
    return knobs_pb2.ArchValue(choices=choices)


def arch_value_from_proto(message: knobs_pb2.ArchValue, path: str = "") -> tuple[int, ...]:
    """The index per position; whether the knob has those choices is for others to say."""
    choices = tuple(message.choices)
    if len(choices) > MAX_POSITIONS:
        raise InvalidField(at(path, "choices"), f"must have at most {MAX_POSITIONS} entries")
    if choices and min(choices) < 0:
        raise InvalidField(at(path, "choices"), "must hold no negative index")
    return choices


def _check_size(message: knobs_pb2.KnobConfig) -> None:
    if message.ByteSize() > MAX_CONFIG_BYTES:
        raise InvalidKnobConfig("", f"a knob config takes at most {MAX_CONFIG_BYTES} bytes")


def _knob_to_proto(knob: Knob, tokens: Mapping[KnobValue, int]) -> knobs_pb2.KnobSpec:
    match knob:
        case FixedKnob():
            return knobs_pb2.KnobSpec(
                fixed_knob=knobs_pb2.FixedKnob(value=scalar_to_proto(knob.value))
            )
        case CategoricalKnob():
            values = [scalar_to_proto(value) for value in knob.values]
            return knobs_pb2.KnobSpec(categorical_knob=knobs_pb2.CategoricalKnob(values=values))
        case IntegerKnob():
            return knobs_pb2.KnobSpec(
                integer_knob=knobs_pb2.IntegerKnob(
                    min=knob.min, max=knob.max, scale=_scale_to_proto(knob.is_exp)
                )
            )
        case FloatKnob():
            return knobs_pb2.KnobSpec(
                float_knob=knobs_pb2.FloatKnob(
                    min=knob.min, max=knob.max, scale=_scale_to_proto(knob.is_exp)
                )
            )
        case ArchKnob():
            return knobs_pb2.KnobSpec(arch_knob=_arch_knob_to_proto(knob, tokens))
        case PolicyKnob():
            return knobs_pb2.KnobSpec(
                policy_knob=knobs_pb2.PolicyKnob(policy=enum_to_proto(knob.policy))
            )


def _knob_from_proto(message: knobs_pb2.KnobSpec, values: dict[int, KnobValue]) -> Knob:
    match message.WhichOneof("spec"):
        case "fixed_knob":
            return FixedKnob(scalar_from_proto(message.fixed_knob.value, "value"))
        case "categorical_knob":
            return CategoricalKnob(
                [
                    scalar_from_proto(value, f"values[{number}]")
                    for number, value in enumerate(message.categorical_knob.values)
                ]
            )
        case "integer_knob":
            integers = message.integer_knob
            return IntegerKnob(integers.min, integers.max, _scale_from_proto(integers.scale))
        case "float_knob":
            floats = message.float_knob
            return FloatKnob(floats.min, floats.max, _scale_from_proto(floats.scale))
        case "arch_knob":
            return _arch_knob_from_proto(message.arch_knob, values)
        case "policy_knob":
            policy = enum_from_proto(Policy, message.policy_knob.policy)
            if policy is None:
                raise ValueError("a policy knob needs a policy")
            return PolicyKnob(policy)
    raise ValueError("a knob needs a spec of a kind known to this release")


def _scale_to_proto(is_exp: bool) -> knobs_pb2.Scale.ValueType:
    return knobs_pb2.SCALE_LOG if is_exp else knobs_pb2.SCALE_LINEAR


def _scale_from_proto(number: int) -> bool:
    if number not in knobs_pb2.Scale.values():
        raise ValueError(f"Scale has no value {number} in this release")
    return number == knobs_pb2.SCALE_LOG


def _arch_knob_to_proto(knob: ArchKnob, tokens: Mapping[KnobValue, int]) -> knobs_pb2.ArchKnob:
    message = knobs_pb2.ArchKnob()
    for choices, node, skip in zip(knob.items, knob.nodes, knob.skips, strict=True):
        position = message.positions.add(node=node, skip=skip)
        for choice in choices:
            if isinstance(choice, NodeRef):
                value = knobs_pb2.KnobValue(int_value=choice.node)
                position.choices.add(value=value, node_ref=choice.node)
            else:
                position.choices.add(value=scalar_to_proto(choice.value), token=tokens[choice])
    return message


def _arch_knob_from_proto(message: knobs_pb2.ArchKnob, values: dict[int, KnobValue]) -> ArchKnob:
    if len(message.positions) > MAX_POSITIONS:
        raise ValueError(f"an arch knob needs 1 to {MAX_POSITIONS} positions")
    items: list[list[Choice]] = []
    for number, position in enumerate(message.positions):
        path = f"positions[{number}].choices"
        items.append(
            [
                _choice_from_proto(choice, values, f"{path}[{index}]")
                for index, choice in enumerate(position.choices)
            ]
        )
    nodes = [p.node if p.HasField("node") else None for p in message.positions]
    return ArchKnob(items, nodes, [position.skip for position in message.positions])


def _choice_from_proto(
    message: knobs_pb2.ArchChoice, values: dict[int, KnobValue], path: str
) -> Choice:
    value = scalar_from_proto(message.value, at(path, "value"))
    match message.WhichOneof("meaning"):
        case "node_ref":
            if type(value) is not int or value != message.node_ref:
                raise InvalidField(at(path, "value"), "must be the number of the node")
            return NodeRef(message.node_ref)
        case "token":
            if message.token < 0:
                raise InvalidField(at(path, "token"), f"must be at least 0, not {message.token}")
            shared = values.setdefault(message.token, KnobValue(value))
            if type(shared.value) is not type(value) or shared.value != value:
                raise InvalidField(at(path, "token"), f"token {message.token} has two values")
            return shared
    raise InvalidField(at(path, "meaning"), "must be set: a token or a node_ref")
