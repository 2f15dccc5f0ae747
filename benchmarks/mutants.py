"""Requests that are almost right: calls of every function, damaged in values, octets or head, each from a seed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from matfn.wire import Media
from matfn_kernels import ENTRIES
from mutant_calls import tree_of
from mutant_heads import HEAD_DAMAGE, Head
from mutant_trees import CALL_DAMAGE, packed, written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mutant_calls import Tree

__all__ = ["Mutant", "mutant"]

_NAMES: Final = tuple(ENTRIES)
_READS: Final = ("/healthz", "/readyz", "/v1/functions", "/v1/status", "/metrics", "/", "/openapi.json")
_TOKENS: Final = (
    *(
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\x00\x01\x00\x00",
        b"\xc1",
        b"\xc6\x00\x01\x00\x00",
        b"\xd9\xff",
        b"\x80",
        b"\x90",
    ),
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"null",
        b"\\u0000",
        b"\0",
        b"//",
        b"\xff",
    ),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One damaged request.

    Attributes:
        kind: what was damaged, and how.
        octets: of the request.
        body: of it; empty where the head was damaged.
        function: whose route it goes to, or `calls`; empty where the head was damaged.
        media: of the body.
        may_wait: whether it may announce more than it sends.
    """

    kind: str
    octets: bytes
    body: bytes
    function: str
    media: Media
    may_wait: bool


def mutant(seed: int, number: int) -> Mutant:
    """The mutant of this number; the same for the same seed, whatever was made before."""
    rng = Random(f"{seed}/{number}")  # noqa: S311 - it keeps no secret
    media = rng.choice((Media.MSGPACK, Media.JSON))
    function, tree = _call(rng)
    drawn = rng.random()
    if drawn < 0.15:  # noqa: PLR2004 - shares of heads, octets and values
        return _with_head(rng, function, tree, media)
    if drawn < 0.4:  # noqa: PLR2004 - same
        return _with_octets(rng, function, tree, media)
    return _with_values(rng, function, tree, media)


def _call(rng: Random) -> tuple[str, Tree]:
    """The path below /v1 and the tree of a valid request."""
    if rng.random() < 0.2:  # noqa: PLR2004 - the share of requests with many calls
        names = [rng.choice(_NAMES) for _ in range(rng.randint(0, 5))]
        return "calls", {"calls": [{"function": name, **tree_of(rng, name)} for name in names]}
    name = rng.choice(_NAMES)
    return name, tree_of(rng, name)


def _encoded(tree: object, media: Media) -> bytes:
    return packed(tree) if media is Media.MSGPACK else written(tree)


def _with_values(rng: Random, function: str, tree: Tree, media: Media) -> Mutant:
    kinds = rng.sample(list(CALL_DAMAGE), rng.choice((1, 1, 1, 2)))
    damaged: dict[str, Any] = {"body": deepcopy(tree)}  # so that the whole of it can be replaced too
    for kind in kinds:
        CALL_DAMAGE[kind](rng, damaged)
        damaged.setdefault("body", None)
    return _posted("values: " + kinds[0], function, _encoded(damaged["body"], media), media)


def _with_octets(rng: Random, function: str, tree: Tree, media: Media) -> Mutant:
    kind = rng.choice(list(_OCTET_DAMAGE))
    body = bytearray(_encoded(tree, media))
    for _ in range(rng.choice((1, 1, 2, 5))):
        _OCTET_DAMAGE[kind](rng, body)
    return _posted(f"octets: {kind}", function, bytes(body), media)


def _posted(kind: str, function: str, body: bytes, media: Media) -> Mutant:
    head = Head.post(f"/v1/{function}", media.value, len(body))
    return Mutant(kind, head.octets() + body, body, function, media, may_wait=False)


def _with_head(rng: Random, function: str, tree: Tree, media: Media) -> Mutant:
    kind = rng.choice(list(HEAD_DAMAGE))
    is_read = rng.random() < 0.3  # noqa: PLR2004 - the share of GET
    body = b"" if is_read else _encoded(tree, media)
    head = Head.get(rng.choice(_READS)) if is_read else Head.post(f"/v1/{function}", media.value, len(body))
    for _ in range(rng.choice((1, 1, 2))):
        head = HEAD_DAMAGE[kind](rng, head)
    return Mutant(f"head: {kind}", head.octets() + body, b"", "", media, may_wait=True)


def _flip(rng: Random, body: bytearray) -> None:
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _other(rng: Random, body: bytearray) -> None:
    body[rng.randrange(len(body))] = rng.randrange(256)


def _cut_off(rng: Random, body: bytearray) -> None:
    del body[rng.randrange(1, len(body) + 1) :]


def _cut_out(rng: Random, body: bytearray) -> None:
    start = rng.randrange(len(body))
    if len(body) > 16:  # noqa: PLR2004 - something is left
        del body[start : start + rng.choice((1, 2, 8))]


def _again(rng: Random, body: bytearray) -> None:
    start, place = rng.randrange(len(body)), rng.randrange(len(body))
    body[place:place] = body[start : start + rng.choice((1, 4, 64))]


def _insert(rng: Random, body: bytearray) -> None:
    place = rng.randrange(len(body) + 1)
    body[place:place] = rng.choice(_TOKENS)


def _overwrite(rng: Random, body: bytearray) -> None:
    token, place = rng.choice(_TOKENS), rng.randrange(len(body))
    body[place : place + len(token)] = token


_OCTET_DAMAGE: Final[Mapping[str, Callable[[Random, bytearray], None]]] = {
    "bit flipped": _flip,
    "octet replaced": _other,
    "cut off": _cut_off,
    "cut out": _cut_out,
    "repeated": _again,
    "inserted": _insert,
    "overwritten": _overwrite,
}
