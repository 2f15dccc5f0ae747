"""Requests that are odd, or no requests, on a real server: each has the answer that HTTP's rules give it."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from http.client import HTTPResponse

import pytest

from matfn_service.http_protocol import MOST_PIPELINED
from processes import ServerProcess, running_server
from scraped import samples

BODY = b'{"inputs": {"m": [[1, 2], [3, 4]]}}'
KEY = "Authorization: Bearer secret"
UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAA")


def request(*headers: str, body: bytes = BODY, target: str = "POST /v1/msign") -> bytes:
    """A request with a key and these headers."""
    lines = [f"{target} HTTP/1.1", "Host: m", KEY, "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def chunked(*trailers: str, headers: tuple[str, ...] = (KEY,)) -> bytes:
    """A request whose body comes in chunks, with trailers behind."""
    lines = [
        "POST /v1/msign HTTP/1.1",
        "Host: m",
        *headers,
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    return head + b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY) + "\r\n".join([*trailers, "", ""]).encode()


def raw(*lines: str) -> bytes:
    """A head as it is."""
    return "\r\n".join([*lines, "", ""]).encode()


def said(connection: socket.socket, most: int | None = None) -> list[tuple[int, str]]:
    """Status, and code where there is one, of so many answers, or of all until the connection ends."""
    answers: list[tuple[int, str]] = []
    with connection.makefile("rb") as stream:
        while len(answers) != most and (line := stream.readline()):
            headers = dict(header.lower().split(b": ", 1) for header in iter(stream.readline, b"\r\n"))
            content = stream.read(int(headers[b"content-length"]))
            is_json = b"json" in headers.get(b"content-type", b"")
            answers.append((int(line.split()[1]), json.loads(content).get("code", "") if is_json else ""))
    return answers


def statuses(connection: socket.socket, number: int) -> list[int]:
    """The statuses of so many answers."""
    return [status for status, _ in said(connection, number)]


def sent(server: ServerProcess, packet: bytes) -> list[tuple[int, str]]:
    """The answers to a packet, until the connection ends."""
    with server.connect() as connection:
        connection.sendall(packet)
        return said(connection)


@pytest.mark.parametrize("cut", [1, 30, 150, 230])
def test_an_upgrade_is_ignored_wherever_it_is_cut(guarded: ServerProcess, cut: int) -> None:
    """A request that would speak another protocol is answered in this one, however its packets come."""
    whole = request(*UPGRADE)
    with guarded.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(whole[:cut])
        guarded.get("/healthz")  # the first packet is read by now
        connection.sendall(whole[cut:])

        assert statuses(connection, 1) == [200]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "odd",
    [request(*UPGRADE), chunked(headers=(KEY, *UPGRADE)), raw("GET /v1/functions HTTP/1.1", "Host: m", KEY, *UPGRADE)],
    ids=["length", "chunks", "no body"],
)
def test_an_upgrade_is_ignored_in_any_pipelined_request(guarded: ServerProcess, place: int, odd: bytes) -> None:
    """The requests around one that asks for another protocol are answered, and so is that."""
    requests = [request()] * 3
    requests[place] = odd
    with guarded.connect() as connection:
        connection.sendall(b"".join(requests))

        assert statuses(connection, 3) == [200, 200, 200]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("trailer", "headers", "status"),
    [(KEY, (), 401), ("Content-Encoding: gzip", (KEY,), 200), ("X-Request-Id: other", (KEY,), 200)],
)
def test_trailers_are_no_headers(
    guarded: ServerProcess, trailer: str, headers: tuple[str, ...], status: int, split: bool
) -> None:
    """What follows a chunked body changes nothing, whether it comes with the head or later."""
    whole = chunked(trailer, headers=headers)
    cut = len(whole) - 5 if split else len(whole)
    with guarded.connect() as connection:
        connection.sendall(whole[:cut])
        guarded.get("/healthz")
        connection.sendall(whole[cut:])
        response = HTTPResponse(connection)
        response.begin()

        assert response.status == status
        assert response.headers["x-request-id"] != "other"


POST = "POST /v1/msign HTTP/1.1"
JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (raw(POST, "Host: m", KEY, KEY, JSON, "Content-Length: 0"), (400, "malformed")),
        (raw(POST, "Host: m", "Authorization: Bearer wrong", KEY, JSON, "Content-Length: 0"), (400, "malformed")),
        (raw("GET /v1/status HTTP/1.1", "Host: m", KEY, "authorization: Basic x"), (400, "malformed")),
        (raw("GET /healthz HTTP/1.1"), (400, "malformed")),
        (raw("GET /healthz HTTP/1.1", "Host: a", "Host: b"), (400, "malformed")),
        (raw("GET http://m/healthz HTTP/1.1"), (400, "malformed")),
        (raw(POST, "Host: m", KEY, JSON, "Transfer-Encoding: gzip, chunked"), (501, "malformed")),
        (raw(POST, "Host: m", JSON, "Transfer-Encoding: deflate", "Transfer-Encoding: chunked"), (501, "malformed")),
        (raw(POST, "Host: m", KEY, JSON, "Transfer-Encoding: gzip"), (400, "malformed")),
        (raw(POST, "Host: m", KEY, JSON, "Transfer-Encoding: chunked, chunked"), (400, "malformed")),
        (raw(POST, "Host: m", KEY, JSON, f"Content-Length: {10**18}"), (413, "too_large")),
        (raw(POST, "Host: m", KEY, JSON, f"Content-Length: {10**18 + 1}"), (413, "too_large")),
        (raw(POST, "Host: m", KEY, JSON, f"Content-Length: {2**64 - 1}"), (413, "too_large")),
        (raw(POST, "Host: m", KEY, JSON, f"Content-Length: {2**64}"), (413, "too_large")),
        (raw(POST, "Host: m", KEY, JSON, f"Content-Length: {10**40}"), (413, "too_large")),
        (raw("GET /healthz HTTP/2.0", "Host: m"), (505, "malformed")),
        (raw("GET /healthz HTTP/3.0", "Host: m"), (505, "malformed")),
        (raw("GET /healthz HTTP/0.9", "Host: m"), (505, "malformed")),
        (raw("GET /healthz HTTP/9.9", "Host: m"), (505, "malformed")),
        (raw("GET /healthz"), (505, "malformed")),
        (raw("PRI * HTTP/2.0") + b"SM\r\n\r\n", (505, "malformed")),
        (raw(POST, "Host: m", KEY, JSON, "Content-Length: 35").replace(b"1.1", b"2.0") + BODY, (505, "malformed")),
        (raw("GET /healthz HTTP/1.9"), (400, "malformed")),
        (raw("GET /healthz HTTP/1.10", "Host: m"), (400, "malformed")),
        (raw("GET /healthz HTTP/1", "Host: m"), (400, "malformed")),
        (raw("GET /healthz http/1.1", "Host: m"), (400, "malformed")),
        (raw("CONNECT m:443 HTTP/1.1", "Host: m"), (400, "malformed")),
        (raw("CONNECT m:99999 HTTP/1.1", "Host: m"), (400, "malformed")),
        (raw("GET http://m:65536/healthz HTTP/1.1", "Host: m"), (400, "malformed")),
        (raw("GET http://m:99999999999/healthz HTTP/1.1", "Host: m"), (400, "malformed")),
        (raw(POST, "Host: m", KEY, JSON, *["a:"] * 60000), (431, "malformed")),
        (raw(POST, "Host: m", KEY, JSON, *[f"a:{' ' * 1000}b"] * 70), (431, "malformed")),
        (raw(POST, "Host: m", KEY, JSON, *[f"a:b{' ' * 1000}"] * 200), (431, "malformed")),
    ],
)
def test_a_head_has_its_answer(guarded: ServerProcess, head: bytes, expected: tuple[int, str]) -> None:
    """What HTTP forbids, and what the server does not do, is refused with a problem that says so."""
    with guarded.connect() as connection:
        connection.sendall(head)
        response = HTTPResponse(connection)
        response.begin()
        problem = json.loads(response.read())

    assert (response.status, problem["code"]) == expected
    assert "callback" not in problem["detail"]
    guarded.get("/healthz")
    assert not [line for line in guarded.lines if "exception" in line or line["event"] == "unstructured"]


@pytest.mark.parametrize(
    "head",
    [
        raw("GET /healthz HTTP/1.0"),
        raw("GET http://m:65535/healthz HTTP/1.1", "Host: m"),
        raw("GET /healthz HTTP/1.2", "Host: m"),
        raw("GET /healthz HTTP/1.9", "Host: m"),
        raw("GET /healthz HTTP/1.9", "Host: m", *UPGRADE),
    ],
)
def test_what_is_allowed_is_answered(guarded: ServerProcess, head: bytes) -> None:
    """HTTP/1.0 needs no Host, a target may be a URL, and minor versions above 1 are read as HTTP/1.1."""
    with guarded.connect() as connection:
        connection.sendall(head)

        assert statuses(connection, 1) == [200]


BAD_CHUNK = raw(POST, "Host: m", KEY, JSON, "Transfer-Encoding: chunked") + b"zz\r\n"


@pytest.mark.parametrize("bad", [b"nonsense\r\n\r\n", raw("GET /healthz HTTP/1.1"), BAD_CHUNK])
@pytest.mark.parametrize("good", [1, 2, 5])
def test_requests_before_a_bad_one_are_answered(guarded: ServerProcess, bad: bytes, good: int) -> None:
    """The last answer is the problem of the bad request."""
    assert sent(guarded, request() * good + bad) == [(200, "")] * good + [(400, "malformed")]


@pytest.mark.parametrize("more", [1, 5, 2 * MOST_PIPELINED])
def test_pipelines_beyond_the_bound_are_answered_up_to_it(guarded: ServerProcess, more: int) -> None:
    """The requests within the bound have their answers, the first beyond it a problem."""
    with guarded.connect() as connection:
        connection.sendall(request() * (MOST_PIPELINED + more))
        answers = said(connection)

    assert answers == [(200, "")] * MOST_PIPELINED + [(400, "malformed")]


@pytest.mark.parametrize("content", ["application/json", "text/plain", ""])
def test_the_type_of_a_body_is_its_declared_one(guarded: ServerProcess, content: str) -> None:
    """A msgpack body that was understood before is not read under another name."""
    import msgpack

    tensor = {"dtype": "float64", "shape": [2, 2], "data": bytes(range(32))}
    body = msgpack.packb({"inputs": {"m": tensor}})
    found = []
    for named in ("application/msgpack", content, "application/msgpack"):
        with guarded.connect() as connection:
            head = raw(POST, "Host: m", KEY, f"Content-Type: {named}", f"Content-Length: {len(body)}")
            connection.sendall(head + body)
            found += statuses(connection, 1)

    assert found == [200, 400 if content == "application/json" else 415, 200]


def test_heads_that_do_not_end_are_given_up(guarded: ServerProcess) -> None:
    """After ten seconds their senders are told."""
    with ExitStack() as stack:
        connections = []
        for begun in (b"GET /hea", b"\r\n", raw("GET /healthz HTTP/1.1", "Host: m", KEY)[:-2]):
            connections.append(stack.enter_context(guarded.connect()))
            connections[-1].sendall(begun)

        assert [said(connection) for connection in connections] == [[(408, "malformed")]] * 3


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"nonsense\r\n\r\n", "malformed"),
        (raw("GET /healthz HTTP/1.1"), "malformed"),
        (raw("GET /healthz HTTP/1.1", "Host: m", f"X: {'x' * (1 << 17)}"), "malformed"),
    ],
    ids=["nonsense", "no host", "long head"],
)
def test_refusals_below_any_route_are_counted(guarded: ServerProcess, packet: bytes, code: str) -> None:
    """Bytes that are no request count as a call of no function, as unknown paths do."""
    name = f'matfn_calls_total{{code="{code}",function="none"}}'
    before = samples(guarded.metrics("secret")).get(name, 0)

    assert [found for _, found in sent(guarded, packet)] == [code]
    assert samples(guarded.metrics("secret"))[name] == before + 1


def test_connections_are_bounded() -> None:
    """One too many is told so, and counted; as soon as another ends, the next one is served."""
    with running_server(max_connections="2") as server, server.connect() as first, server.connect() as second:
        for connection in (first, second):
            connection.sendall(raw("GET /healthz HTTP/1.1", "Host: m"))
            assert statuses(connection, 1) == [200]
        with server.connect() as third:
            assert said(third) == [(503, "busy")]
        first.close()
        while server.get("/healthz")[0] != 200:
            continue

        assert samples(server.metrics())['matfn_calls_total{code="busy",function="none"}'] >= 1
