"""JSON trees: binary leaves are base64, non-finite numbers null."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from json.scanner import py_make_scanner  # type: ignore[attr-defined] # not told to type checkers
from random import getrandbits
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matfn._msgpack import Packed, Pieces, Repeated, TooMany, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from matfn._msgpack import Buffer

__all__ = ["dump", "load"]

_FEW: Final = 1 << 12  # values that are read within a millisecond
_MANY: Final = 1 << 16  # lists, maps, strings and constants that are read within a few
_ENCODED_TOGETHER: Final = 3 << 16  # bytes that become base64 in a few tenths of a millisecond
_COUNTED_TOGETHER: Final = 1 << 20


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
    try:
        return _tree(str(body, "utf-8"), most)
    except RecursionError:
        reason = "the body nests too deep"
    except UnicodeDecodeError:
        reason = "the body is not UTF-8"
    except json.JSONDecodeError as error:
        reason = f"the body is not JSON: {error}"
    except _ConstantError as error:
        reason = str(error)
    except TooMany:
        raise
    except ValueError:  # Python's own bound on the digits that it converts
        reason = "the body has an integer of thousands of digits, far beyond float64"
    raise ValueError(reason)


def _tree(text: str, most: float) -> object:
    commas, others = _counted(text, ",")[0], _counted(text, "[", "{", '"', "null", "true", "false")
    if commas + sum(others[:2]) > most:
        raise TooMany
    if commas + sum(others) <= _FEW:
        return json.loads(text, object_pairs_hook=_map, parse_constant=_refuse)
    if sum(others) <= _MANY:
        return json.loads(text, object_pairs_hook=_map, parse_constant=_refuse, parse_float=_float, parse_int=_integer)
    return json.loads(text, cls=_Patient, object_pairs_hook=_map, parse_constant=_refuse)


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
