"""Damage to the tree of a call: keys, values, types, shapes, dtypes, numbers and nesting; and its two encodings.

The encodings write what no library would: keys that come twice, octets that are no text, and numbers of any length.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgpack

from matfn._messages import ITEM_BYTES, OTHER_ITEM_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from mutant_calls import Tree

__all__ = ["CALL_DAMAGE", "packed", "written"]

_ITEM_BYTES: Final = {**ITEM_BYTES, **OTHER_ITEM_BYTES}


@dataclass(frozen=True, slots=True)
class Twice:
    """A map one of whose keys comes twice.

    Attributes:
        entries: of the map.
        key: that comes again, behind the others.
        value: that it has then.
    """

    entries: Mapping[Any, Any]
    key: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Raw:
    """Octets that stand in the body as they are, for either encoding."""

    msgpack: bytes
    json: bytes


Place: TypeAlias = "tuple[Any, Any]"


def packed(tree: object) -> bytes:
    """The tree in msgpack."""
    match tree:
        case Raw():
            return tree.msgpack
        case Twice():
            entries = [*tree.entries.items(), (tree.key, tree.value)]
            return _map_head(len(entries)) + b"".join(packed(key) + packed(value) for key, value in entries)
        case dict():
            return _map_head(len(tree)) + b"".join(packed(key) + packed(value) for key, value in tree.items())
        case list() | tuple():
            return bytes(msgpack.Packer().pack_array_header(len(tree))) + b"".join(map(packed, tree))
        case int() if not -(2**63) <= tree < 2**64:
            return packed(float(min(max(tree, -(10**300)), 10**300)))
        case _:
            return bytes(msgpack.packb(tree, unicode_errors="surrogatepass"))


def _map_head(entries: int) -> bytes:
    return bytes(msgpack.Packer().pack_map_header(entries))


def written(tree: object) -> bytes:
    """The tree in JSON, octets in base64."""
    match tree:
        case Raw():
            return tree.json
        case Twice():
            return _members([*tree.entries.items(), (tree.key, tree.value)])
        case dict():
            return _members(list(tree.items()))
        case list() | tuple():
            return b"[" + b",".join(map(written, tree)) + b"]"
        case bytes():
            return b'"' + b64encode(tree) + b'"'
        case _:
            return json.dumps(tree).encode()


def _members(entries: list[tuple[Any, Any]]) -> bytes:
    return b"{" + b",".join(written(key) + b":" + written(value) for key, value in entries) + b"}"


_ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2, 65, 0.5, -0.0, 1e-320, 1e-17, 1e308, math.nan, math.inf, -math.inf),
    *(2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**400),
    *("", "auto", "nan", "range", "L", "float32", "x" * 1025, "\0", "\ud800", "ä" * 30, "1", b"", b"\0" * 8, b"\xff"),
    *([], {}, [[]], [None], [1, "1"], [[1, 2], [3]], {"": {}}, {"data": b""}, [[1.0, -2.0, 1.0]] * 65),
    Raw(b"\xa2\xff\xfe", b'"\xff\xfe"'),
    Raw(b"\xc1", b"nul"),
    Raw(b"\xd4\x01\x00", b"1e999"),
    Raw(b"\xd6\xff\0\0\0\0", b'"\\ud800"'),
    Raw(b"\xdd\xff\xff\xff\xff", b"9" * 5000),
    Raw(b"\xdf\xff\xff\xff\xff", b"-"),
    Raw(b"\xc6\xff\xff\xff\xff", b"0x10"),
    Raw(b"\xdb\x7f\xff\xff\xff", b"[" * 100),
    Raw(b"\xc4\x01", b"01"),
    Raw(b"\x91" * 1000 + b"\xc0", b"[" * 1000 + b"]" * 1000),
)
_KEYS: Final = ("", "A", "x", "inputs", "data", "function", "ключ", "k" * 1025, 1, None, True, 1.5, b"a", "\udfff")
_SIZES: Final = (0, 1, 2, 7, -1, 8193, 2**31 - 1, 2**31, 2**62, 2**63, 1.0, "2", None, True, [2])
_DTYPES: Final = (
    *_ITEM_BYTES,
    "float8",
    ">f8",
    "<f4",
    "Float32",
    "object",
    "",
    None,
    1,
    "float128",
    "complex32",
    b"f4",
)
_SPECIAL: Final = (b"\0", b"\xff", b"\x7f\x80", b"\x00\x80", b"\x01", b"\xf0\x7f", b"\x7c")
_NEARLY: Final = (3.0, "eigh", "proved", "fp32", "bf16", 1e-300, 9)
_DEEP: Final = (1, 2, 14, 15, 16, 17, 40)
_MOST_NUMBERS: Final = 4096


def _places(tree: Any) -> list[Place]:
    """Every place in a tree, as the container and the key or index in it."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [place for key in keys for place in ((tree, key), *_places(tree[key]))]


