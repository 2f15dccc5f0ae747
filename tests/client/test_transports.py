"""Both transports against a real socket whose server says what the test tells it to."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from matfn.async_transport import StreamTransport
from matfn.client import Clock
from matfn.endpoint import Endpoint
from matfn.errors import MatfnError, Problem, TransportError, TransportTimeout
from matfn.http1 import Request, Response
from matfn.pool import MAX_AGE_S
from matfn.transport import SocketTransport
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GET = Request("GET", "/", (("Accept", "x"),))
OK = http_response(b"hello")


class Sender:
    """A transport of either kind, called synchronously; its clock stands until it is moved."""

    def __init__(self, kind: str, url: str, runner: asyncio.Runner) -> None:
        self.now = 0.0
        self._runner = runner
        endpoint = Endpoint.parse(url)
        # the synchronous transport measures its timeout by its clock, which here stands still
        self._sync = SocketTransport(endpoint, clock=lambda: self.now) if kind == "sync" else None
        self._async = StreamTransport(endpoint, clock=lambda: self.now)

    def send(self, request: Request = GET, timeout: float | None = 10.0) -> Response:
        """One request to its end."""
        if self._sync is not None:
            return self._sync.send(request, timeout)
        return self._runner.run(self._async.send(request, timeout))

    def close(self) -> None:
        """Closes kept connections."""
        if self._sync is not None:
            self._sync.close()
        self._runner.run(self._async.close())


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Sender]]:
    """Makes senders of either kind and closes them."""
    senders: list[Sender] = []
    with asyncio.Runner() as runner:

        def connected(url: str) -> Sender:
            senders.append(Sender(request.param, url, runner))
            return senders[-1]

        yield connected
        for sender in senders:
            sender.close()


def replying(*replies: bytes) -> Callable[[ScriptedServer, Conversation], None]:
    """Each request on a connection gets the next reply; the connection closes after the last."""

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        for reply in replies:
            if not server.read(conversation):
                return
            conversation.say(reply)

    return script


def test_connection_is_kept(connect: Callable[[str], Sender]) -> None:
    """Two requests in a row use one connection."""
    with ScriptedServer(replying(OK, OK, OK)) as server:
        sender = connect(server.url)

        bodies = [bytes(sender.send().body) for _ in range(2)]

        assert bodies == [b"hello"] * 2
        assert server.connections == 1
        assert server.requests[0].startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:")
        sender.close()


def test_unix_socket_is_reached(connect: Callable[[str], Sender], tmp_path: Path) -> None:
    """A unix:/// URL names a socket file."""
    with ScriptedServer(replying(OK), path=tmp_path / "s") as server:
        assert bytes(connect(server.url).send().body) == b"hello"


def test_slow_answer_is_put_together(connect: Callable[[str], Sender]) -> None:
    """An answer that comes byte by byte is the same answer."""

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)
        for byte in OK:
            conversation.say(bytes([byte]))

    with ScriptedServer(script) as server:
        assert bytes(connect(server.url).send().body) == b"hello"


def test_chunked_answer_is_put_together(connect: Callable[[str], Sender]) -> None:
    """Chunks are joined, and the connection goes on after them."""
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"

    with ScriptedServer(replying(chunked, OK)) as server:
        sender = connect(server.url)

        assert [bytes(sender.send().body) for _ in range(2)] == [b"hello"] * 2
        assert server.connections == 1


def test_large_bodies_pass_both_ways(connect: Callable[[str], Sender]) -> None:
    """Megabytes are sent and received whole."""
    payload = np.random.default_rng(0).bytes(8 << 20)

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        body = server.read(conversation).partition(b"\r\n\r\n")[2]
        conversation.say(http_response(body[::-1]))

    with ScriptedServer(script) as server:
        response = connect(server.url).send(Request("POST", "/", (), (b"ab", memoryview(payload), b"c")))

    assert response.body == (b"ab" + payload + b"c")[::-1]


def test_stale_connection_is_replaced_at_once(connect: Callable[[str], Sender]) -> None:
    """A kept connection that the server drops on use costs no error: the request goes out on a new one."""

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)
        conversation.say(OK)
        if conversation.number == 0:
            server.read(conversation)  # and hangs up instead of answering

    with ScriptedServer(script) as server:
        sender = connect(server.url)
        sender.send()

        assert bytes(sender.send().body) == b"hello"
        assert (server.connections, len(server.requests)) == (2, 3)


