"""Several servers behind one client: the choice as a pure function, and the way of a request through them."""

from __future__ import annotations

import asyncio
import copy
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

import matfn
from matfn.async_failover import AsyncFailover
from matfn.errors import MatfnError, ProtocolError, TransportError, TransportTimeout
from matfn.failover import Failover
from matfn.http1 import Request, Response
from matfn.servers import Standing, preferred
from scripted_socket import ScriptedServer, http_response

if TYPE_CHECKING:
    from scripted_socket import Conversation

GET = Request("GET", "/")
OK = Response(200, {}, b"")
DRAINING = Response(503, {}, b"")
GONE = TransportError("gone")
RESTING = Standing(failures=1, rests_until=5.0)


@pytest.mark.parametrize(
    ("standings", "turn", "expected"),
    [
        ([Standing(2), Standing(1), Standing(3)], 0, 1),
        ([Standing(1), Standing(1), Standing(1)], 2, 2),
        ([Standing(1), Standing(1), Standing(1)], 3, 0),
        ([RESTING, Standing(9)], 0, 1),
        ([RESTING, Standing(failures=3, rests_until=4.0)], 0, 1),
        ([Standing(failures=1, rests_until=-1.0), Standing(1)], 1, 0),
    ],
    ids=["least to do", "in turn", "in turn again", "not resting", "first to end its rest", "rest is over"],
)
def test_preference(standings: list[Standing], turn: int, expected: int) -> None:
    """Rest first, then requests under way, then the turn."""
    assert preferred(standings, turn, now=0.0) == expected


def test_tried_servers_are_not_preferred() -> None:
    """A request goes nowhere twice, resting servers or not."""
    assert preferred([Standing(), Standing(9), RESTING], 0, 0.0, tried=[0]) == 1
    assert preferred([Standing(), Standing(9), RESTING], 0, 0.0, tried=[0, 1]) == 2


