"""Damage to the head of a request: its line, its headers, its framing and single octets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

__all__ = ["HEAD_DAMAGE", "Head"]


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request, line by line.

    Attributes:
        line: its method, target and version, with what stands between them.
        headers: without the ends of their lines.
        damage: places and octets that replace those of the whole head.
    """

    line: bytes
    headers: tuple[bytes, ...]
    damage: tuple[tuple[float, int], ...] = ()

    @classmethod
    def post(cls, path: str, media: str, length: int) -> Head:
        """A request with a body."""
        headers = (f"Content-Type: {media}", f"Accept: {media}", f"Content-Length: {length}")
        return cls(f"POST {path} HTTP/1.1".encode(), (b"Host: m", *map(str.encode, headers)))

    @classmethod
    def get(cls, path: str) -> Head:
        """A request without one."""
        return cls(f"GET {path} HTTP/1.1".encode(), (b"Host: m",))

    def octets(self) -> bytes:
        """The head as it is sent."""
        head = bytearray(b"\r\n".join([self.line, *self.headers, b"", b""]))
        for place, octet in self.damage:
            head[int(place * len(head))] = octet
        return bytes(head)


_METHODS: Final = (b"GET", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"post", b"FOO", b"")
_VERSIONS: Final = (
    *(
        b"HTTP/1.0",
        b"HTTP/1.2",
        b"HTTP/1.9",
        b"HTTP/2.0",
        b"HTTP/3.0",
        b"HTTP/0.9",
        b"HTTP/9.9",
        b"HTTP/1.10",
        b"HTTP/2",
    ),
    *(b"http/1.1", b"HTTP 1.1", b"HTTP/1.", b"HTTP/", b"HTTP/01.1", b"ICE/1.0", b""),
)
_TARGETS: Final = (
    *(b"/", b"//", b"/v1", b"/v1/", b"/v1//inv_root", b"/v1/inv_root/", b"/v1/../v1/inv_root", b"/v1/%69nv_root"),
    *(b"/v1/inv_root?x=1", b"/v1/inv_root#x", b"/v1/calls", b"/v1/verify/delta_rule", b"/v1/verify/", b"/v1/INV_ROOT"),
    *(
        b"*",
        b"http://m/healthz",
        b"http://m:99999/",
        b"inv_root",
        b"/%",
        b"/%00",
        b"/%ff",
        b"/\xff",
        b"/v1/" + b"a" * 3000,
    ),
    *(b"/docs", b"/healthz", b"/v1/functions", b"/v1/status", b"?", b"/v1/verify%2Finv_root", b"/v1/\xc3\xa4"),
)
_HEADERS: Final = (
    *(b"Host: n", b"Host:", b"host: m", b"Content-Length: 0", b"Content-Length: 1", b"Content-Length: -1"),
    *(b"Content-Length: 999999999999", b"Content-Length: 99999999999999999999", b"Content-Length: 0x10"),
    *(b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length: ", b"Content-Length: 00000000000000000000012"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity"),
    *(b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: \x0bchunked"),
    *(
        b"Content-Type: text/plain",
        b"Content-Type: application/json; charset=utf-16",
        b"Content-Type:",
        b"Content-Type: \xff",
    ),
    *(b"Content-Encoding: gzip", b"Content-Encoding: identity", b"Content-Encoding: ", b"Expect: 100-continue"),
    *(
        b"Accept: text/html",
        b"Accept: */*;q=0",
        b"Accept: application/json;q=0.1, application/msgpack",
        b"Accept: ;;;,,,q=9",
    ),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"),
    *(
        b"Authorization: Bearer a",
        b"Authorization: Basic YTpi",
        b"authorization:",
        b"X-Request-Id: a b",
        b"X-Request-Id: ok-1",
    ),
    *(
        b"X-Request-Id: " + b"a" * 200,
        b"X-Matfn-Offset: 10",
        b"X-Matfn-Offset: -1",
        b"X-Matfn-Offset: 99999999999999999999",
    ),
    *(
        b"X-Matfn-Segment: a 10",
        b"X-Matfn-Segment: 10",
        b"X-Matfn-Segment:",
        b"X-Matfn-Triangle: U",
        b"X-Matfn-Triangle: x",
    ),
    *(b"X-Matfn-Key: \xff", b"traceparent: 00-zz", b"HTTP2-Settings: AAMAAABkAAQAAP__", b"TE: trailers", b"Trailer: a"),
    *(
        b"no colon",
        b": no name",
        b"a b: c",
        b"a\0: b",
        b"a: b\0c",
        b" folded",
        b"a:\tb",
        b"a: \x80\xff",
        b"a: b\rc",
        b"a: b\nc",
    ),
    *(
        b"A: " + b"x" * 70_000,
        b"Range: bytes=0-1",
        b"If-None-Match: *",
        b"Cookie: a=b",
        b"Origin: null",
        b"Forwarded: for=_",
    ),
)


def _method(rng: Random, head: Head) -> Head:
    return _with_word(head, 0, rng.choice(_METHODS))


def _target(rng: Random, head: Head) -> Head:
    return _with_word(head, 1, rng.choice(_TARGETS))


def _version(rng: Random, head: Head) -> Head:
    return _with_word(head, 2, rng.choice(_VERSIONS))


def _with_word(head: Head, place: int, word: bytes) -> Head:
    words = head.line.split(b" ")
    if place < len(words):
        words[place] = word
    return replace(head, line=b" ".join(words))


def _spaces(rng: Random, head: Head) -> Head:
    gap = rng.choice((b"  ", b"\t", b"", b" \t ", b"\0"))
    return replace(head, line=head.line.replace(b" ", gap, rng.choice((1, 2))))


def _added(rng: Random, head: Head) -> Head:
    place = rng.randrange(len(head.headers) + 1)
    return replace(head, headers=(*head.headers[:place], rng.choice(_HEADERS), *head.headers[place:]))


def _replaced(rng: Random, head: Head) -> Head:
    """A header of the same name, if there is one, makes room."""
    new = rng.choice(_HEADERS)
    name = new.partition(b":")[0].strip().lower()
    kept = tuple(one for one in head.headers if one.partition(b":")[0].strip().lower() != name)
    return replace(head, headers=(*kept, new))


def _dropped(rng: Random, head: Head) -> Head:
    place = rng.randrange(len(head.headers) + 1)
    return replace(head, headers=head.headers[:place] + head.headers[place + 1 :])


def _twice(rng: Random, head: Head) -> Head:
    place = rng.randrange(len(head.headers) + 1)
    return replace(head, headers=head.headers + head.headers[place : place + 1])


def _shuffled(rng: Random, head: Head) -> Head:
    return replace(head, headers=tuple(rng.sample(head.headers, len(head.headers))))


def _case(rng: Random, head: Head) -> Head:
    return replace(head, headers=tuple(rng.choice((one.upper(), one.lower(), one.swapcase())) for one in head.headers))


def _length(rng: Random, head: Head) -> Head:
    """A Content-Length that is off by a little."""
    by = rng.choice((-1, 1, -10, 10, 1000))
    return replace(head, headers=tuple(_lengthened(one, by) for one in head.headers))


def _lengthened(header: bytes, by: int) -> bytes:
    name, _, value = header.partition(b": ")
    return b"%b: %d" % (name, max(int(value) + by, 0)) if name == b"Content-Length" and value.isdigit() else header


def _octet(rng: Random, head: Head) -> Head:
    return replace(head, damage=(*head.damage, (rng.random(), rng.randrange(256))))


def _many(rng: Random, head: Head) -> Head:
    number = rng.choice((10, 100, 2000))
    return replace(head, headers=(*head.headers, *(b"X-%d: %d" % (one, one) for one in range(number))))


HEAD_DAMAGE: Final[Mapping[str, Callable[[Random, Head], Head]]] = {
    "method": _method,
    "target": _target,
    "version": _version,
    "spaces": _spaces,
    "header added": _added,
    "header replaced": _replaced,
    "header dropped": _dropped,
    "header twice": _twice,
    "headers shuffled": _shuffled,
    "headers' case": _case,
    "length": _length,
    "octet": _octet,
    "many headers": _many,
}
"""Kinds of damage to a head."""
