"""One AsyncClient in several event loops, in turn and at once, and the bound of its connections."""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LARGE = np.ones((100, 100))  # goes by itself


class Meeting:
    """A server whose answers wait until so many requests have come."""

    def __init__(self, together: int = 1) -> None:
        self.together = together
        self.inside = 0
        self.most = 0
        self._changed = threading.Condition()

    def __call__(self, server: ScriptedServer, conversation: Conversation) -> None:
        """Serves a connection."""
        while request := server.read(conversation):
            head, _, body = request.partition(b"\r\n\r\n")
            if head.startswith(b"GET"):
                conversation.say(http_response(b'{"limits": {}}', content_type="application/json"))
                continue
            self._meet()
            conversation.say(http_response(_answer(head.split()[1].decode(), body)))
            with self._changed:
                self.inside -= 1

    def _meet(self) -> None:
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self.together, 10)

    def end(self) -> None:
        """Lets all go, whoever has not come."""
        with self._changed:
            self.together = 0
            self._changed.notify_all()


def _answer(target: str, body: bytes) -> bytes:
    call = wire.decode_call(body, wire.Media.MSGPACK, target.removeprefix("/v1/"))
    return b"".join(wire.encode_answer(answered(call), wire.Media.MSGPACK))


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Iterator[None]:
    """Collects what ended event loops left open, so that no other module's tests hear of it."""
    yield
    gc.collect()


@pytest.fixture
def meeting() -> Meeting:
    """What the server waits for."""
    return Meeting()


@pytest.fixture
def server(meeting: Meeting) -> Iterator[ScriptedServer]:
    """A server that answers when enough have come."""
    with ScriptedServer(meeting) as running:
        yield running
        meeting.end()


async def many(client: matfn.AsyncClient, count: int, matrix: Any = LARGE) -> list[Any]:
    """The answers to so many concurrent calls."""
    return await asyncio.gather(*(client.msign(matrix) for _ in range(count)))


@pytest.mark.parametrize("matrix", [LARGE, np.eye(2)])
def test_loops_use_a_client_in_turn(server: ScriptedServer, matrix: Any) -> None:
    """Each of three loops gets its answers, over connections of its own."""
    client = matfn.AsyncClient(server.url)
    for _ in range(3):
        assert len(asyncio.run(many(client, 1, matrix))) == 1
    assert server.connections == 3
    asyncio.run(client.close())


def test_open_loops_use_a_client_in_turn(server: ScriptedServer) -> None:
    """Two loops that take turns keep a connection each."""
    client = matfn.AsyncClient(server.url)
    with asyncio.Runner() as one, asyncio.Runner() as other:
        for runner in (one, other, one, other):
            runner.run(many(client, 1))
        assert server.connections == 2
        one.run(client.close())


def test_loops_use_a_client_at_once(server: ScriptedServer, meeting: Meeting) -> None:
    """Threads with a loop each share a client from its first call on."""
    meeting.together = 3
    client = matfn.AsyncClient(server.url)
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda count: asyncio.run(many(client, count)), [4, 4, 4]))

    assert [len(values) for values in answers] == [4, 4, 4]
    asyncio.run(client.close())


def test_closing_in_one_loop_closes_the_connections_of_all(server: ScriptedServer) -> None:
    """The connections of a loop that goes on elsewhere are closed there."""
    client = matfn.AsyncClient(server.url)
    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(many(client, 1))
        (kept,) = one.run(_kept(client))
        other.run(client.close())
        one.run(asyncio.wait_for(kept.lost, 10))


async def _kept(client: matfn.AsyncClient) -> list[Any]:
    return list(client._transport.transport._loops.here().kept)  # type: ignore[attr-defined]


def test_loop_that_has_ended_is_let_go(server: ScriptedServer) -> None:
    """A client keeps nothing of a closed loop once another one has used it."""
    client = matfn.AsyncClient(server.url)
    loop = asyncio.new_event_loop()
    with closing(loop):
        loop.run_until_complete(many(client, 2))
    ended = weakref.ref(loop)
    del loop
    asyncio.run(many(client, 1))
    gc.collect()

    assert ended() is None
    asyncio.run(client.close())


def test_calls_beyond_the_bound_wait_for_a_connection(server: ScriptedServer, meeting: Meeting) -> None:
    """A burst of calls uses no more connections than it may, and uses that many."""
    meeting.together = 7

    async def burst() -> int:
        async with matfn.AsyncClient(server.url, max_connections=7) as client:
            return len(await many(client, 60))

    assert asyncio.run(burst()) == 60
    assert meeting.most == 7


def test_threads_beyond_the_bound_wait_for_a_connection(server: ScriptedServer, meeting: Meeting) -> None:
    """A client that threads share uses no more connections than it may, and uses that many."""
    meeting.together = 3
    with matfn.Client(server.url, max_connections=3) as client, ThreadPoolExecutor(9) as threads:
        assert len(list(threads.map(client.msign, [LARGE] * 30))) == 30
    assert meeting.most == 3


@pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
def test_wait_for_a_connection_ends_with_the_timeout(server: ScriptedServer, meeting: Meeting, kind: type) -> None:
    """A call that gets none of the connections in its time is told so."""
    meeting.together = 2  # which never come
    client = kind(server.url, max_connections=1, timeout=0.3, max_retries=0)
    if kind is matfn.AsyncClient:
        results = asyncio.run(_outcomes(client))
    else:
        with ThreadPoolExecutor(2) as threads:
            results = [task.exception() for task in [threads.submit(client.msign, LARGE) for _ in range(2)]]

    assert [type(result) for result in results] == [matfn.TransportTimeout] * 2


async def _outcomes(client: matfn.AsyncClient) -> list[Any]:
    return await asyncio.gather(*(client.msign(LARGE) for _ in range(2)), return_exceptions=True)


def test_few_descriptors_serve_many_calls(server: ScriptedServer) -> None:
    """Two thousand concurrent calls are answered by a process that may open few files."""

    async def burst() -> int:
        async with matfn.AsyncClient(server.url, max_connections=20) as client:
            return len(await many(client, 2000))

    with _descriptors(len(list(Path("/proc/self/fd").iterdir())) + 100):
        assert asyncio.run(burst()) == 2000


@pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
def test_lack_of_descriptors_names_the_server(server: ScriptedServer, kind: type) -> None:
    """A process without a descriptor for a connection gets a TransportError with the URL."""
    client = kind(server.url, max_retries=0)
    with asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))
        with _descriptors(3), pytest.raises(matfn.TransportError, match=server.url):
            runner.run(client.msign(LARGE)) if kind is matfn.AsyncClient else client.msign(LARGE)
        runner.run(client.close()) if kind is matfn.AsyncClient else client.close()


@contextmanager
def _descriptors(number: int) -> Iterator[None]:
    """No more descriptors than this for the process, within the context."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
def test_no_connection_is_no_bound(kind: type, number: int) -> None:
    """A client without any connection could answer nothing."""
    with pytest.raises(ValueError, match="max_connections"):
        kind("http://127.0.0.1:1", max_connections=number)
