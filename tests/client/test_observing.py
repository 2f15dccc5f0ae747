"""Headers that callers add, hooks that are told of requests, and the logger, with both clients on a real socket."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from matfn.client import Clock
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A = np.diag([1.0, 2.0])
KINDS = pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
LIMITS = http_response(b"{}", content_type="application/json")


def serving(server: ScriptedServer, conversation: Conversation) -> None:
    """Limits for GET, and the first input for a call; of the first call of all, that the server is busy."""
    while request := server.read(conversation):
        head, _, body = request.partition(b"\r\n\r\n")
        if head.startswith(b"GET"):
            conversation.say(LIMITS)
        elif sum(one.startswith(b"POST") for one in server.requests) == 1 and b"busy: 1" in head:
            problem = wire.encode_problem(matfn.Problem.of("busy", "full"), wire.Media.MSGPACK)
            conversation.say(http_response(problem, 429, wire.Media.MSGPACK.problem))
        else:
            call = wire.decode_call(body, wire.Media.MSGPACK, "msign")
            answer = b"".join(wire.encode_answer(answered(call), wire.Media.MSGPACK))
            conversation.say(http_response(answer, x_request_id="r7"))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that hands back what it gets."""
    with ScriptedServer(serving) as server:
        yield server


def used(kind: type, url: str, use: Callable[[Any], Any], **settings: Any) -> Any:
    """The result of using a client of either kind."""

    async def within() -> Any:
        async with matfn.AsyncClient(url, **settings) as client:
            return await use(client)

    if kind is matfn.AsyncClient:
        return asyncio.run(within())
    with matfn.Client(url, **settings) as client:
        return use(client)


def call(client: Any) -> Any:
    """One call."""
    return client.msign(A)


@KINDS
def test_headers_are_sent_with_every_request(kind: type, server: ScriptedServer) -> None:
    """A client's headers go along, in place of its own of the same name, and those of with_options beside them."""

    def use(client: Any) -> Any:
        return client.with_options(headers={"traceparent": "00-1"}).msign(A)

    used(kind, server.url, use, api_key="k", headers={"user-agent": "mine", "X-Team": "a"})

    head = server.requests[-1].partition(b"\r\n\r\n")[0]
    assert all(line in head for line in (b"user-agent: mine", b"X-Team: a", b"traceparent: 00-1", b"Bearer k"))
    assert b"User-Agent" not in head


@KINDS
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Content-Length": "3"}, "Content-Length is set by the client itself"),
        ({"host": "x"}, "host is set by the client itself"),
        ({"X-Matfn-Triangle": "U"}, "is set by the client itself"),
        ({"a b": "x"}, "'a b' is no name of a header"),
        ({"a": "x\r\nb: y"}, "the value of a is no string of ASCII in one line"),
        ({"a": 3}, "the value of a is no string"),
        ({"Authorization": "x"}, "api_key and the header Authorization are given"),
    ],
)
def test_headers_are_checked(kind: Any, headers: Any, words: str) -> None:
    """What would break a request is refused when the client is made."""
    with pytest.raises(ValueError, match=words):
        kind("http://gpu.test", api_key="k", headers=headers)


@KINDS
def test_hooks_are_told_of_each_request(kind: type, server: ScriptedServer) -> None:
    """Requests before they go, answers with status, size and name; headers that a hook returns are added."""
    sent: list[matfn.RequestInfo] = []
    came: list[matfn.ResponseInfo] = []

    def on_request(info: matfn.RequestInfo) -> dict[str, str]:
        sent.append(info)
        return {"X-Span": str(len(sent))}

    used(kind, server.url, call, on_request=on_request, on_response=came.append)

    assert [(info.method, info.url) for info in sent] == [
        ("GET", f"{server.url}/v1/functions"),
        ("POST", f"{server.url}/v1/msign"),
    ]
    assert [told.request for told in came] == sent
    assert (came[1].status, came[1].request_id, came[1].error) == (200, "r7", None)
    assert came[1].size > 32
    assert sent[1].size > 32
    assert b"X-Span: 2" in server.requests[1]


@KINDS
def test_hooks_are_told_that_no_answer_came(kind: type) -> None:
    """A failure to connect is told with its error, for each attempt and each server."""
    came: list[matfn.ResponseInfo] = []
    urls = ["http://127.0.0.1:9", "http://127.0.0.1:10"]

    with pytest.raises(matfn.TransportError):
        used(kind, urls, call, on_response=came.append, max_retries=0)  # type: ignore[arg-type]

    assert {told.request.url.partition("/v1")[0] for told in came} == set(urls)
    assert all(told.status is None and isinstance(told.error, matfn.TransportError) for told in came)


