"""Knobs: how a model template declares its search space.

A knob config is a dict of knobs by name, in declared order, which is the order a
controller walks them in. A trial realises every knob: a scalar for fixed, categorical,
integer and float knobs, one choice per position for arch knobs, on or off for policies.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Scalar: TypeAlias = int | float | bool | str

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
MAX_KNOBS = 256
MAX_VALUES = 1000
MAX_POSITIONS = 1000
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class InvalidKnobConfig(ValueError):
    """A knob breaks a rule. `knob` is its name ("" for the config as a whole)."""

    def __init__(self, knob: str, rule: str) -> None:
        self.knob = knob
        self.rule = rule
        super().__init__(f"knob {knob!r}: {rule}" if knob else rule)


class Policy(StrEnum):
    """A mode that a template can be switched into, per trial."""

    SHARE_PARAMS = "SHARE_PARAMS"
    EARLY_STOP = "EARLY_STOP"
    SKIP_TRAIN = "SKIP_TRAIN"
    QUICK_EVAL = "QUICK_EVAL"
    DOWNSCALE = "DOWNSCALE"


@dataclass(frozen=True, slots=True)
class NodeRef:
    """The output of a node, as a choice of an arch knob; a model receives the number."""

    node: int


class KnobValue:
    """A choice of an arch knob, with identity.

    The same instance means the same thing wherever it occurs in a knob config: a
    controller gives it one embedding. Equal values in different instances are different.
    """

    __slots__ = ("value",)

    def __init__(self, value: Scalar) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"KnobValue({self.value!r})"


Choice: TypeAlias = KnobValue | NodeRef


@dataclass(frozen=True, slots=True)
class FixedKnob:
    """A constant, passed to the model like any other knob."""

    value: Scalar

    def __post_init__(self) -> None:
        _check_scalar(self.value)


@dataclass(frozen=True, slots=True)
class CategoricalKnob:
    """One of 1 to 1000 distinct values, all of one type."""

    values: tuple[Scalar, ...]

    def __init__(self, values: Sequence[Scalar]) -> None:
        if not _is_list(values):
            raise ValueError(f"a categorical knob takes a list of values, not {values!r}")
        object.__setattr__(self, "values", tuple(values))
        if not 1 <= len(self.values) <= MAX_VALUES:
            raise ValueError(f"a categorical knob needs 1 to {MAX_VALUES} values")
        for value in self.values:
            _check_scalar(value)
        if len({type(value) for value in self.values}) > 1:
            raise ValueError("the values of a categorical knob must be of one type")
        if len(set(self.values)) < len(self.values):
            raise ValueError("the values of a categorical knob must be distinct")


@dataclass(frozen=True, slots=True)
class IntegerKnob:
    """An integer in the closed interval [min, max]; uniform in the logarithm if `is_exp`."""

    min: int
    max: int
    is_exp: bool = False

    def __post_init__(self) -> None:
        for bound in (self.min, self.max):
            if type(bound) is not int:
                raise ValueError("the bounds of an integer knob must be integers")
            _check_scalar(bound)
        _check_interval(self.min, self.max, self.is_exp)


@dataclass(frozen=True, slots=True)
class FloatKnob:
    """A finite float in the closed interval [min, max]; log scale if `is_exp`."""

    min: float
    max: float
    is_exp: bool = False

    def __post_init__(self) -> None:
        for name in ("min", "max"):
            bound = getattr(self, name)
            if isinstance(bound, bool) or not isinstance(bound, int | float):
                raise ValueError("the bounds of a float knob must be numbers")
            if type(bound) is int:
                _check_scalar(bound)
            object.__setattr__(self, name, float(bound))
        if not (math.isfinite(self.min) and math.isfinite(self.max)):
            raise ValueError("the bounds of a float knob must be finite")
        _check_interval(self.min, self.max, self.is_exp)


@dataclass(frozen=True, slots=True, eq=False)
class ArchKnob:
    """An architecture: a fixed-length list of positions, each a list of choices.

    Args:
        items: Per position, 1 to 1000 choices with distinct meanings: `KnobValue`
            instances (shared ones mean the same), `NodeRef`s, or plain scalars, which
            stand for a `KnobValue` of their own each.
        nodes: Per position, the node of the network it helps to build, or None. With
            nodes, a controller attends over their states when it chooses a `NodeRef`.
            Left out: no position builds a node.
        skips: Per position, whether it decides on a skip connection: the second of its two
            choices takes it. A controller can be given a share of them to take; those that
            follow one another are of one layer. Left out: none does.
    """

    items: tuple[tuple[Choice, ...], ...]
    nodes: tuple[int | None, ...]
    skips: tuple[bool, ...]

    def __init__(
        self,
        items: Sequence[Sequence[Scalar | Choice]],
        nodes: Sequence[int | None] | None = None,
        skips: Sequence[bool] | None = None,
    ) -> None:
        if not _is_list(items) or not all(map(_is_list, items)):
            raise ValueError("an arch knob takes a list of positions, each a list of choices")
        choices = tuple(
            tuple(c if isinstance(c, KnobValue | NodeRef) else KnobValue(c) for c in position)
            for position in items
        )
        object.__setattr__(self, "items", choices)
        object.__setattr__(
            self, "nodes", tuple(nodes) if nodes is not None else (None,) * len(items)
        )
        object.__setattr__(
            self, "skips", tuple(skips) if skips is not None else (False,) * len(items)
        )
        if not 1 <= len(self.items) <= MAX_POSITIONS:
            raise ValueError(f"an arch knob needs 1 to {MAX_POSITIONS} positions")
        if len(self.nodes) != len(self.items):
            raise ValueError("an arch knob needs a node (or None) for every position")
        for node in self.nodes:
            if node is not None and (type(node) is not int or not 0 <= node < MAX_POSITIONS):
                raise ValueError(f"a node is an integer in [0, {MAX_POSITIONS})")
        if len(self.skips) != len(self.items):
            raise ValueError("an arch knob needs for every position whether it is a skip")
        for number, (position, skip) in enumerate(zip(self.items, self.skips, strict=True)):
            _check_position(number, position)
            _check_skip(number, position, skip)


@dataclass(frozen=True, slots=True)
class PolicyKnob:
    """A switch for one policy; the model receives True where the advisor turned it on."""

    policy: Policy

    def __init__(self, policy: Policy | str) -> None:
        # QUICK_TRAIN is the old name.
        name = "EARLY_STOP" if policy == "QUICK_TRAIN" else policy
        try:
            object.__setattr__(self, "policy", Policy(name))
        except ValueError:
            known = ", ".join(Policy)
            raise ValueError(f"no policy is called {policy!r}; there are {known}") from None


Knob: TypeAlias = FixedKnob | CategoricalKnob | IntegerKnob | FloatKnob | ArchKnob | PolicyKnob
KnobConfig: TypeAlias = Mapping[str, Knob]


def check_knob_config(config: KnobConfig) -> None:
    """Checks the rules that no single knob can.

    Raises:
        InvalidKnobConfig: A name is malformed, a value is no knob, there are too many
            knobs, or one policy is declared twice.
    """
    if not isinstance(config, Mapping):
        raise InvalidKnobConfig("", f"a knob config is a dict, not {type(config).__name__}")
    if len(config) > MAX_KNOBS:
        raise InvalidKnobConfig("", f"at most {MAX_KNOBS} knobs, not {len(config)}")
    policies: dict[Policy, str] = {}
    for name, knob in config.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InvalidKnobConfig(str(name), f"a name matches {NAME.pattern}")
        if not isinstance(knob, Knob):
            raise InvalidKnobConfig(name, f"is no knob but {type(knob).__name__}")
        if isinstance(knob, PolicyKnob):
            if knob.policy in policies:
                raise InvalidKnobConfig(
                    name, f"declares {knob.policy}, which {policies[knob.policy]!r} does already"
                )
            policies[knob.policy] = name


def offered_policies(config: KnobConfig) -> frozenset[Policy]:
    """The policies that a config declares."""
    return frozenset(knob.policy for knob in config.values() if isinstance(knob, PolicyKnob))


def arch_knobs(config: KnobConfig) -> dict[str, ArchKnob]:
    """The arch knobs of a config, in declared order."""
    return {name: knob for name, knob in config.items() if isinstance(knob, ArchKnob)}


def choice_tokens(config: KnobConfig) -> dict[KnobValue, int]:
    """A token for every `KnobValue` instance of a config, from 0 in order of occurrence."""
    tokens: dict[KnobValue, int] = {}
    for choice in _choices(config):
        if isinstance(choice, KnobValue):
            tokens.setdefault(choice, len(tokens))
    return tokens


def arch_values(knob: ArchKnob, choices: Sequence[int]) -> list[Scalar]:
    """What a model receives for one index per position: the values chosen.

    Raises:
        ValueError: There are too few or too many choices, or one is out of range.
    """
    if len(choices) != len(knob.items):
        raise ValueError(f"{len(knob.items)} choices are needed, not {len(choices)}")
    values: list[Scalar] = []
    for number, (position, index) in enumerate(zip(knob.items, choices, strict=True)):
        if not 0 <= index < len(position):
            raise ValueError(f"position {number} has no choice {index}")
        choice = position[index]
        values.append(choice.node if isinstance(choice, NodeRef) else choice.value)
    return values


def model_arguments(
    config: KnobConfig,
    knobs: Mapping[str, Scalar],
    archs: Mapping[str, Sequence[int]],
    policies: frozenset[Policy],
) -> dict[str, object]:
    """The keyword arguments to construct a template with: every declared knob.

    Args:
        config: The knob config of the template.
        knobs: The value of every fixed, categorical, integer and float knob.
        archs: One index per position for every arch knob.
        policies: The policies that are on.

    Raises:
        ValueError: A knob has no value, or one it may not have; the message names it.
    """
    arguments: dict[str, object] = {}
    for name, knob in config.items():
        try:
            match knob:
                case PolicyKnob():
                    arguments[name] = knob.policy in policies
                case ArchKnob():
                    arguments[name] = arch_values(knob, archs[name])
                case _:
                    check_value(knob, knobs[name])
                    arguments[name] = knobs[name]
        except KeyError:
            raise ValueError(f"knob {name!r} has no value") from None
        except ValueError as error:
            raise ValueError(f"knob {name!r}: {error}") from error
    return arguments


def check_value(knob: FixedKnob | CategoricalKnob | IntegerKnob | FloatKnob, value: Scalar) -> None:
    """Raises ValueError unless `value` lies in the domain of `knob`, type included."""
    match knob:
        case FixedKnob():
            allowed = type(value) is type(knob.value) and value == knob.value
        case CategoricalKnob():
            allowed = type(value) is type(knob.values[0]) and value in knob.values
        case IntegerKnob():
            allowed = type(value) is int and knob.min <= value <= knob.max
        case FloatKnob():
            allowed = type(value) is float and knob.min <= value <= knob.max
    if not allowed:
        raise ValueError(f"{value!r} is not in {knob}")


def _choices(config: KnobConfig) -> Iterator[Choice]:
    for knob in config.values():
        if isinstance(knob, ArchKnob):
            for position in knob.items:
                yield from position


def _check_scalar(value: object) -> None:
    # Exact types: subclasses, such as numpy.float64 and enums, would come back as others.
    if type(value) not in (int, float, bool, str):
        raise ValueError(f"a value is an int, float, bool or str, not {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a value must be finite")
    if type(value) is int and not INT64_MIN <= value <= INT64_MAX:
        raise ValueError("an integer must fit 64 bits")
    if isinstance(value, str) and not _is_unicode(value):
        raise ValueError("a string must be valid Unicode")


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_interval(low: float, high: float, is_exp: bool) -> None:
    if type(is_exp) is not bool:
        raise ValueError("is_exp must be True or False")
    if low > high:
        raise ValueError(f"min must not exceed max: {low} > {high}")
    if is_exp and low <= 0:
        raise ValueError(f"min must be above 0 on a log scale (is_exp), not {low}")


def _check_position(number: int, position: tuple[Choice, ...]) -> None:
    if not 1 <= len(position) <= MAX_VALUES:
        raise ValueError(f"position {number} needs 1 to {MAX_VALUES} choices")
    if len(set(position)) < len(position):
        raise ValueError(f"position {number} has two choices of one meaning")
    for choice in position:
        if isinstance(choice, NodeRef):
            if type(choice.node) is not int or not 0 <= choice.node < MAX_POSITIONS:
                raise ValueError(f"position {number}: a node is in [0, {MAX_POSITIONS})")
        else:
            _check_scalar(choice.value)


def _check_skip(number: int, position: tuple[Choice, ...], skip: bool) -> None:
    if type(skip) is not bool:
        raise ValueError(f"position {number} is a skip or not: True or False, not {skip!r}")
    if skip and (len(position) != 2 or any(isinstance(choice, NodeRef) for choice in position)):
        raise ValueError(f"position {number} is a skip: it needs two values, the second takes it")
