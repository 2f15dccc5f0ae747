"""JSON trees: binary leaves are base64, non-finite numbers null."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from typing import TYPE_CHECKING

from matfn._msgpack import Packed, Pieces, Repeated, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matfn._msgpack import Buffer

__all__ = ["dump", "load"]


def dump(tree: object) -> bytes:
    """The tree as UTF-8 JSON; binary leaves become base64 text."""
    try:
        text = json.dumps(tree, default=_plain, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_nulled(tree), default=_plain, allow_nan=False, separators=(",", ":"))
    return text.encode()


def _plain(leaf: object) -> object:
    if isinstance(leaf, Packed):
        return unpack(leaf.octets)
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


def load(body: Buffer) -> object:
    """The tree of one JSON text.

    Raises:
        ValueError: not UTF-8, not JSON, nested too deep for the parser, with NaN or Infinity written out, or with an
            integer longer than Python converts.
    """
    try:
        return json.loads(str(body, "utf-8"), object_pairs_hook=_map, parse_constant=_refuse)
    except RecursionError:
        reason = "the body nests too deep"
    except UnicodeDecodeError:
        reason = "the body is not UTF-8"
    except json.JSONDecodeError as error:
        reason = f"the body is not JSON: {error}"
    except _ConstantError as error:
        reason = str(error)
    except ValueError:  # Python's own bound on the digits that it converts
        reason = "the body has an integer of thousands of digits, far beyond float64"
    raise ValueError(reason)


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
