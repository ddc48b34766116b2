import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from rafiki.resources import JSON
from rafiki.wire.fields import InvalidField
from rafiki.wire.structs import struct_from_proto, struct_to_proto

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
LEAVES: st.SearchStrategy[JSON] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
VALUES: st.SearchStrategy[JSON] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_a_json_object_survives_the_round_trip(values: dict[str, JSON]) -> None:
    assert struct_from_proto(struct_to_proto(values)) == values


def test_a_whole_number_comes_back_as_an_integer() -> None:
    read = struct_from_proto(struct_to_proto({"a": 3, "b": 1.0, "c": 0.5, "d": True}))
    assert [type(value) for value in read.values()] == [int, int, float, bool]


def test_keys_come_in_order() -> None:
    read = struct_from_proto(struct_to_proto({"b": 1, "a": {"d": 1, "c": 1}}))
    assert str(read) == "{'a': {'c': 1, 'd': 1}, 'b': 1}"


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53 + 1, object(), {"x": object()}, {1: 2}, b""]
)
def test_what_json_cannot_hold_exactly_is_not_sent(value: JSON) -> None:
    with pytest.raises(InvalidField, match=r"^args\['a'\]"):
        struct_to_proto({"a": value}, "args")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Value(), r"args\['a'\]"),
        (Value(number_value=float("nan")), r"args\['a'\]"),
        (Value(list_value=ListValue(values=[Value()])), r"args\['a'\]\[0\]"),
        (Value(struct_value=Struct(fields={"b": Value()})), r"args\['a'\]\['b'\]"),
    ],
)
def test_a_malformed_value_is_refused_by_path(value: Value, path: str) -> None:
    with pytest.raises(InvalidField, match=f"^{path}: "):
        struct_from_proto(Struct(fields={"a": value}), "args")


def test_more_than_64_kib_are_refused_both_ways() -> None:
    text = "x" * (64 << 10)
    with pytest.raises(InvalidField, match=r"^args: must take at most 65536 bytes"):
        struct_to_proto({"a": text}, "args")
    with pytest.raises(InvalidField, match=r"^args: must take at most 65536 bytes"):
        struct_from_proto(Struct(fields={"a": Value(string_value=text)}), "args")
