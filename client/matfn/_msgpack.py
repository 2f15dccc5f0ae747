"""msgpack trees: binary leaves leave as the caller's own memory and arrive as views of the body.

The msgpack package copies every binary leaf, and believes a header's element count before the elements have come.
For bodies that are one matrix and a few dozen small objects, a copy costs more than reading them here. Writing uses
the package for everything but the binary leaves.

A tuple is a subtree without binary leaves and is packed by the package in one go; what was packed elsewhere, as
certificates are, is taken over as it is.

Large binary leaves lie as far behind the first one as numbers want to be aligned: the words before a leaf are written
wider than they need to be, as msgpack allows.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import msgpack

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

__all__ = ["MAX_DEPTH", "Buffer", "Packed", "Pieces", "Repeated", "TooMany", "pack", "packed", "unpack"]

Buffer: TypeAlias = bytes | bytearray | memoryview

MAX_DEPTH: Final = 16

_INLINE_BYTES: Final = 4096  # below this a copy is cheaper than one more buffer for the socket
_SHORT: Final = 16  # a map or list of fewer has its size in its first byte
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_BIN_LIMIT: Final = 1 << 32
_ALIGNMENT: Final = 64
_STRING_FORMS: Final = (">BB", 0xD9), (">BH", 0xDA), (">BI", 0xDB)
_NUMBER_FORMS: Final = (">BI", 0xCE), (">BQ", 0xCF)
_CONTAINERS: Final = 64
_BYTES_PER_CONTAINER: Final = 4  # the densest honest body: rows of three small integers
_WINDOW: Final = 1 << 16


class TooMany(ValueError):  # noqa: N818 - no fault of the body's, only more than was asked for
    """There are more values than were to be read."""


class Repeated:
    """Stands for a map with a repeated key, so that only the call that holds it is refused."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class Packed:
    """A subtree that has been packed already, an array perhaps of elements that have been packed each."""

    __slots__ = ("elements", "octets")

    def __init__(self, octets: bytes, elements: Sequence[bytes] | None = None) -> None:
        self.octets = octets
        self.elements = elements

    @classmethod
    def array(cls, elements: Sequence[bytes]) -> Packed:
        """Elements that have been packed each."""
        return cls(_array_header(len(elements)) + b"".join(elements), elements)


class Pieces:
    """A binary leaf that lies in several pieces of memory, in order."""

    __slots__ = ("views",)

    def __init__(self, views: Sequence[memoryview]) -> None:
        self.views = views


def packed(tree: object) -> bytes:
    """A tree without binary leaves, packed."""
    octets: bytes = msgpack.packb(tree)
    return octets


def pack(tree: object) -> list[Buffer]:
    """Buffers that, joined, are the tree; memoryview leaves of some size are among them, not copied."""
    writer = _Writer()
    writer.write(tree)
    if writer.small:
        writer.buffers.append(bytes(writer.small))
    return writer.buffers


class _Writer:
    """Buffers that are full, and the one that small pieces are gathered in."""

    __slots__ = ("_first", "_length", "_pack", "buffers", "small")

    def __init__(self) -> None:
        self._first: int | None = None  # where the first large leaf begins
        self._length = 0  # of the buffers
        self._pack = msgpack.Packer(buf_size=_INLINE_BYTES).pack
        self.buffers: list[Buffer] = []
        self.small = bytearray()

    def write(self, tree: object) -> None:
        if isinstance(tree, memoryview):
            self._octets([tree], tree.nbytes)
        elif isinstance(tree, Packed):
            self.small += tree.octets
        elif isinstance(tree, Pieces):
            self._octets(tree.views, sum(view.nbytes for view in tree.views))
        elif isinstance(tree, dict) and not _SCALARS.issuperset(map(type, tree.values())):
            self._map(tree)
        elif isinstance(tree, list):
            self.small += _array_header(len(tree))
            for value in tree:
                self.write(value)
        else:
            self.small += self._pack(tree)

    def _map(self, tree: dict[str, object]) -> None:
        last = _views(next(reversed(tree.values())))
        if self._first is not None and sum(view.nbytes for view in last) >= _INLINE_BYTES:
            self._leaf(tree, self._first)
            return
        self.small += _map_header(len(tree))
        for key, value in tree.items():
            self.small += _key(key)
            self.write(value)

    def _octets(self, views: Sequence[memoryview], size: int) -> None:
        self.small += _bin_header(size)
        if size < _INLINE_BYTES:
            for view in views:
                self.small += view
        else:
            self._append(views, size)

    def _append(self, views: Sequence[memoryview], size: int) -> None:
        begin = self._length + len(self.small)
        self._first = begin if self._first is None else self._first
        self._length = begin + size
        self.buffers += [bytes(self.small), *views]
        self.small.clear()

    def _leaf(self, tree: dict[str, object], first: int) -> None:
        """A map whose last value is a large leaf, which is to be aligned with the first one."""
        *fields, (key, leaf) = tree.items()
        views = _views(leaf)
        size = sum(view.nbytes for view in views)
        behind = (self._length + len(self.small) - first) % _ALIGNMENT
        self.small += _wide(tuple(fields), key, size, behind)
        self._append(views, size)