def test_old_connection_is_not_used(connect: Callable[[str], Sender]) -> None:
    """Connections are recycled by age, so that a name that moved is followed."""
    with ScriptedServer(replying(OK, OK)) as server:
        sender = connect(server.url)
        sender.send()
        sender.now += MAX_AGE_S

        sender.send()

        assert server.connections == 2


def test_connection_in_use_closes_with_its_answer() -> None:
    """A transport that is closed during a request delivers the answer and keeps no connection."""
    asked, closed = threading.Event(), threading.Event()

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)
        asked.set()
        assert closed.wait(20)
        conversation.say(OK)
        server.read(conversation)

    with ScriptedServer(script) as server, ThreadPoolExecutor(1) as pool:
        transport = SocketTransport(Endpoint.parse(server.url))
        answer = pool.submit(transport.send, GET, 10.0)
        assert asked.wait(20)
        transport.close()
        closed.set()

        assert bytes(answer.result().body) == b"hello"
        assert not transport._pool.kept


def test_connection_the_server_ends_is_not_kept(connect: Callable[[str], Sender]) -> None:
    """Connection: close is obeyed."""
    with ScriptedServer(replying(http_response(b"hello", connection="close"), OK)) as server:
        sender = connect(server.url)
        sender.send()
        sender.send()

        assert server.connections == 2


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\n", OK[:-1]])
def test_dropped_connection_is_a_transport_error(connect: Callable[[str], Sender], reply: bytes) -> None:
    """A connection that ends before its answer does is reported, with the server's address."""
    with ScriptedServer(replying(reply)) as server:
        with pytest.raises(TransportError, match=server.url):
            connect(server.url).send()

        assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://name.invalid", "unix:///nonexistent/socket"])
def test_unreachable_server_is_a_transport_error(connect: Callable[[str], Sender], url: str) -> None:
    """Refused connections, unknown names and missing sockets are one kind of error."""
    with pytest.raises(TransportError, match=f"cannot connect to {url}"):
        connect(url).send()