def _some_place(rng: Random, tree: Tree) -> Place:
    return rng.choice(_places(tree))


def _some_map(rng: Random, tree: Tree) -> Tree:
    maps = [container[key] for container, key in _places(tree) if isinstance(container[key], dict) and container[key]]
    return rng.choice([tree, *maps])


def _some_tensor(rng: Random, tree: Tree) -> Tree:
    """A tensor of the call, or of one of its calls; an empty map where none is left."""
    maps = [container[key] for container, key in _places(tree) if isinstance(container[key], dict)]
    return rng.choice([one for one in maps if "data" in one and isinstance(one.get("shape"), list)] or [{}])


def _odd(rng: Random) -> Any:
    return deepcopy(rng.choice(_ODD))


def _replace(rng: Random, tree: Tree) -> None:
    container, key = _some_place(rng, tree)
    container[key] = _odd(rng)


def _exchange(rng: Random, tree: Tree) -> None:
    (one, key), (other, place) = _some_place(rng, tree), _some_place(rng, tree)
    value = one[key]
    if not (_holds(value, other) or _holds(other[place], one)):
        one[key], other[place] = other[place], value


def _holds(tree: object, container: object) -> bool:
    """Whether a container is a tree or within it."""
    return tree is container or any(place is container for place, _ in _places(tree))


def _drop(rng: Random, tree: Tree) -> None:
    chosen = _some_map(rng, tree)
    if chosen:
        del chosen[rng.choice(list(chosen))]


def _rename(rng: Random, tree: Tree) -> None:
    chosen = _some_map(rng, tree)
    if chosen:
        old = rng.choice(list(chosen))
        new: Any = rng.choice([*_KEYS, f"{old}_", str(old).upper()])
        chosen[new] = chosen.pop(old)


def _add(rng: Random, tree: Tree) -> None:
    key: Any = rng.choice(_KEYS)
    _some_map(rng, tree)[key] = _odd(rng)


def _repeat(rng: Random, tree: Tree) -> None:
    """A key comes twice, with the same value or another."""
    places = [(c, k) for c, k in _places(tree) if isinstance(c[k], dict) and c[k]]
    if places:
        container, key = rng.choice(places)
        again = rng.choice(list(container[key]))
        container[key] = Twice(container[key], again, rng.choice((container[key][again], _odd(rng))))


def _nest(rng: Random, tree: Tree) -> None:
    container, key = _some_place(rng, tree)
    for _ in range(rng.choice(_DEEP)):
        container[key] = rng.choice(([container[key]], {"a": container[key]}))


def _shape(rng: Random, tree: Tree) -> None:
    """A size, or the number of them, is changed; the numbers stay."""
    shape = _some_tensor(rng, tree).get("shape", [])
    place = rng.randrange(len(shape) + 1)
    match rng.randrange(5):
        case 0:
            shape.insert(place, rng.choice(_SIZES))
        case 1:
            shape.reverse()
        case _ if not shape:
            shape += [1] * 65
        case 2:
            del shape[place - 1]
        case 3:
            shape[place - 1] = rng.choice(_SIZES)
        case _ if type(shape[place - 1]) is int:
            shape[place - 1] += rng.choice((-1, 1))


def _fitting(rng: Random, tree: Tree) -> None:
    """A shape is changed, and the numbers with it, so that the tensor is right and only the call is not."""
    tensor = _some_tensor(rng, tree)
    shape = [size for size in tensor.get("shape", []) if type(size) is int and size >= 0]
    place = rng.randrange(len(shape) + 1)
    sizes = (0, 1, 2, 3, 5, 17)
    shape[place : place + rng.randrange(2)] = [rng.choice(sizes) for _ in range(rng.randrange(3))]
    if rng.random() < 0.1:  # noqa: PLR2004 - now and then
        shape[:0] = [1] * rng.choice((28, 31, 60, 62))
    if math.prod(shape) <= _MOST_NUMBERS and tensor:
        width = _ITEM_BYTES.get(str(tensor.get("dtype")), 8)
        tensor |= {"shape": shape, "data": rng.randbytes(width * math.prod(shape))}


