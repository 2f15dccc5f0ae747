"""Heads of requests, whatever callers write in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn import wire
from matfn._aligned import address_of
from matfn_service.body import discard, read
from matfn_service.heads import Head, accepted_media, media_of, parse_head
from matfn_service.problems import CallerLeft, Refusal
from scripted import endless_account

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

MSGPACK, JSON = wire.Media.MSGPACK, wire.Media.JSON


def head_of(**headers: str) -> Head:
    """The head of a POST with these headers, underscores for hyphens."""
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return parse_head({"method": "POST", "path": "/v1/msign", "headers": raw}, now=0.0)


names = st.sampled_from(
    [
        b"accept",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"x-request-id",
        b"authorization",
        b"expect",
        b"x-matfn-offset",
    ]
)


@given(st.lists(st.tuples(names, st.binary())))
def test_no_head_is_too_odd(headers: list[tuple[bytes, bytes]]) -> None:
    """Any bytes in the headers give a head with a good request id."""
    head = parse_head({"method": "POST", "path": "/", "headers": headers}, now=0.0)

    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", head.request_id)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/msgpack", MSGPACK),
        ("APPLICATION/MSGPACK", MSGPACK),
        ("application/problem+msgpack", MSGPACK),
        ("text/html, application/msgpack;q=0.5, application/json;q=0.4", MSGPACK),
        ("application/msgpack;q=0.4, */*;q=0.5", JSON),
        ("application/msgpack;q=0", JSON),
        ("application/msgpack, application/json", JSON),
        ("nonsense;;q=x,", JSON),
    ],
)
def test_accept_is_weighed(accept: str, expected: wire.Media) -> None:
    """The best known format wins; on a tie and without one it is the request's own."""
    assert accepted_media(accept, JSON) is expected


@pytest.mark.parametrize("name", ["application/msgpack", "Application/X-Msgpack", "application/vnd.msgpack; v=5"])
def test_msgpack_has_several_names(name: str) -> None:
    """The names that libraries use for msgpack are all understood."""
    assert media_of(head_of(content_type=name)) is MSGPACK


class Sender:
    """An ASGI channel that gives these chunks."""

    def __init__(self, *chunks: bytes | None) -> None:
        self._chunks = list(chunks)

    async def __call__(self) -> MutableMapping[str, Any]:
        """The next message; None is a hang-up."""
        chunk = self._chunks.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks)}


@pytest.mark.anyio
@pytest.mark.parametrize("length", [None, 6])
async def test_body_is_put_together(length: int | None) -> None:
    """The chunks make one writable piece of memory, whether the length was declared or not."""
    body = await read(Sender(b"abc", b"", b"de", b"f"), length, 6, endless_account())

    assert (bytes(body), body.readonly) == (b"abcdef", False)


@pytest.mark.anyio
@pytest.mark.parametrize("offset", [0, 1, 63, 100])
async def test_body_is_laid_where_its_numbers_are_aligned(offset: int) -> None:
    """The byte at the offset that the sender names begins a multiple of 64."""
    body = await read(Sender(bytes(200)), 200, 200, endless_account(), offset)

    assert (address_of(body) + offset) % 64 == 0


@pytest.mark.parametrize(("offset", "expected"), [("57", 57), ("-1", 0), ("\xb2", 0), ("", 0), ("9" * 99, 0)])
def test_offset_is_a_number_or_nothing(offset: str, expected: int) -> None:
    """What only saves a copy is no reason to refuse a request."""
    assert head_of(x_matfn_offset=offset).offset == expected


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("length", "chunks", "code"),
    [
        (7, [b"abcdefg"], "too_large"),
        (None, [b"abc", b"defg"], "too_large"),
        (6, [b"abc"], "malformed"),
        (2, [b"abc"], "malformed"),
    ],
)
async def test_wrong_lengths_are_refused(length: int | None, chunks: list[bytes], code: str) -> None:
    """A body that is too long, or not as long as declared, is refused."""
    with pytest.raises(Refusal) as refused:
        await read(Sender(*chunks), length, 6, endless_account())

    assert refused.value.code == code


@pytest.mark.anyio
@pytest.mark.parametrize("use", [lambda receive: read(receive, 9, 9, endless_account()), discard])
async def test_hang_up_in_the_body_is_noticed(use: Callable[[Sender], Awaitable[object]]) -> None:
    """A caller who leaves in the middle of its body is gone, not wrong."""
    with pytest.raises(CallerLeft):
        await use(Sender(b"abc", None))


@pytest.mark.anyio
async def test_discarding_ends_at_its_bound() -> None:
    """No more than 64 MiB of a refused body are read."""
    sender = Sender(*[bytes(1 << 20)] * 100)
    await discard(sender)

    assert len(sender._chunks) == 36
