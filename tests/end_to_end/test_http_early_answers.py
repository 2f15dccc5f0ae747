"""Answers given before the body's end reach a sender who is in the middle of it."""

from __future__ import annotations

from http.client import HTTPResponse
from typing import TYPE_CHECKING

import pytest

from matfn import wire
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def strict() -> Iterator[ServerProcess]:
    """A server with a key and a small limit."""
    with running_server(api_keys="secret", max_request_bytes=str(LIMIT)) as server:
        yield server


def head(path: str, *headers: str) -> bytes:
    """The head of a POST."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: matfn", *headers, "", ""]).encode()


def answer(connection: socket.socket) -> tuple[int, str, str | None]:
    """Status, code and Connection header of the answer."""
    response = HTTPResponse(connection)
    response.begin()
    problem = wire.decode_problem(response.read(), response.headers["content-type"])
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
    strict: ServerProcess, path: str, headers: list[str], expected: tuple[int, str, str]
) -> None:
    """A blocking sender of 32 MiB gets to the end and finds the answer, not a reset."""
    size = 32 << 20
    with strict.connect() as connection:
        connection.sendall(head(path, *headers, f"Content-Length: {size}"))
        connection.sendall(bytes(size))

        assert answer(connection) == expected
        assert connection.recv(1) == b""


def test_chunked_body_is_counted(strict: ServerProcess) -> None:
    """A body of undeclared length is refused when it has grown too large, and its sender reads why."""
    with strict.connect() as connection:
        connection.sendall(head("/v1/msign", KEY, JSON, "Transfer-Encoding: chunked"))
        for _ in range(8):
            connection.sendall(b"%x\r\n%b\r\n" % (LIMIT // 2, bytes(LIMIT // 2)))
        connection.sendall(b"0\r\n\r\n")

        assert answer(connection) == (413, "too_large", "close")


def test_sender_who_stalls_is_answered_after_a_while(strict: ServerProcess) -> None:
    """Who stops in the middle of a refused body is answered within a few seconds."""
    with strict.connect() as connection:
        connection.settimeout(10)
        connection.sendall(head("/v1/msign", JSON, "Content-Length: 1000000"))
        connection.sendall(bytes(10))

        assert answer(connection) == (401, "unauthorized", "close")


def test_sender_who_asks_first_need_not_send(strict: ServerProcess) -> None:
    """With Expect: 100-continue a refusal comes instead of the invitation."""
    with strict.connect() as connection:
        connection.sendall(head("/v1/msign", KEY, JSON, "Content-Length: 9000000", "Expect: 100-continue"))

        assert answer(connection) == (413, "too_large", "close")


def test_what_is_no_http_is_malformed(strict: ServerProcess) -> None:
    """Bytes that are no request get a problem document too."""
    with strict.connect() as connection:
        connection.sendall(b"\x00\x01 nonsense\r\n\r\n")

        assert answer(connection) == (400, "malformed", "close")


def test_failures_are_one_line_each(strict: ServerProcess) -> None:
    """What callers do wrong never shows a traceback in the log."""
    with strict.connect() as connection:
        connection.sendall(head("/v1/msign", JSON, "X-Request-Id: last", "Content-Length: 2") + b"{}")
        answer(connection)
    strict.wait_for("request failed", request_id="last")

    assert not [line for line in strict.lines if "exception" in line or line["event"] == "unstructured"]