def _views(tree: object) -> Sequence[memoryview]:
    """The memory of a binary leaf; none of anything else."""
    if isinstance(tree, Pieces):
        return tree.views
    return [tree] if isinstance(tree, memoryview) else []


@lru_cache(maxsize=256)
def _wide(fields: tuple[tuple[str, object], ...], key: str, size: int, behind: int) -> bytes:
    """The words of a map before its last value, a leaf of this size, that align the leaf best.

    Args:
        fields: the other keys with their values, strings or tuples of sizes.
        key: that of the leaf.
        size: of the leaf.
        behind: bytes from an aligned place to the map.
    """
    found = {0: b""}  # the words so far by their number of bytes, less than 64 of them to spare
    for forms in _forms([*fields, (key, None)]):
        longer = {len(words) + len(form): words + form for words in found.values() for form in forms}
        found = {length: words for length, words in longer.items() if length < min(longer) + _ALIGNMENT}
    header = _bin_header(size)
    ends = {behind + length + len(header): words for length, words in sorted(found.items())}
    return max(ends.items(), key=lambda pair: _alignment(pair[0]))[1] + header


def _alignment(place: int) -> int:
    """The largest power of two, up to 64, that divides a place."""
    return (place | _ALIGNMENT) & -(place | _ALIGNMENT)


def _forms(fields: Sequence[tuple[str, object]]) -> list[list[bytes]]:
    """The words of a map in order, each in all its forms."""
    forms = [[_map_header(len(fields))]]
    for key, value in fields:
        forms.append(_strings(key))
        if isinstance(value, str):
            forms.append(_strings(value))
        elif isinstance(value, tuple):
            forms += [[_array_header(len(value))], *map(_numbers, value)]
    return forms


def _strings(text: str) -> list[bytes]:
    octets = text.encode()
    return [packed(text), *(struct.pack(form, head, len(octets)) + octets for form, head in _STRING_FORMS)]


def _numbers(number: int) -> list[bytes]:
    return [packed(number), *(struct.pack(form, head, number) for form, head in _NUMBER_FORMS)]


@lru_cache(maxsize=1024)  # the same few in every message
def _key(key: str) -> bytes:
    return packed(key)


def _map_header(size: int) -> bytes:
    return bytes([0x80 | size]) if size < _SHORT else struct.pack(">BI", 0xDF, size)


def _array_header(size: int) -> bytes:
    return bytes([0x90 | size]) if size < _SHORT else struct.pack(">BI", 0xDD, size)


def _bin_header(size: int) -> bytes:
    if size >= _BIN_LIMIT:
        raise ValueError(f"a tensor of {size} bytes does not fit a msgpack message, which ends at 4 GiB")
    return struct.pack(">BI", 0xC6, size)


def unpack(body: Buffer, plain: Container[str] = (), most: float = math.inf) -> object:
    """The tree of exactly one msgpack value; binary leaves are views of the body.

    Args:
        body: the value.
        plain: keys below which there are no binary leaves, to be read by the package, with its own limit of depth: five
            times as fast.
        most: largest number of values in lists and maps.

    Raises:
        TooMany: as soon as lists and maps announce more values.
        ValueError: not msgpack, cut short, followed by more, nested deeper than 16, or with an extension type.
    """
    reader = _Reader(memoryview(body).cast("B"), plain, most)
    try:
        tree = reader.value(MAX_DEPTH)
    except (IndexError, struct.error):
        raise ValueError("the body ends in the middle of a msgpack value") from None
    if reader.at != len(reader.view):
        raise ValueError(f"{len(reader.view) - reader.at} bytes follow the msgpack value")
    return tree


