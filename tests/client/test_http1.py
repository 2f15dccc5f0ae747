"""The response parser: bytes in, a response or an error out, no socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn._aligned import address_of
from matfn.endpoint import Endpoint
from matfn.errors import MatfnError, ProtocolError, TransportError
from matfn.http1 import Request, ResponseParser, coalesced, head_of

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def fed(data: bytes, step: int = 1 << 20) -> ResponseParser:
    """A parser that received the data in pieces of `step` bytes."""
    parser = ResponseParser()
    while data:
        buffer = parser.buffer()
        count = min(step, len(data), len(buffer))
        buffer[:count] = data[:count]
        parser.received(count)
        data = data[count:]
    return parser


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 5\r\n\r\nhello",
        HEAD + b"content-length:5\r\ncontent-length: 5\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"2;x=y\r\nhe\r\n3 \r\nllo\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 -\r\nlink: x\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello",
    ],
)
def test_framed_response_is_read_and_the_connection_kept(data: bytes, step: int) -> None:
    """Any split of the bytes gives the same response, and the connection may go on."""
    parser = fed(data, step)

    assert parser.done
    assert parser.reusable
    assert (parser.response.status, bytes(parser.response.body)) == (200, b"hello")


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"content-length: 2\r\n\r\nok and more",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1",
        HEAD + b"content-length: 7\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_doubtful_connection_is_not_kept(data: bytes) -> None:
    """A response that ends the connection, or leaves doubt where it ends, is the connection's last."""
    parser = fed(data)

    assert parser.done
    assert not parser.reusable
    assert bytes(parser.response.body) == b"ok"


def test_body_without_length_ends_with_the_connection() -> None:
    """Neither length nor chunks: everything up to the close is the body."""
    parser = fed(HEAD + b"\r\nhel")
    assert not parser.done

    parser.closed()

    assert parser.done
    assert bytes(parser.response.body) == b"hel"


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_status_is_done_with_its_head(status: int) -> None:
    """204 and 304 have no body whatever else they say."""
    assert fed(f"HTTP/1.1 {status} -\r\n\r\n".encode()).done


@pytest.mark.parametrize(
    "data",
    [b"", HEAD, HEAD + b"content-length: 5\r\n\r\nhel", CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhello\r\n0\r\n"],
)
def test_cut_response_is_a_transport_error(data: bytes) -> None:
    """A connection that ends before the response does was no answer."""
    parser = fed(data)

    with pytest.raises(TransportError, match="closed the connection"):
        parser.closed()


@pytest.mark.parametrize(
    "data",
    [
        b"220 smtp.example.org ESMTP\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"name : value\r\n\r\n",
        HEAD + b" folded: value\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 1, 2\r\n\r\n",
        HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        HEAD + b"content-length: " + b"9" * 30 + b"\r\n\r\n",
        HEAD + b"content-length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"transfer-encoding: gzip\r\n\r\n",
        CHUNKED + b"x\r\n",
        CHUNKED + b"2\r\nokay\r\n",
        CHUNKED + b"1" * 70000,
        HEAD + b"x: " + b"y" * 70000,
    ],
)
def test_broken_response_is_a_protocol_error(data: bytes) -> None:
    """What is not HTTP/1.1, or contradicts itself, is refused."""
    with pytest.raises(ProtocolError):
        fed(data)


@given(data=st.binary(max_size=300), start=st.sampled_from([b"", HEAD, CHUNKED, HEAD + b"content-length: 9\r\n"]))
def test_noise_raises_only_our_errors(data: bytes, start: bytes) -> None:
    """Whatever a server sends, it is a response, unfinished, or an error of the package."""
    try:
        parser = fed(start + data)
        parser.closed()
    except MatfnError:
        return
    assert parser.done


def test_body_lies_where_it_was_received() -> None:
    """The buffer given out for a body of known length is that body's own memory."""
    parser = fed(HEAD + b"content-length: 4\r\n\r\n")
    buffer = parser.buffer()
    assert len(buffer) == 4

    buffer[:] = b"here"
    parser.received(4)

    assert parser.response.body == b"here"


@pytest.mark.parametrize("offset", [0, 1, 57, 64, 200])
def test_body_lies_where_its_numbers_are_aligned(offset: int) -> None:
    """The byte that the server names begins a multiple of 64, even beyond the body's end."""
    parser = fed(HEAD + b"content-length: 100\r\nx-matfn-offset: %d\r\n\r\n" % offset + bytes(100))

    body = parser.response.body

    assert isinstance(body, memoryview)
    assert (address_of(body) + offset) % 64 == 0


@pytest.mark.parametrize("offset", [b"-1", b"x", b"\xb2", b"", b"9" * 5000])
def test_offset_that_is_none_is_ignored(offset: bytes) -> None:
    """What only saves a copy is no reason to lose an answer."""
    parser = fed(HEAD + b"content-length: 2\r\nx-matfn-offset: " + offset + b"\r\n\r\nok")

    assert parser.response.body == b"ok"


def test_head_names_host_target_and_length() -> None:
    """The request line carries the prefix, the length counts all buffers."""
    endpoint = Endpoint.parse("https://example.org:8443/matfn/")

    head = head_of(Request("POST", "/v1/msign", (("Accept", "x"),), (b"ab", b"c")), endpoint)

    assert head == (
        b"POST /matfn/v1/msign HTTP/1.1\r\nHost: example.org:8443\r\nAccept: x\r\nContent-Length: 3\r\n\r\n"
    )


def test_header_cannot_smuggle_a_line() -> None:
    """A key with a line break would be a second header."""
    request = Request("GET", "/", (("Authorization", "Bearer a\r\nX: y"),))

    with pytest.raises(ValueError, match="line break"):
        head_of(request, Endpoint.parse("http://localhost"))


def test_small_adjacent_buffers_are_joined() -> None:
    """Adjacent small buffers are joined in order; a large one is not copied."""
    large = bytes(1 << 20)

    joined = coalesced([b"a", b"b", large, b"c", b"d"])

    assert joined == [b"ab", large, b"cd"]
    assert joined[1] is large


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("https://example.org/a/", "https://example.org/a"),
        ("unix:///run/matfn.sock", "unix:///run/matfn.sock"),
    ],
)
def test_base_url_is_understood(url: str, shown: str) -> None:
    """HTTP, HTTPS and unix sockets, with or without a prefix."""
    assert str(Endpoint.parse(url)) == shown


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x", "http://", "http://x?y", "http://u:p@x", "unix://run/x", "http://x:99999"]
)
def test_bad_base_url_is_refused(url: str) -> None:
    """A URL that is no base URL fails when the client is made."""
    with pytest.raises(ValueError, match=r".+"):
        Endpoint.parse(url)
