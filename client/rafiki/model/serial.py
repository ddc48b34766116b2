"""Knob configs as JSON, and their digest.

The form is explicit about types, so that any JSON parser keeps them: an integer is
`{"int": 3}`, a float `{"float": 0.5}`. A choice of an arch knob carries the token of its
`KnobValue` instance: choices of one token become one shared instance again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from rafiki.model.knobs import (
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
    PolicyKnob,
    Scalar,
    check_knob_config,
    choice_tokens,
)

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None

T = TypeVar("T")

_TYPES: dict[str, type[Scalar]] = {"int": int, "float": float, "bool": bool, "str": str}
_TAGS: dict[type, str] = {type_: tag for tag, type_ in _TYPES.items()}


def config_to_json(config: KnobConfig) -> dict[str, Json]:
    """A knob config as plain values for `json.dumps`, knobs in declared order.

    Raises:
        InvalidKnobConfig: The config breaks a rule.
    """
    check_knob_config(config)
    tokens = choice_tokens(config)
    return {
        "knobs": [{"name": name, **_knob_to_json(knob, tokens)} for name, knob in config.items()]
    }


def config_from_json(data: object) -> dict[str, Knob]:
    """The knob config that `config_to_json` gave `data` for.

    Raises:
        InvalidKnobConfig: `data` has another form, or the config breaks a rule.
    """
    fields = _fields(data, "", {"knobs"})
    config: dict[str, Knob] = {}
    values: dict[int, KnobValue] = {}
    for number, item in enumerate(_items(fields["knobs"], "")):
        if not isinstance(item, Mapping) or not isinstance(name := item.get("name"), str):
            raise InvalidKnobConfig("", f"knob number {number} has no name")
        if name in config:
            raise InvalidKnobConfig(name, "is declared twice")
        rest = {key: value for key, value in item.items() if key != "name"}
        if len(rest) != 1 or (kind := next(iter(rest))) not in _READERS:
            raise InvalidKnobConfig(name, f"needs exactly one of {', '.join(_READERS)}")
        try:
            config[name] = _READERS[kind](rest[kind], name, values)
        except InvalidKnobConfig:
            raise
        except ValueError as error:
            raise InvalidKnobConfig(name, str(error)) from error
    check_knob_config(config)
    return config


def config_digest(config: KnobConfig) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits.

    Configs of equal meaning have equal digests: tokens are numbered by first occurrence.
    """
    text = json.dumps(config_to_json(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _knob_to_json(knob: Knob, tokens: Mapping[KnobValue, int]) -> dict[str, Json]:
    match knob:
        case FixedKnob():
            return {"fixed": _scalar_to_json(knob.value)}
        case CategoricalKnob():
            return {"categorical": [_scalar_to_json(value) for value in knob.values]}
        case IntegerKnob():
            return {"integer": {"min": knob.min, "max": knob.max, "is_exp": knob.is_exp}}
        case FloatKnob():
            return {"float": {"min": knob.min, "max": knob.max, "is_exp": knob.is_exp}}
        case ArchKnob():
            positions = zip(knob.items, knob.nodes, knob.skips, strict=True)
            return {"arch": [_position_to_json(*position, tokens) for position in positions]}
        case PolicyKnob():
            return {"policy": knob.policy.value}


def _position_to_json(
    choices: Sequence[Choice], node: int | None, skip: bool, tokens: Mapping[KnobValue, int]
) -> dict[str, Json]:
    written: dict[str, Json] = {
        "node": node,
        "choices": [_choice_to_json(choice, tokens) for choice in choices],
    }
    # Left out where it is not: digests of configs without skips are as they always were.
    return written | {"skip": True} if skip else written


def _choice_to_json(choice: Choice, tokens: Mapping[KnobValue, int]) -> dict[str, Json]:
    if isinstance(choice, NodeRef):
        return {"node_ref": choice.node}
    return {"token": tokens[choice], "value": _scalar_to_json(choice.value)}


def _scalar_to_json(value: Scalar) -> dict[str, Json]:
    return {_TAGS[type(value)]: value}


def _read_fixed(data: object, name: str, _: dict[int, KnobValue]) -> Knob:
    return FixedKnob(_scalar(data, name))


def _read_categorical(data: object, name: str, _: dict[int, KnobValue]) -> Knob:
    return CategoricalKnob([_scalar(item, name) for item in _items(data, name)])


def _read_integer(data: object, name: str, _: dict[int, KnobValue]) -> Knob:
    fields = _fields(data, name, {"min", "max", "is_exp"})
    low, high = (_of_type(fields[key], int, name, key) for key in ("min", "max"))
    return IntegerKnob(low, high, _of_type(fields["is_exp"], bool, name, "is_exp"))


def _read_float(data: object, name: str, _: dict[int, KnobValue]) -> Knob:
    fields = _fields(data, name, {"min", "max", "is_exp"})
    low, high = (_float(fields[key], name, key) for key in ("min", "max"))
    return FloatKnob(low, high, _of_type(fields["is_exp"], bool, name, "is_exp"))


def _read_arch(data: object, name: str, values: dict[int, KnobValue]) -> Knob:
    items: list[list[Choice]] = []
    nodes: list[int | None] = []
    skips: list[bool] = []
    for number, position in enumerate(_items(data, name)):
        has_skip = isinstance(position, Mapping) and "skip" in position
        fields = _fields(position, name, {"node", "choices"} | ({"skip"} if has_skip else set()))
        skips.append(_of_type(fields.get("skip", False), bool, name, f"skip of {number}"))
        node = fields["node"]
        nodes.append(None if node is None else _of_type(node, int, name, f"node of {number}"))
        items.append([_choice(item, name, values) for item in _items(fields["choices"], name)])
    return ArchKnob(items, nodes, skips)


def _read_policy(data: object, name: str, _: dict[int, KnobValue]) -> Knob:
    return PolicyKnob(_of_type(data, str, name, "policy"))


_READERS: dict[str, Callable[[object, str, dict[int, KnobValue]], Knob]] = {
    "fixed": _read_fixed,
    "categorical": _read_categorical,
    "integer": _read_integer,
    "float": _read_float,
    "arch": _read_arch,
    "policy": _read_policy,
}


def _choice(data: object, name: str, values: dict[int, KnobValue]) -> Choice:
    if isinstance(data, Mapping) and "node_ref" in data:
        fields = _fields(data, name, {"node_ref"})
        return NodeRef(_of_type(fields["node_ref"], int, name, "node_ref"))
    fields = _fields(data, name, {"token", "value"})
    token = _of_type(fields["token"], int, name, "token")
    if token < 0:
        raise InvalidKnobConfig(name, f"a token is at least 0, not {token}")
    value = _scalar(fields["value"], name)
    shared = values.setdefault(token, KnobValue(value))
    if type(shared.value) is not type(value) or shared.value != value:
        raise InvalidKnobConfig(
            name, f"token {token} stands for {shared.value!r} and for {value!r}"
        )
    return shared


def _scalar(data: object, name: str) -> Scalar:
    if isinstance(data, Mapping) and len(data) == 1:
        tag, value = next(iter(data.items()))
        if tag == "float":
            return _float(value, name, "a value of type float")
        if tag in _TYPES:
            return _of_type(value, _TYPES[tag], name, f"a value of type {tag}")
    raise InvalidKnobConfig(name, f"a value has exactly one of {', '.join(_TYPES)}")


def _float(data: object, name: str, what: str) -> float:
    # Other writers of JSON print 1.0 as 1.
    if type(data) is int and abs(data) <= 2**63:
        return float(data)
    return _of_type(data, float, name, what)


def _fields(data: object, name: str, keys: set[str]) -> Mapping[str, object]:
    if not isinstance(data, Mapping) or set(data) != keys:
        raise InvalidKnobConfig(name, f"an object with {', '.join(sorted(keys))} is needed")
    return data


def _items(data: object, name: str) -> Sequence[object]:
    if not isinstance(data, list | tuple):
        raise InvalidKnobConfig(name, f"a list is needed, not {type(data).__name__}")
    return data


def _of_type(data: object, type_: type[T], name: str, what: str) -> T:
    if type(data) is not type_:
        raise InvalidKnobConfig(name, f"{what} must be {type_.__name__}, not {type(data).__name__}")
    return data
