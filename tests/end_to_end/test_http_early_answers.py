"""Answers given before the body's end reach a sender who is in the middle of it."""

from __future__ import annotations

from http.client import HTTPResponse
from typing import TYPE_CHECKING

import pytest

from guarded_server import LIMIT
from matfn import wire
from matfn_service.http_protocol import MOST_PIPELINED

if TYPE_CHECKING:
    import socket

    from matfn.errors import Problem
    from processes import ServerProcess


def head(path: str, *headers: str) -> bytes:
    """The head of a POST."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: matfn", *headers, "", ""]).encode()


def refusal(connection: socket.socket) -> tuple[HTTPResponse, Problem]:
    """The answer, and the problem in it."""
    response = HTTPResponse(connection)
    response.begin()
    return response, wire.decode_problem(response.read(), response.headers["content-type"])


def answer(connection: socket.socket) -> tuple[int, str, str | None]:
    """Status, code and Connection header of the answer."""
    response, problem = refusal(connection)
    return response.status, problem.code, response.headers["connection"]


KEY = "Authorization: Bearer secret"
JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/v1/msign", [JSON], (401, "unauthorized", "close")),
        ("/v1/nothing", [KEY, JSON], (404, "unknown_function", "close")),
        ("/nothing", [KEY, JSON], (404, "not_found", "close")),
        ("/v1/msign", [KEY], (415, "unsupported_media_type", "close")),
        ("/v1/msign", [KEY, JSON], (413, "too_large", "close")),
    ],
)
def test_sender_of_a_large_body_reads_the_answer(
    guarded: ServerProcess, path: str, headers: list[str], expected: tuple[int, str, str]
) -> None:
    """A blocking sender of 32 MiB gets to the end and finds the answer, not a reset."""
    size = 32 << 20
    with guarded.connect() as connection:
        connection.sendall(head(path, *headers, f"Content-Length: {size}"))
        connection.sendall(bytes(size))

        assert answer(connection) == expected
        assert connection.recv(1) == b""


def test_chunked_body_is_counted(guarded: ServerProcess) -> None:
    """A body of undeclared length is refused when it has grown too large, and its sender reads why."""
    with guarded.connect() as connection:
        connection.sendall(head("/v1/msign", KEY, JSON, "Transfer-Encoding: chunked"))
        for _ in range(8):
            connection.sendall(b"%x\r\n%b\r\n" % (LIMIT // 2, bytes(LIMIT // 2)))
        connection.sendall(b"0\r\n\r\n")

        assert answer(connection) == (413, "too_large", "close")


def test_sender_who_stalls_is_answered_after_a_while(guarded: ServerProcess) -> None:
    """Who stops in the middle of a refused body is answered within a few seconds."""
    with guarded.connect() as connection:
        connection.settimeout(10)
        connection.sendall(head("/v1/msign", JSON, "Content-Length: 1000000"))
        connection.sendall(bytes(10))

        assert answer(connection) == (401, "unauthorized", "close")


def test_sender_who_asks_first_need_not_send(guarded: ServerProcess) -> None:
    """With Expect: 100-continue a refusal comes instead of the invitation."""
    with guarded.connect() as connection:
        connection.sendall(head("/v1/msign", KEY, JSON, "Content-Length: 9000000", "Expect: 100-continue"))

        assert answer(connection) == (413, "too_large", "close")


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        (b"\x00\x01 nonsense\r\n\r\n", None),
        (head("/v1/msign", "X-Request-Id: mine", "Content-Length: many"), "mine"),
        (head("/v1/msign", KEY, JSON, "X-Request-Id: mine", CHUNKED) + b"zz\r\n" + bytes(4 << 20), "mine"),
        (head("/v1/msign", "X-Request-Id: not good", "Content-Length: -1"), None),
    ],
    ids=["request line", "length", "chunk", "id"],
)
def test_what_is_no_http_is_malformed(guarded: ServerProcess, sent: bytes, named: str | None) -> None:
    """Bytes that are no request get a problem document with an id, which the log has too."""
    with guarded.connect() as connection:
        connection.sendall(sent)
        response, problem = refusal(connection)

    assert (response.status, problem.code, response.headers["connection"]) == (400, "malformed", "close")
    assert problem.request_id == response.headers["x-request-id"]
    assert problem.request_id == named or (named is None and len(problem.request_id) == 32)
    guarded.wait_for("request refused", request_id=problem.request_id)


LARGE = 128 << 10


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * LARGE + b" HTTP/1.1\r\n\r\n",
        head("/v1/msign", f"X-Large: {'a' * LARGE}"),
        head("/v1/msign", *(f"X-{number}: {'a' * 1000}" for number in range(128))),
        head("/v1/msign", f"X-Endless: {'a' * 16 * LARGE}")[:-4],
        head("/v1/msign", KEY, JSON, CHUNKED) + b"0\r\nX-Trailer: " + b"a" * LARGE + b"\r\n\r\n",
        head("/v1/msign", KEY, JSON, CHUNKED) + b"1;" + b"a" * 16 * LARGE,
    ],
    ids=["path", "header", "headers", "endless header", "trailer", "chunk extension"],
)
def test_head_is_bounded(guarded: ServerProcess, sent: bytes) -> None:
    """More than 64 KiB before or around a body are refused, whether they end or not, and the sender reads why."""
    with guarded.connect() as connection:
        connection.sendall(sent)
        response, problem = refusal(connection)

        assert (response.status, problem.code, response.headers["connection"]) == (431, "malformed", "close")
        assert connection.recv(1) == b""


def test_large_head_within_the_bound_is_read(guarded: ServerProcess) -> None:
    """60 KiB of headers are no fault, on every request of a connection."""
    with guarded.connect() as connection:
        for _ in range(3):
            connection.sendall(head("/v1/msign", KEY, "Content-Length: 0", f"X-Large: {'a' * (60 << 10)}"))

            assert answer(connection) == (415, "unsupported_media_type", None)


def test_failures_are_one_line_each(guarded: ServerProcess) -> None:
    """What callers do wrong never shows a traceback in the log."""
    with guarded.connect() as connection:
        connection.sendall(head("/v1/msign", JSON, "X-Request-Id: last", "Content-Length: 2") + b"{}")
        answer(connection)
    guarded.wait_for("request failed", request_id="last")

    assert not [line for line in guarded.lines if "exception" in line or line["event"] == "unstructured"]


@pytest.mark.parametrize("asked", ["h2c", "websocket"])
def test_another_protocol_is_not_taken_up(guarded: ServerProcess, asked: str) -> None:
    """A caller that would rather speak HTTP/2, as curl and Java do at first, gets its answer over HTTP/1.1."""
    body = b'{"inputs": {"m": [[1, 2], [3, 4]]}}'
    upgrade = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {asked}", "HTTP2-Settings: AAMAAABkAAQAoAAA")
    with guarded.connect() as connection:
        connection.sendall(head("/v1/msign", KEY, JSON, *upgrade, f"Content-Length: {len(body)}") + body)
        response = HTTPResponse(connection)
        response.begin()

        assert response.status == 200
        assert b"certificates" in response.read()


def _small_call() -> bytes:
    body = b'{"inputs": {"m": [[1, 2], [3, 4]]}}'
    return head("/v1/msign", KEY, JSON, f"Content-Length: {len(body)}") + body


def test_who_pipelines_and_leaves_is_forgotten(guarded: ServerProcess) -> None:
    """Requests whose caller is gone before their turn end without a trace in the log."""
    for sent in (_small_call() * 3, _small_call() * 3 + b"nonsense\r\n\r\n"):
        with guarded.connect() as connection:
            connection.sendall(sent)
    with guarded.connect() as connection:
        connection.sendall(_small_call())
        response = HTTPResponse(connection)
        response.begin()

    assert response.status == 200
    assert "Exception in ASGI" not in str(guarded.lines)


def test_pipelined_requests_are_bounded(guarded: ServerProcess) -> None:
    """A caller that never waits for answers is told so."""
    with guarded.connect() as connection:
        connection.sendall(_small_call() * (2 * MOST_PIPELINED))
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    assert b"wait for their answers" in received
