"""Hostile messages: valid ones with hostile values, and bytes that are no message."""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias, TypeVar, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

_Item = TypeVar("_Item")
Scalar: TypeAlias = int | float | bool | str | bytes

_INTS32 = (0, 1, 2, 3, 10, 99, 1000, -1, 2**31 - 1, -(2**31))
_INTS64 = (0, 1, 2, 3, 24, 10_000, -1, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63))
_UNSIGNED = (0, 1, 2, 255, 2**31, 2**32 - 1)
_FLOATS = (
    *(0.0, -0.0, 0.5, 1.0, -1.0, 3.4e38, 1e308, -1e308, 5e-324),
    *(float("nan"), float("inf"), float("-inf")),
)
_ODD_TEXTS = (
    *("", " ", "-", "0", "-1", "1e400", "null", "NaN", "\0", "a\0b", "\r\n", "\x1b[31m", "\x7f"),
    *("\u202egnp.exe", "\ufeff", "\ud7ff", "\U0010ffff", "e\u0301" * 50, "ß" * 64, "😀" * 200),
    *("'; DROP TABLE trials; --", '"', "%", "_", "{}", "${HOME}", "`id`", "$(id)", "%s%n%d", "{0}"),
    *("../../etc/passwd", "/etc/passwd", "..\\..\\x", "%2e%2e%2f", "//", ".", "..", "C:\\x", "~"),
    *("trainJobs/../models/1", "trainJobs/-", "trainJobs/0badcafe/studies/0", "models/%30badcafe"),
    *("trainJobs/0badcafe/studies/1/trials/999999999", "trainJobs/0badcafe/studies/-"),
    *("trainJobs/0badcafe/studies/1/checkpoints/1-0", "users/local", "datasets/0badcafe\n"),
    *("trainJobs/\uff10badcafe", "trainJobs/0BADCAFE", "a.b:C", "a:b:c", ":", "m:C", "A", "z" * 64),
    *(
        "9" * 18,
        "9" * 19,
        "9" * 5000,
        "0" * 64,
        "f" * 64,
        "x" * 9000,
        "W10",
        "bnVsbA",
        "é" * 40_000,
    ),
    "12345678-1234-1234-1234-123456789abc",
)
_MANY = 100_000
_HUGE_BYTES = 1 << 20
_MOST_DEPTH = 5