class _Reader:
    """A cursor over one body.

    Containers grow as their elements arrive, so a header's claim allocates nothing; and they may only be as many as
    bodies of calls and answers have, because an empty one is a byte here and sixty in memory.
    """

    __slots__ = ("at", "containers", "plain", "values", "view")

    def __init__(self, view: memoryview, plain: Container[str], values: float) -> None:
        self.view = view
        self.plain = plain
        self.values = values
        self.at = 0
        self.containers = _CONTAINERS + len(view) // _BYTES_PER_CONTAINER

    def value(self, room: int) -> object:
        head = self.view[self.at]
        self.at += 1
        if head < 0x80:  # noqa: PLR2004 - msgpack's own table of first bytes, here and below
            return head
        if head >= 0xE0:  # noqa: PLR2004
            return head - 0x100
        if head < 0xC0:  # noqa: PLR2004
            return self.short(head, room)
        return self.long(head, room)

    def short(self, head: int, room: int) -> object:
        """Values whose length is part of their first byte."""
        if head < 0x90:  # noqa: PLR2004
            return self.map(head & 0x0F, room)
        if head < 0xA0:  # noqa: PLR2004
            return self.array(head & 0x0F, room)
        return self.string(head & 0x1F)

    def long(self, head: int, room: int) -> object:
        """Values whose number or length follows the first byte."""
        if head in _CONSTANTS:
            return _CONSTANTS[head]
        if head in _NUMBERS:
            return self.number(_NUMBERS[head])
        if head not in _LENGTHS:
            raise ValueError(f"msgpack type 0x{head:02x} is not used by matfn")
        kind, code = _LENGTHS[head]
        size = self.number(code)
        assert isinstance(size, int)
        if kind == "bin":
            return self.take(size)
        if kind == "str":
            return self.string(size)
        return self.array(size, room) if kind == "array" else self.map(size, room)

    def number(self, code: struct.Struct) -> int | float:
        (number,) = code.unpack_from(self.view, self.at)
        self.at += code.size
        assert isinstance(number, int | float)
        return number

    def take(self, size: int) -> memoryview:
        piece = self.view[self.at : self.at + size]
        if len(piece) != size:
            raise IndexError
        self.at += size
        return piece

    def string(self, size: int) -> str:
        octets = self.take(size)
        try:
            return str(octets, "utf-8")
        except UnicodeDecodeError:
            raise ValueError("a msgpack string is not UTF-8") from None

    def enter(self, count: int, room: int) -> None:
        if not room:
            raise ValueError(f"the body nests deeper than {MAX_DEPTH} levels")
        self.containers -= 1
        if self.containers < 0:
            raise ValueError("the body is all lists and maps")
        if count > len(self.view) - self.at:
            raise IndexError
        self.values -= count
        if self.values < 0:
            raise TooMany

    def key(self) -> str:
        """A map's key, refused by its first byte if it is no string."""
        head = self.view[self.at]
        key = self.value(0) if 0xA0 <= head < 0xC0 or head in _STRINGS else None  # noqa: PLR2004 - msgpack's table
        if not isinstance(key, str):
            raise ValueError("a msgpack map has a key that is no string")  # noqa: TRY004 - unpack's one error
        return key

    def array(self, count: int, room: int) -> list[object]:
        self.enter(count, room)
        return [self.value(room - 1) for _ in range(count)]

    def map(self, count: int, room: int) -> dict[str, object] | Repeated:
        self.enter(count, room)
        content: dict[str, object] = {}
        repeated: Repeated | None = None
        for _ in range(count):
            key = self.key()
            if key in content:
                repeated = Repeated(key)
            content[key] = self.without_octets() if key in self.plain else self.value(room - 1)
        return repeated or content

    def without_octets(self) -> object:
        """A value without binary leaves, read from as much of the body as it takes."""
        rest = self.view[self.at :]
        window = _WINDOW
        while True:
            piece = rest[:window]
            size = max(1, len(piece))
            claim = size // _BYTES_PER_CONTAINER
            limits = {"max_array_len": claim, "max_map_len": claim, "max_bin_len": 0, "max_ext_len": 0}
            unpacker = msgpack.Unpacker(max_buffer_size=size, **limits)
            unpacker.feed(piece)
            try:
                value: object = unpacker.unpack()
            except (msgpack.OutOfData, ValueError) as error:
                if len(piece) < len(rest):  # cut short, or an array of more elements than a piece can hold
                    window *= 4
                    continue
                if isinstance(error, msgpack.OutOfData):
                    raise IndexError from None
                raise ValueError(f"a msgpack value cannot be read: {error}") from None
            self.at += unpacker.tell()
            return value


_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS: Final = {
    head: struct.Struct(code)
    for head, code in {
        0xCA: ">f",
        0xCB: ">d",
        0xCC: ">B",
        0xCD: ">H",
        0xCE: ">I",
        0xCF: ">Q",
        0xD0: ">b",
        0xD1: ">h",
        0xD2: ">i",
        0xD3: ">q",
    }.items()
}
_STRINGS: Final = frozenset({0xD9, 0xDA, 0xDB})
_LENGTHS: Final = {
    head: (kind, struct.Struct(code))
    for head, (kind, code) in {
        0xC4: ("bin", ">B"),
        0xC5: ("bin", ">H"),
        0xC6: ("bin", ">I"),
        0xD9: ("str", ">B"),
        0xDA: ("str", ">H"),
        0xDB: ("str", ">I"),
        0xDC: ("array", ">H"),
        0xDD: ("array", ">I"),
        0xDE: ("map", ">H"),
        0xDF: ("map", ">I"),
    }.items()
}
