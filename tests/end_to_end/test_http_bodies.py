"""Bodies arrive whole however the network cuts them, and what follows on the connection is read as the next request."""

from __future__ import annotations

from http.client import parse_headers
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matfn import wire
from scripted import matrices

if TYPE_CHECKING:
    from processes import ServerProcess

ORDERS = 150, 7, 120, 30
CALLS = [wire.encode_call(wire.Call("msign", {"m": matrices(n, n)}, {}, {}), wire.Media.MSGPACK) for n in ORDERS]


def request(buffers: list[wire.Buffer], *headers: str) -> bytes:
    """A POST as it goes over the wire."""
    content = b"".join(buffers)
    lines = [
        "POST /v1/msign HTTP/1.1",
        "Host: matfn",
        "Content-Type: application/msgpack",
        f"Content-Length: {len(content)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + content


def answer(stream: BinaryIO) -> bytes:
    """The bits of the polar factor in the next answer on a connection."""
    assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
    size = int(parse_headers(stream)["content-length"])
    found = wire.decode_answer(stream.read(size), wire.Media.MSGPACK)
    return bytes(found.outputs["x"].data)


@pytest.fixture(scope="module")
def expected(server: ServerProcess) -> list[bytes]:
    """What each call gets when it comes alone and at once."""
    found = []
    for buffers in CALLS:
        with server.connect() as connection, connection.makefile("rb") as stream:
            connection.sendall(request(buffers))
            found.append(answer(stream))
    return found


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=6), st.permutations(range(len(CALLS))), st.booleans())
def test_cuts_make_no_difference(
    server: ServerProcess, expected: list[bytes], cuts: list[float], order: list[int], offset_is_told: bool
) -> None:
    """Requests one behind the other on a connection, cut anywhere, get what each gets alone."""
    stream = b"".join(
        request(CALLS[i], *([f"X-Matfn-Offset: {wire.offset_of(CALLS[i])}"] if offset_is_told else [])) for i in order
    )
    places = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]
    with server.connect() as connection, connection.makefile("rb") as answers:
        for start, stop in pairwise(places):
            connection.sendall(stream[start:stop])

        assert [answer(answers) for _ in order] == [expected[i] for i in order]
