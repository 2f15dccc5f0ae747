"""Protocol Buffers' wire format, as far as the messages of the Open Inference Protocol need it.

A message is read field by field, and octets stay where they are: a message of many small parts takes no more memory
than it has, and one of a large tensor is not copied. (Google's library makes an object of 88 bytes from two
octets, before anyone can count them, and copies octets twice.)

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeAlias

from matfn.wire import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Value",
    "entries",
    "fields",
    "flag",
    "head_of",
    "number",
    "octets",
    "real",
    "signed",
    "text",
    "varints",
    "written",
]

Value: TypeAlias = "int | memoryview"

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_FIELD_LIMIT: Final = 1 << 29
_MOST_WITHIN: Final = 128
"""Fields of a message within another."""
_MOST_OF_ENTRY: Final = 8
_LONGEST_VARINT: Final = 10
_LONGEST_TEXT: Final = 1 << 16
_WIDTH: Final = 64


# Reading.


def fields(content: memoryview, most: int = _MOST_WITHIN) -> Iterator[tuple[int, Value]]:
    """The number and the value of each field: an integer, or octets.

    Args:
        content: the message.
        most: how many fields it may have.

    Raises:
        DecodeError: if it is no message, or one of too many fields.
    """
    at = count = 0
    while at < len(content):
        count += 1
        if count > most:
            raise DecodeError(f"a message has more than {most} fields; numbers are to be raw or packed")
        key, at = _varint(content, at)
        kind, number_ = key & 7, key >> 3
        if not 0 < number_ < _FIELD_LIMIT:
            raise DecodeError("the message has a field with an impossible number")
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield number_, value
            continue
        size, at = _varint(content, at) if kind == _LENGTH else (_FIXED.get(kind, -1), at)
        if not 0 <= size <= len(content) - at:
            raise DecodeError("the message is no Protocol Buffers message, or ends too early")
        at += size
        yield number_, content[at - size : at]


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index, octet in enumerate(content[at : at + _LONGEST_VARINT]):
        value |= (octet & 0x7F) << (7 * index)
        if octet < 0x80:  # noqa: PLR2004 - the last one has no high bit
            return value & ((1 << _WIDTH) - 1), at + index + 1
    raise DecodeError("the message has a number without an end")


def octets(value: Value, what: str) -> memoryview:
    """The octets of a field."""
    if isinstance(value, int):
        raise DecodeError(f"{what} is a number; octets belong there")
    return value


def number(value: Value, what: str) -> int:
    """The integer of a field."""
    if not isinstance(value, int):
        raise DecodeError(f"{what} is no integer")
    return value


def signed(value: Value, what: str) -> int:
    """The integer of a field of 64 bits with a sign."""
    found = number(value, what)
    return found - (1 << _WIDTH) if found >> (_WIDTH - 1) else found


def flag(value: Value, what: str) -> bool:
    """The boolean of a field."""
    return bool(number(value, what))


def real(value: Value, what: str) -> float:
    """The float64 of a field."""
    found = octets(value, what)
    if len(found) != _FIXED[_FIXED64]:
        raise DecodeError(f"{what} is no float64")
    (one,) = struct.unpack("<d", found)
    return float(one)


def text(value: Value, what: str) -> str:
    """The text of a field."""
    found = octets(value, what)
    if len(found) > _LONGEST_TEXT:
        raise DecodeError(f"{what} is a text of {len(found)} bytes")
    try:
        return str(found, "utf-8")
    except UnicodeDecodeError:
        raise DecodeError(f"{what} is not UTF-8") from None


def varints(value: Value, what: str) -> Iterator[int]:
    """The integers with signs of a field, packed or one alone."""
    if isinstance(value, int):
        yield signed(value, what)
        return
    if len(value) > _MOST_WITHIN * _LONGEST_VARINT:
        raise DecodeError(f"{what} has too many numbers")
    at = 0
    while at < len(value):
        found, at = _varint(value, at)
        yield signed(found, what)


def entries(value: Value, what: str) -> tuple[str, memoryview]:
    """The key and the value of a field that is an entry of a map from texts to messages."""
    key, content = "", memoryview(b"")
    for number_, part in fields(octets(value, what), _MOST_OF_ENTRY):
        if number_ == 1:
            key = text(part, what)
        elif number_ == 2:  # noqa: PLR2004 - the value of an entry
            content = octets(part, what)
    return key, content


# Writing.


def head_of(field: int, length: int) -> bytes:
    """The prefix of the octets of a field, of this length."""
    return _written_varint(field << 3 | _LENGTH) + _written_varint(length)


def written(*parts: tuple[int, object]) -> bytes:
    """A message of these fields, by their numbers.

    A value is a text, the octets of a message, an integer, a float64, a tuple of integers to be packed, or a list of
    values, each a field.
    """
    return b"".join(_field(field, value) for field, value in parts)


def _field(field: int, value: object) -> bytes:
    match value:
        case bool() | int():
            return _written_varint(field << 3 | _VARINT) + _written_varint(int(value))
        case float():
            return _written_varint(field << 3 | _FIXED64) + struct.pack("<d", value)
        case str():
            return _field(field, value.encode())
        case bytes():
            return head_of(field, len(value)) + value
        case tuple():  # of integers, packed
            return _field(field, b"".join(_written_varint(one) for one in value))
        case list():
            return b"".join(_field(field, one) for one in value)
        case _:
            raise TypeError(f"{type(value).__name__} is no field")


def _written_varint(value: int) -> bytes:
    rest, found = value & ((1 << _WIDTH) - 1), bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - seven bits an octet
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*found, rest])
