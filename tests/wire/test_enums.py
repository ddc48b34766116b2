from enum import StrEnum

import pytest

import rafiki.resources.enums
from rafiki.model.knobs import Policy
from rafiki.resources import LogLevel
from rafiki.v1 import trials_pb2
from rafiki.wire.enums import PROTO_ENUMS, enum_from_proto, enum_to_proto
from rafiki.wire.fields import InvalidField, enum_value, required_enum


def test_every_enum_of_the_resources_has_a_proto_enum() -> None:
    enums = {
        value
        for value in vars(rafiki.resources.enums).values()
        if isinstance(value, type) and issubclass(value, StrEnum) and value is not StrEnum
    }
    assert set(PROTO_ENUMS) == enums | {Policy}


@pytest.mark.parametrize("cls", PROTO_ENUMS)
def test_an_enum_has_exactly_the_values_of_its_proto_enum(cls: type[StrEnum]) -> None:
    descriptor, prefix = PROTO_ENUMS[cls]
    assert descriptor.name == cls.__name__
    names = {prefix + value.name for value in cls} | {prefix + "UNSPECIFIED"}
    assert names == set(descriptor.values_by_name)
    assert all(value.value == value.name for value in cls)


@pytest.mark.parametrize("value", [value for cls in PROTO_ENUMS for value in cls], ids=repr)
def test_a_value_survives_the_round_trip(value: Policy) -> None:
    number = enum_to_proto(value)
    assert number != 0
    assert enum_from_proto(type(value), number) is value


def test_unspecified_is_none_both_ways() -> None:
    assert enum_from_proto(LogLevel, trials_pb2.LOG_LEVEL_UNSPECIFIED) is None
    assert enum_to_proto(None) == 0


@pytest.mark.parametrize("number", [-1, 5, 2**31 - 1])
def test_a_number_of_a_later_release_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"LogLevel has no value {number}"):
        enum_from_proto(LogLevel, number)
    with pytest.raises(InvalidField, match="level: LogLevel has no value"):
        enum_value(LogLevel, number, "level")


def test_a_required_enum_names_its_values() -> None:
    with pytest.raises(InvalidField, match="level: must be one of DEBUG, INFO, WARNING, ERROR"):
        required_enum(LogLevel, 0, "level")
