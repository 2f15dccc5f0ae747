"""JSON trees: binary leaves are base64, non-finite numbers null."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from dataclasses import dataclass
from json.scanner import py_make_scanner  # type: ignore[attr-defined] # not told to type checkers
from random import getrandbits
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matfn._msgpack import Packed, Pieces, Repeated, TooMany, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from matfn._msgpack import Buffer

__all__ = ["Base64", "dump", "load"]

_FEW: Final = 1 << 12  # values that are read within a millisecond
_MANY: Final = 1 << 16  # lists, maps, strings and constants that are read within a few
_ENCODED_TOGETHER: Final = 3 << 16  # bytes that become base64 in a few tenths of a millisecond
_COUNTED_TOGETHER: Final = 1 << 20
_LONG: Final = 1 << 18  # bytes of a string that stays where it is: the parser would hold the interpreter with it
_LOOKED_THROUGH_TOGETHER: Final = 1 << 18
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_BEFORE_LEAF: Final = re.compile(rb'"data"[ \t\n\r]*:[ \t\n\r]*\Z')
_BEFORE_LEAF_BYTES: Final = 32


def dump(tree: object) -> Buffer:
    """The tree as UTF-8 JSON; binary leaves become base64 text."""
    large = _Large(f"{getrandbits(128):032x}")
    try:
        text = json.dumps(tree, default=large.plain, allow_nan=False, separators=(",", ":"))
    except ValueError:
        large.leaves.clear()
        text = json.dumps(_nulled(tree), default=large.plain, allow_nan=False, separators=(",", ":"))
    return large.put_in(text) if large.leaves else text.encode()


class _Large:
    """Large binary leaves, for which a mark stands in the text: they are encoded piece by piece."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self.leaves: list[memoryview] = []

    def plain(self, leaf: object) -> object:
        """The JSON form of a leaf."""
        if isinstance(leaf, memoryview) and leaf.nbytes > _ENCODED_TOGETHER:
            self.leaves.append(leaf)
            return self._mark
        if isinstance(leaf, Pieces) and sum(view.nbytes for view in leaf.views) > _ENCODED_TOGETHER:
            self.leaves.append(_joined(leaf.views))
            return self._mark
        return _plain(leaf)

    def put_in(self, text: str) -> memoryview:
        """The text with the leaves in the places of their marks."""
        words = [piece.encode() for piece in text.split(self._mark)]
        sizes = [(leaf.nbytes + 2) // 3 * 4 for leaf in self.leaves]
        whole, end = np.empty(sum(map(len, words)) + sum(sizes), np.uint8).data, 0
        for number, piece in enumerate(words):
            whole[end : end + len(piece)] = piece
            end += len(piece)
            for octets in _slices(self.leaves[number]) if number < len(self.leaves) else ():
                encoded = b64encode(octets)
                whole[end : end + len(encoded)] = encoded
                end += len(encoded)
        return whole


def _joined(views: Sequence[memoryview]) -> memoryview:
    """The memory of several views as one."""
    if len(views) == 1:
        return views[0]
    whole, end = np.empty(sum(view.nbytes for view in views), np.uint8).data, 0
    for view in views:
        for octets in _slices(view):
            whole[end : end + len(octets)] = octets
            end += len(octets)
    return whole


def _slices(view: memoryview) -> Iterator[memoryview]:
    """The view in pieces, each a multiple of three bytes but the last."""
    octets = view.cast("B")
    return (octets[start : start + _ENCODED_TOGETHER] for start in range(0, len(octets), _ENCODED_TOGETHER))


def _plain(leaf: object) -> object:
    if isinstance(leaf, Packed):  # element by element, between which other threads get a turn
        return unpack(leaf.octets) if leaf.elements is None else [Packed(octets) for octets in leaf.elements]
    if isinstance(leaf, memoryview | Pieces):
        return b64encode(b"".join(leaf.views) if isinstance(leaf, Pieces) else leaf).decode("ascii")
    raise TypeError(f"{type(leaf).__name__} has no JSON form")


def _nulled(tree: object) -> object:
    match tree:
        case float() if not math.isfinite(tree):
            return None
        case Packed():
            return _nulled(unpack(tree.octets))
        case dict():
            return {key: _nulled(value) for key, value in tree.items()}
        case list() | tuple():
            return [_nulled(value) for value in tree]
        case _:
            return tree


@dataclass(frozen=True, slots=True)
class Base64:
    """The text of a long binary leaf, where it stands in the body."""

    text: memoryview


class _ConstantError(ValueError):
    """NaN or Infinity written out."""


def load(body: Buffer, most: float = math.inf) -> object:
    """The tree of one JSON text.

    Args:
        body: the text.
        most: largest number of values.

    Raises:
        TooMany: if there may be more values, as the signs between them say.
        ValueError: not UTF-8, not JSON, nested too deep for the parser, with NaN or Infinity written out, or with an
            integer longer than Python converts.
    """
    leaves = _LongLeaves(memoryview(body).cast("B"))
    try:
        return _tree(str(leaves.rest, "utf-8"), most, leaves)
    except RecursionError:
        reason = "the body nests too deep"
    except UnicodeDecodeError:
        reason = "the body is not UTF-8"
    except json.JSONDecodeError as error:
        reason = f"the body is not JSON: {leaves.located(error)}"
    except _ConstantError as error:
        reason = str(error)
    except TooMany:
        raise
    except ValueError:  # Python's own bound on the digits that it converts
        reason = "the body has an integer of thousands of digits, far beyond float64"
    raise ValueError(reason)


class _LongLeaves:
    """Long strings under the name `data`, for which marks stand in the rest of the text.

    Args:
        body: the whole text.
    """

    def __init__(self, body: memoryview) -> None:
        self._bounds = [(start, stop) for start, stop in _long_strings(body) if _is_leaf(body, start)]
        self._mark = f"{getrandbits(128):032x}"
        self._leaves = {f"{self._mark}{i:08x}": Base64(body[slice(*bounds)]) for i, bounds in enumerate(self._bounds)}
        self.rest: Buffer = self._without_leaves(body) if self._bounds else body

    def put_in(self, pairs: list[tuple[str, object]]) -> list[tuple[str, object]]:
        """The names and values of a map, with a leaf in place of its mark."""
        if not self._leaves:
            return pairs
        return [(name, self._leaves.get(one, one) if isinstance(one, str) else one) for name, one in pairs]

    def located(self, error: json.JSONDecodeError) -> str:
        """The error in words, with its place in the whole text."""
        line = error.doc.rfind("\n", 0, error.pos) + 1
        skipped = [self._skipped(error.doc[start : error.pos]) for start in (0, line)]
        place = f"line {error.lineno} column {error.colno + skipped[1]} (char {error.pos + skipped[0]})"
        return f"{error.msg}: {place}"

    def _skipped(self, text: str) -> int:
        """How much longer this part of the rest is in the whole text."""
        marks = [mark for mark in self._leaves if mark in text]
        return sum(len(self._leaves[mark].text) - len(mark) for mark in marks)

    def _without_leaves(self, body: memoryview) -> bytes:
        ends = [0, *(stop for _, stop in self._bounds)]
        starts = [*(start for start, _ in self._bounds), len(body)]
        marks = [*(mark.encode() for mark in self._leaves), b""]
        pieces = zip(ends, starts, marks, strict=True)
        return b"".join(part for end, start, mark in pieces for part in (body[end:start], mark))


def _is_leaf(body: memoryview, start: int) -> bool:
    """Whether a string that begins here is the value of `data`."""
    before = bytes(body[max(0, start - 1 - _BEFORE_LEAF_BYTES) : start - 1])
    return _BEFORE_LEAF.search(before) is not None


def _long_strings(body: memoryview) -> Iterator[tuple[int, int]]:
    """From and to where nothing but plain characters stands between two quotes, if that is long."""
    if len(body) <= _LONG:
        return
    octets, last = np.frombuffer(body, np.uint8), -1
    for start in range(0, len(octets), _LOOKED_THROUGH_TOGETHER):
        part = octets[start : start + _LOOKED_THROUGH_TOGETHER]
        signs = np.flatnonzero((part == _QUOTE) | (part == _BACKSLASH)) + start
        if len(signs):
            first = int(signs[0])
            if last >= 0 and first - last > _LONG and octets[last] == octets[first] == _QUOTE:
                yield last + 1, first
            last = int(signs[-1])


def _tree(text: str, most: float, leaves: _LongLeaves) -> object:
    commas, others = _counted(text, ",")[0], _counted(text, "[", "{", '"', "null", "true", "false")
    if commas + sum(others[:2]) > most:
        raise TooMany
    hook = _map_of(leaves)
    if commas + sum(others) <= _FEW:
        return json.loads(text, object_pairs_hook=hook, parse_constant=_refuse)
    if sum(others) <= _MANY:
        return json.loads(text, object_pairs_hook=hook, parse_constant=_refuse, parse_float=_float, parse_int=_integer)
    return json.loads(text, cls=_Patient, object_pairs_hook=hook, parse_constant=_refuse)


def _counted(text: str, *signs: str) -> list[int]:
    """How often each sign stands in the text, counted piece by piece: a long count would hold the interpreter."""
    pieces = range(0, len(text), _COUNTED_TOGETHER)
    return [sum(text.count(sign, start, start + _COUNTED_TOGETHER) for start in pieces) for sign in signs]


def _float(digits: str) -> float:  # Python's own in Python: between two numbers other threads get a turn
    return float(digits)


def _integer(digits: str) -> int:
    return int(digits)


class _Patient(json.JSONDecoder):
    """Python's decoder in Python, which other threads may interrupt at each value."""

    def __init__(self, **hooks: Any) -> None:
        super().__init__(**hooks)
        self.scan_once = py_make_scanner(self)


def _map_of(leaves: _LongLeaves) -> Callable[[list[tuple[str, object]]], dict[str, object] | Repeated]:
    return lambda pairs: _map(leaves.put_in(pairs))


def _map(pairs: list[tuple[str, object]]) -> dict[str, object] | Repeated:
    content = dict(pairs)
    if len(content) == len(pairs):
        return content
    return Repeated(_first_repeated(key for key, _ in pairs))


def _first_repeated(keys: Iterable[str]) -> str:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    raise LookupError


def _refuse(constant: str) -> object:
    raise _ConstantError(f"{constant} is not JSON; send null for a number that is not finite")