def test_rest_doubles_to_a_bound_and_ends_with_an_answer() -> None:
    """Failures one after the other rest longer; an answer clears them."""
    standing, rests = Standing(), []
    for _ in range(20):
        standing = standing.entered(0.0).failed(standing.failures, 0.0)
        rests.append(standing.rest)

    assert rests[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert rests[-1] == 5.0
    assert standing.entered(9.0).answered(standing.failures) == Standing()


def test_requests_that_fail_together_count_once() -> None:
    """A server that dies with eight requests under way has failed once."""
    standing = Standing(under_way=8)
    for _ in range(8):
        standing = standing.failed(0, now=1.0)

    assert (standing.under_way, standing.failures) == (0, 1)
    assert standing.rests_until == pytest.approx(1.1)


def test_answer_to_an_earlier_request_does_not_end_the_rest() -> None:
    """A draining server that answers what it has taken is still left alone."""
    standing = Standing(under_way=2).failed(0, now=0.0)

    assert standing.answered(0) == Standing(0, 1, standing.rests_until)


def test_one_request_at_a_time_tries_a_failed_server() -> None:
    """While one request finds out whether a server is back, the others stay away."""
    on_trial = RESTING.entered(6.0)

    assert preferred([on_trial, Standing(50)], 0, now=6.0) == 1


def test_a_server_that_takes_too_long_rests() -> None:
    """Its request has no time left, but the next ones go elsewhere."""
    sender = Sender("sync", [TransportTimeout("slow")], [])

    with pytest.raises(TransportTimeout):
        sender.send()

    assert [sender.send().status for _ in range(2)] == [200, 200]
    assert sender.asked == [1, 2]


@dataclass
class Scripted:
    """A server that says the next of these, then OK, each after so many seconds."""

    replies: list[Response | MatfnError]
    seconds: float = 0.0
    requests: list[Request] = field(default_factory=list)

    def reply(self, request: Request) -> Response:
        """The next reply."""
        self.requests.append(request)
        reply = self.replies.pop(0) if self.replies else OK
        if isinstance(reply, MatfnError):
            raise reply
        return reply


class Sender:
    """Two scripted servers behind a transport of either kind, called synchronously; the first's turn comes first."""

    def __init__(self, kind: str, *replies: list[Response | MatfnError], seconds: float = 0.0) -> None:
        self.now = 0.0
        self.servers = [Scripted(list(said), seconds) for said in replies]
        clock = lambda: self.now  # noqa: E731 - it moves
        self._sync = Failover([_Sync(self, server) for server in self.servers], clock)
        self._async = AsyncFailover([_Async(self, server) for server in self.servers], clock)
        self._is_sync = kind == "sync"
        self._sync._servers._turn = self._async._servers._turn = 0

    def send(self, request: Request = GET, timeout: float | None = 10.0) -> Response:
        """One request to its end."""
        return self._sync.send(request, timeout) if self._is_sync else asyncio.run(self._async.send(request, timeout))

    @property
    def asked(self) -> list[int]:
        """How many requests each server has had."""
        return [len(server.requests) for server in self.servers]


@dataclass
class _Sync:
    sender: Sender
    server: Scripted

    def send(self, request: Request, timeout: float | None) -> Response:
        del timeout
        self.sender.now += self.server.seconds
        return self.server.reply(request)

    def close(self) -> None:
        pass


class _Async(_Sync):
    async def send(self, request: Request, timeout: float | None) -> Response:  # type: ignore[override]  # noqa: ASYNC109
        return super().send(request, timeout)

    async def close(self) -> None:  # type: ignore[override]
        pass


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both transports run every test."""
    return str(request.param)


def test_servers_take_turns(kind: str) -> None:
    """Requests one after the other go round."""
    sender = Sender(kind, [], [])

    for _ in range(6):
        sender.send()

    assert sender.asked == [3, 3]


@pytest.mark.parametrize("failure", [GONE, DRAINING], ids=["gone", "draining"])
def test_next_server_answers_at_once(kind: str, failure: Response | MatfnError) -> None:
    """Who finds a server gone or draining is answered by the other, and later requests leave it alone for a while."""
    sender = Sender(kind, [failure], [])

    assert [sender.send() for _ in range(4)] == [OK] * 4
    assert sender.asked == [1, 4]


def test_server_comes_back_into_use(kind: str) -> None:
    """After its rest a server is tried, and takes its turn again."""
    sender = Sender(kind, [GONE], [])
    sender.send()
    sender.now = 1.0

    for _ in range(4):
        sender.send()

    assert sender.asked == [3, 3]


def test_last_failure_is_the_answer(kind: str) -> None:
    """Where no server answers, the caller hears of the last one, and the next request tries them all again."""
    sender = Sender(kind, [GONE, GONE], [TransportError("gone too"), DRAINING])

    with pytest.raises(TransportError, match="gone too"):
        sender.send()
    assert sender.send() == DRAINING
    assert sender.asked == [2, 2]


@pytest.mark.parametrize("error", [TransportTimeout("slow"), ProtocolError("strange")])
def test_final_errors_are_not_carried_on(kind: str, error: MatfnError) -> None:
    """A server that takes too long may still be at work, and one that is no matfn is to be told of."""
    sender = Sender(kind, [error], [])

    with pytest.raises(type(error)):
        sender.send()
    assert sender.asked == [1, 0]


def test_timeout_bounds_all_servers_together(kind: str) -> None:
    """Where the first server has used up the time, the second is not asked."""
    sender = Sender(kind, [GONE], [], seconds=4.0)

    with pytest.raises(TransportError, match="gone"):
        sender.send(timeout=3.0)
    assert sender.asked == [1, 0]


def test_refused_call_returns_to_its_server(kind: str) -> None:
    """A request with the id of a busy server's refusal is sent to that server."""
    sender = Sender(kind, [Response(429, {"x-request-id": "r7"}, b"")], [])
    sender.send()
    sender.send()
    sender.send()  # now it is the second server's turn

    sender.send(Request("GET", "/", (("X-Request-Id", "r7"),)))

    assert sender.asked == [3, 1]


def test_copies_reach_the_same_servers() -> None:
    """A client of several servers can be copied and pickled."""
    with matfn.Client(["http://127.0.0.1:1", "http://127.0.0.1:2"], max_retries=0) as client:
        for copied in (copy.deepcopy(client), pickle.loads(pickle.dumps(client))):  # noqa: S301 - our own
            with pytest.raises(TransportError, match=r"cannot connect to http://127\.0\.0\.1:[12]"):
                copied.status()


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (["http://a", "unix:///s"], "", ["http://a", "unix:///s"]),
        (["http://a", "http://a:80/"], "", ["http://a"]),
        (None, "http://a http://b", ["http://a", "http://b"]),
        ("unix:///with space", "http://a", ["unix:///with space"]),
        (None, "", ["http://127.0.0.1:8000"]),
    ],
)
def test_urls(
    monkeypatch: pytest.MonkeyPatch, given: str | list[str] | None, environment: str, expected: list[str]
) -> None:
    """Several URLs come as a list, or with spaces between in MATFN_URL; each server counts once."""
    monkeypatch.setenv("MATFN_URL", environment)

    with matfn.Client(given) as client:
        assert [str(endpoint) for endpoint in client._session.endpoints] == expected


def test_connection_that_breaks_is_carried_on() -> None:
    """A server that hangs up in the middle of a call costs its caller nothing."""

    def hang_up(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)

    def answer(server: ScriptedServer, conversation: Conversation) -> None:
        while server.read(conversation):
            conversation.say(http_response(b'{"state": "ready"}', content_type="application/json"))

    with (
        ScriptedServer(hang_up) as bad,
        ScriptedServer(answer) as good,
        matfn.Client([bad.url, good.url], max_retries=0) as client,
    ):
        states = [client.status()["state"] for _ in range(4)]

    assert states == ["ready"] * 4
    assert len(bad.requests) == 1