@KINDS
def test_what_a_hook_raises_the_call_raises(kind: type, server: ScriptedServer) -> None:
    """A hook's fault is not hidden, and what it returns is checked."""

    def on_request(_: matfn.RequestInfo) -> dict[str, str]:
        return {"Content-Length": "0"}

    with pytest.raises(ValueError, match="Content-Length is set by the client itself"):
        used(kind, server.url, call, on_request=on_request)


@KINDS
def test_logger_has_a_line_for_each_request(
    kind: type, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG the logger "matfn" names method, URL, status and request; the API key stands nowhere."""
    with caplog.at_level(logging.DEBUG, "matfn"):
        used(kind, server.url, call, api_key="secret")

    lines = [record.getMessage() for record in caplog.records if record.name == "matfn"]
    assert lines[1].startswith(f"POST {server.url}/v1/msign (")
    assert ": 200 in " in lines[1]
    assert lines[1].endswith(" r7")
    assert "secret" not in caplog.text


def test_logger_has_a_line_for_each_retry(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO it says why and after how long a call is sent again, and nothing else."""
    clock = Clock(lambda: 0.0, lambda _: None, lambda: 0.5)
    with (
        caplog.at_level(logging.INFO, "matfn"),
        matfn.Client(server.url, headers={"busy": "1"}, clock=clock) as client,
    ):
        client.msign(A)

    assert [record.getMessage() for record in caplog.records] == [
        f"sent again in 0.05 s: {matfn.Busy(matfn.Problem.of('busy', 'full'))}"
    ]


@KINDS
def test_client_is_written_with_its_url(kind: Any) -> None:
    """The URL and whether it is closed; never the key, a header or a password."""
    name = kind.__name__
    client = kind("https://gpu.test/matfn/", api_key="secret", headers={"X-Token": "secret"})
    several = kind(["http://a.test", "unix:///run/b"])

    assert repr(client) == f"{name}('https://gpu.test/matfn')"
    assert repr(several) == f"{name}(['http://a.test', 'unix:///run/b'])"
    assert repr(client.with_options(timeout=3)) == repr(client)
    ended = client.close()
    if inspect.iscoroutine(ended):
        asyncio.run(ended)
    assert repr(client) == f"{name}('https://gpu.test/matfn', closed)"


@KINDS
def test_options_share_connections_and_end(kind: type, server: ScriptedServer) -> None:
    """A client with other options asks over the same connections, and is closed with the first."""
    kept: list[Any] = []

    async def use_async(client: Any) -> None:
        kept.append(client.with_options(timeout=5, max_retries=0))
        await client.msign(A)
        await kept[0].msign(A)

    def use(client: Any) -> Any:
        if kind is matfn.AsyncClient:
            return use_async(client)
        kept.append(client.with_options(timeout=5, max_retries=0))
        return [client.msign(A), kept[0].msign(A)]

    used(kind, server.url, use)

    assert server.connections == 1
    assert sum(one.startswith(b"GET") for one in server.requests) == 1
    assert repr(kept[0]).endswith(", closed)")


def test_options_of_a_call_are_its_own() -> None:
    """Timeout and retries change for the calls of with_options alone; wrong ones are refused."""
    client = matfn.Client("http://gpu.test", timeout=7, max_retries=3)

    patient = client.with_options(timeout=None)

    sessions = [one._session for one in (client, patient, client.with_options(max_retries=0))]
    assert [(one.timeout, one.policy.max_retries) for one in sessions] == [(7, 3), (None, 3), (7, 0)]
    with pytest.raises(ValueError, match="timeout=0 is no number"):
        client.with_options(timeout=0)
    with pytest.raises(ValueError, match="max_retries=-1 is negative"):
        client.with_options(max_retries=-1)


class Listening:
    """An object whose call is a coroutine."""

    async def __call__(self, request: object) -> None:
        """Nothing."""


async def listening(request: object) -> None:
    """A hook that would have to be awaited."""


@KINDS
@pytest.mark.parametrize("name", ["on_request", "on_response"])
@pytest.mark.parametrize("hook", [3, {"x-a": "b"}, listening, Listening()])
def test_what_is_no_plain_function_is_no_hook(kind: Any, name: str, hook: Any) -> None:
    """It would be called in vain, so the client is not made."""
    with pytest.raises(TypeError, match=f"{name} is .* must be a plain function"):
        kind(**{name: hook})


@KINDS
@pytest.mark.parametrize("added", [5, [("x-a", "b")], "x-a: b"])
def test_headers_that_are_no_mapping_are_not_lost(server: ScriptedServer, kind: type, added: Any) -> None:
    """A request does not go out without the headers that its caller wanted."""
    with pytest.raises(TypeError, match="must return a mapping of headers, or None"):
        used(kind, server.url, lambda client: client.msign(A), on_request=lambda _: added)