def test_machine_that_says_nothing_is_given_up(
    connect: Callable[[str], Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting has a bound of its own, below what an answer may take."""
    for module in ("transport", "async_transport"):
        monkeypatch.setattr(f"matfn.{module}.CONNECT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, closing(socket.socket()) as only:
        only.connect(full.getsockname())  # whoever comes next waits for it to be accepted
        host, port = full.getsockname()

        with pytest.raises(TransportError, match=r"cannot connect to .*timed out"):
            connect(f"http://{host}:{port}").send(timeout=30.0)


def test_early_refusal_is_heard(connect: Callable[[str], Sender]) -> None:
    """A server that refuses a body in its middle and closes is still heard."""

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        del server
        conversation.socket.recv(1024)
        conversation.say(http_response(b"no", status=413, connection="close"))
        while conversation.socket.recv(1 << 20):
            pass

    with ScriptedServer(script) as server:
        assert connect(server.url).send(Request("POST", "/", (), (bytes(4 << 20),))).status == 413


def test_silent_server_times_out(connect: Callable[[str], Sender]) -> None:
    """No answer within the timeout is a TransportTimeout, and the connection is closed."""
    hung_up = threading.Event()

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)
        if not conversation.socket.recv(1):
            hung_up.set()

    with ScriptedServer(script) as server:
        with pytest.raises(TransportTimeout, match="in time"):
            connect(server.url).send(timeout=0.05)

        assert hung_up.wait(5)


def test_cancelled_request_hangs_up() -> None:
    """Cancelling an asynchronous call closes its connection, which tells the server."""
    arrived, hung_up = threading.Event(), threading.Event()

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)
        arrived.set()
        if not conversation.socket.recv(1):
            hung_up.set()

    async def cancel(url: str) -> None:
        task = asyncio.create_task(StreamTransport(Endpoint.parse(url)).send(GET, None))
        await asyncio.to_thread(arrived.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ScriptedServer(script) as server:
        asyncio.run(cancel(server.url))

        assert hung_up.wait(5)


def test_loops_do_not_share_connections() -> None:
    """A client used in a second event loop opens its own connection."""
    with ScriptedServer(replying(OK, OK)) as server:
        transport = StreamTransport(Endpoint.parse(server.url))

        async def send() -> bytes:
            return bytes((await transport.send(GET, 5.0)).body)

        with asyncio.Runner() as first, asyncio.Runner() as second:
            assert [first.run(send()), second.run(send())] == [b"hello"] * 2
            second.run(transport.close())
        assert server.connections == 2


def echoing(server: ScriptedServer, conversation: Conversation) -> None:
    """Answers calls with their first input for as long as the connection lasts."""
    while request := server.read(conversation):
        head, _, body = request.partition(b"\r\n\r\n")
        if head.startswith(b"GET"):
            conversation.say(http_response(b"{}", content_type="application/json"))
            continue
        conversation.say(http_response(b"".join(echo(head.split()[1].decode().removeprefix("/v1/"), body))))


def echo(function: str, body: bytes) -> list[wire.Buffer]:
    """The body that answers a call, or many, with their first inputs."""
    if function == "calls":
        calls = [call for call in wire.decode_calls(body, wire.Media.MSGPACK) if isinstance(call, wire.Call)]
        return wire.encode_answers(list(map(answered, calls)), wire.Media.MSGPACK)
    return wire.encode_answer(answered(wire.decode_call(body, wire.Media.MSGPACK, function)), wire.Media.MSGPACK)


def test_threads_share_a_client() -> None:
    """Concurrent threads get their own answers over a few kept connections."""
    with ScriptedServer(echoing) as server, matfn.Client(server.url) as client:
        with ThreadPoolExecutor(8) as threads:
            values = list(threads.map(lambda i: client.msign(np.full((2, 2), float(i)))[0, 0], range(200)))

        assert values == list(range(200))
        assert server.connections <= 8


def test_tasks_share_a_client() -> None:
    """Concurrent tasks get their own answers."""

    async def ask(url: str) -> list[Any]:
        async with matfn.AsyncClient(url) as client:
            answers = (client.msign(np.full((2, 2), float(i))) for i in range(50))
            return [answer[0, 0] for answer in await asyncio.gather(*answers)]

    with ScriptedServer(echoing) as server:
        assert asyncio.run(ask(server.url)) == list(range(50))


def test_client_waits_for_a_busy_server() -> None:
    """A 429 with retry_after_ms is obeyed to the millisecond, and the call succeeds."""
    busy = Problem("busy", "full", 429, "Full", retry_after_ms=40.0)
    refusals = [
        http_response(wire.encode_problem(busy, wire.Media.JSON), 429, wire.Media.JSON.problem, retry_after="1")
    ]
    slept: list[float] = []

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        while conversation.number == 0 and refusals and (request := server.read(conversation)):
            conversation.say(http_response(b"{}") if request.startswith(b"GET") else refusals.pop())
        echoing(server, conversation)

    clock = Clock(sleep=slept.append, random=lambda: 0.0)
    with ScriptedServer(script) as server, matfn.Client(server.url, clock=clock) as client:
        np.testing.assert_array_equal(client.msign(np.eye(2)), np.eye(2))

    assert slept == [0.04]


@pytest.mark.parametrize("order", [3, 100])
def test_results_may_be_written_to(order: int) -> None:
    """Writing to one result changes neither the argument nor another result."""
    a = np.eye(order)
    with ScriptedServer(echoing) as server, matfn.Client(server.url) as client:
        x, y = client.msign(a), client.msign(a)

    x[:] = 7

    np.testing.assert_array_equal(a, np.eye(order))
    np.testing.assert_array_equal(y, np.eye(order))


def test_problem_document_is_raised_over_the_socket() -> None:
    """A problem+json answer becomes its exception with every field."""
    document = wire.encode_problem(Problem.of("singular", "matrix 2 is zero", index=2), wire.Media.JSON)

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        while server.read(conversation):
            conversation.say(http_response(document, 422, wire.Media.JSON.problem, x_request_id="r7"))

    with (
        ScriptedServer(script) as server,
        matfn.Client(server.url) as client,
        pytest.raises(matfn.Singular, match="matrix 2 is zero") as caught,
    ):
        client.inv_root(np.zeros((3, 3)), 2)

    assert (caught.value.index, caught.value.status, caught.value.request_id) == (2, 422, "r7")
    assert isinstance(caught.value, MatfnError)