def _empty(rng: Random, tree: Tree) -> None:
    """No numbers at all, whatever the other sizes are."""
    tensor = _some_tensor(rng, tree)
    if tensor:
        shape = [rng.choice((0, 1, 3, 70_000, 2**31 - 1)) for _ in range(rng.randrange(1, 5))]
        shape[rng.randrange(len(shape))] = 0
        tensor |= {"shape": shape, "data": b""}


def _dtype(rng: Random, tree: Tree) -> None:
    tensor = _some_tensor(rng, tree)
    if tensor:
        tensor["dtype"] = rng.choice(_DTYPES)


def _cast(rng: Random, tree: Tree) -> None:
    """Octets read as a dtype of other width, with a shape that fits."""
    tensor = _some_tensor(rng, tree)
    if tensor and isinstance(tensor["data"], bytes):
        dtype = rng.choice(list(_ITEM_BYTES))
        tensor |= {"dtype": dtype, "shape": [*tensor["shape"][:1], len(tensor["data"]) // _ITEM_BYTES[dtype]]}


def _numbers(rng: Random, tree: Tree) -> None:
    """Some octets of the numbers are others: not finite, denormal, zero, huge, or any."""
    tensor = _some_tensor(rng, tree)
    data = bytearray(tensor.get("data", b"") if isinstance(tensor.get("data"), bytes) else b"")
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        place, piece = rng.randrange(len(data)), rng.choice((*_SPECIAL, rng.randbytes(2)))
        times = rng.choice((1, 2, 4, 8, len(data)))
        data[place : place + len(piece) * times] = (piece * times)[: len(data) - place]
    if data:
        tensor["data"] = bytes(data)


def _length(rng: Random, tree: Tree) -> None:
    """The numbers have a few octets too many or too few."""
    tensor = _some_tensor(rng, tree)
    if isinstance(tensor.get("data"), bytes):
        by = rng.choice((-8, -4, -1, 1, 2, 8, 4096))
        tensor["data"] = tensor["data"][:by] if by < 0 else tensor["data"] + b"\0" * by


def _triangle(rng: Random, tree: Tree) -> None:
    tensor = _some_tensor(rng, tree)
    if tensor:
        tensor["uplo"] = rng.choice(("L", "U", "L", "U", "l", "", None, 1))
        data, shape = tensor["data"], tensor["shape"]
        if isinstance(data, bytes) and shape and type(shape[-1]) is int and rng.random() < 0.8:  # noqa: PLR2004 - mostly
            tensor["data"] = data[: len(data) * (shape[-1] + 1) // (2 * shape[-1])] if shape[-1] > 0 else b""


def _lists(rng: Random, tree: Tree) -> None:
    """A tensor is nested lists, regular or not."""
    inputs = [place for place in _places(tree) if isinstance(place[0][place[1]], dict) and "data" in place[0][place[1]]]
    if inputs:
        container, key = rng.choice(inputs)
        n, m = rng.randint(0, 4), rng.randint(1, 4)
        rows: Any = [[rng.gauss(0, 1) for _ in range(m)] for _ in range(n)]
        if rng.random() < 0.3 and n:  # noqa: PLR2004 - now and then
            rows[rng.randrange(n)][rng.randrange(m)] = _odd(rng)
        container[key] = rows


def _params(rng: Random, tree: Tree) -> None:
    """A parameter or an option has an odd value."""
    maps = [c[k] for c, k in _places(tree) if k in {"params", "options"} and isinstance(c[k], dict)]
    if maps:
        chosen = rng.choice(maps)
        known = (
            "r",
            "s",
            "tol",
            "deadline",
            "method",
            "precision",
            "damping",
            "steps",
            "coefficients",
            "certify",
            "lo",
        )
        chosen[rng.choice([*known, *chosen])] = rng.choice((_odd(rng), *_NEARLY))


CALL_DAMAGE: Final[Mapping[str, Callable[[Random, Tree], None]]] = {
    "value": _replace,
    "exchanged": _exchange,
    "key dropped": _drop,
    "key renamed": _rename,
    "key added": _add,
    "key twice": _repeat,
    "nested": _nest,
    "shape": _shape,
    "shape that fits its numbers": _fitting,
    "nothing in it": _empty,
    "dtype": _dtype,
    "octets as another dtype": _cast,
    "numbers": _numbers,
    "length": _length,
    "triangle": _triangle,
    "lists": _lists,
    "parameter": _params,
}
"""Kinds of damage to a call, in place."""