class Forge:
    """Makes hostile messages at random, the same ones from the same `random`.

    `texts` are names and tokens that the server knows: what holds one gets further.
    """

    def __init__(self, random: Random, texts: Sequence[str]) -> None:
        self._random = random
        self._texts = texts

    def tampered(self, valid: Message) -> Message:
        """A copy of a valid message with some hostile values."""
        message = type(valid)()
        message.CopyFrom(valid)
        for _ in range(self._random.choice((1, 1, 2, 4))):
            self._tamper(message)
        return message

    def invented(self, cls: type[Message]) -> Message:
        """A message of hostile values alone."""
        message = cls()
        self._fill(message, _MOST_DEPTH)
        return message

    def mangled(self, data: bytes) -> bytes:
        """Bytes like those of a message, and mostly of none."""
        ways: tuple[Callable[[bytes], bytes], ...] = (
            lambda data: data[: self._random.randrange(len(data) + 1)],
            self._flipped,
            self._flipped,
            self._not_utf8,
            self._not_utf8,
            lambda data: self._random.randbytes(self._random.choice((1, 2, 7, 100, 5000))),
            lambda data: data + b"\x0a\xff\xff\xff\xff\x07",  # a field of 2 GiB, not there
            lambda data: data + b"\xff" * 11,  # a tag without an end
            lambda data: data + b"\x0b" * 200,  # groups in groups
            lambda data: data + b"\x0c",  # the end of no group
            lambda data: data * 2,
            lambda data: data + b"\xf8\xff\xff\xff\x0f\x01" * 1000,  # unknown fields
            lambda data: _deep_struct(self._random.choice((40, 99, 101, 5000))),
            lambda data: b"\x0a" + bytes([len(data) % 128]) + data,
        )
        return self._random.choice(ways)(data)

    def _flipped(self, data: bytes) -> bytes:
        flipped = bytearray(data or b"\0")
        for _ in range(self._random.choice((1, 1, 3, 10))):
            flipped[self._random.randrange(len(flipped))] ^= 1 << self._random.randrange(8)
        return bytes(flipped)

    def _not_utf8(self, data: bytes) -> bytes:
        """Most bytes of our messages belong to texts."""
        broken = bytearray(data or b"\x0a\x01a")
        broken[self._random.randrange(len(broken))] = self._random.choice((0xC0, 0xED, 0xFF, 0x80))
        return bytes(broken)

    def _tamper(self, message: Message) -> None:
        """Changes something in the message, or in one inside."""
        inside = [
            part
            for field, value in message.ListFields()
            if field.message_type is not None
            for part in _messages(field, value)
        ]
        if inside and self._random.random() < 0.7:
            self._tamper(self._random.choice(inside))
            return
        fields = _fields(message)
        if not fields:
            return
        field = self._random.choice(fields)
        match self._random.random():
            case chance if chance < 0.15:
                message.ClearField(field.name)
            case chance if chance < 0.17 and field.is_repeated:
                self._crowd(message, field)
            case _:
                self._set(message, field, 3)

    def _fill(self, message: Message, depth: int) -> None:
        fields = _fields(message)
        count = min(len(fields), self._random.choice((0, 1, 2, 4, 8)))
        for field in self._random.sample(fields, count):
            self._set(message, field, depth)

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        target = getattr(message, field.name)
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            self._set_entry(
                target, entry.fields_by_name["key"], entry.fields_by_name["value"], depth
            )
        elif entry is not None:
            if depth <= 0:
                return
            if field.is_repeated:
                for _ in range(self._random.choice((1, 1, 2, 40))):
                    self._fill(target.add(), depth - 1)
            else:
                target.SetInParent()
                self._fill(target, depth - 1)
        elif field.is_repeated:
            target.extend(self._scalar(field) for _ in range(self._random.choice((1, 2, 200))))
        else:
            setattr(message, field.name, self._scalar(field))

    def _set_entry(
        self, target: object, key: FieldDescriptor, value: FieldDescriptor, depth: int
    ) -> None:
        entries = cast("dict[Scalar, object]", target)
        for _ in range(self._random.choice((1, 2, 150))):
            name = self._scalar(key)
            if value.message_type is None:
                entries[name] = self._scalar(value)
            else:
                # A map of messages has no assignment: what is asked for is there.
                self._fill(cast(Message, entries[name]), depth - 1)

    def _crowd(self, message: Message, field: FieldDescriptor) -> None:
        """A hundred thousand entries."""
        target = getattr(message, field.name)
        if field.message_type is None:
            target.extend([self._scalar(field)] if field.type == field.TYPE_STRING else [0] * _MANY)
            target.extend(["a"] * _MANY if field.type == field.TYPE_STRING else [])
        elif field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            for number in range(1000):
                if value.message_type is None:
                    target[str(number)] = self._scalar(value)
                else:
                    target[str(number)].SetInParent()
        else:
            target.extend(type(target.add())() for _ in range(_MANY))

    def _scalar(self, field: FieldDescriptor) -> Scalar:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_ENUM:
                return self._random.choice(_INTS32)
            case FieldDescriptor.CPPTYPE_INT64:
                return self._random.choice(_INTS64)
            case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
                return self._random.choice(_UNSIGNED)
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self._random.choice(_FLOATS)
            case FieldDescriptor.CPPTYPE_BOOL:
                return self._random.random() < 0.5
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._random.randbytes(self._random.choice((0, 1, 3, 1000, 70_000)))
        return self._text()

    def _text(self) -> str:
        chance = self._random.random()
        if chance < 0.3:
            return self._random.choice(self._texts)
        if chance < 0.4:
            return self._random.choice(self._texts) + self._random.choice(_ODD_TEXTS)
        if chance < 0.405:
            return self._random.choice("x\0é") * _HUGE_BYTES
        return self._random.choice(_ODD_TEXTS)


def _fields(message: Message) -> Sequence[FieldDescriptor]:
    return list(cast(Sequence[FieldDescriptor], message.DESCRIPTOR.fields))


def _messages(field: FieldDescriptor, value: object) -> list[Message]:
    """The messages in a field that holds some."""
    if not field.is_repeated:
        return [cast(Message, value)]
    assert field.message_type is not None
    if not field.message_type.GetOptions().map_entry:
        return list(cast(Sequence[Message], value))
    if field.message_type.fields_by_name["value"].message_type is None:
        return []
    return list(cast("dict[Scalar, Message]", value).values())


def _deep_struct(depth: int) -> bytes:
    """The bytes of a struct that holds a struct that holds a struct."""
    data = b""
    for _ in range(min(depth, 200)):
        entry = b"\x0a\x01a\x12" + _varint(len(data) + 2) + b"\x2a" + _varint(len(data)) + data
        data = b"\x0a" + _varint(len(entry)) + entry
    return data * (1 if depth < 200 else 20)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def nested_struct(depth: int) -> Struct:
    """A struct so deep, as a message."""
    struct = Struct()
    inner = struct
    for _ in range(depth):
        inner.fields["a"].struct_value.SetInParent()
        inner = inner.fields["a"].struct_value
    return struct
