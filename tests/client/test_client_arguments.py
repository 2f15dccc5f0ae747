"""What the clients do with what is no call, and what becomes of them in another process."""

from __future__ import annotations

import asyncio
import copy
import pickle
import ssl
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import matfn
from matfn import wire
from matfn.async_transport import StreamTransport
from matfn.endpoint import Endpoint
from matfn.transport import SocketTransport
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A = np.diag([1.0, 2.0, 3.0])
CALLS = [matfn.call.msign(A), matfn.call.msign(2 * A)]
SINGLE: Any = matfn.call.msign(A)


def echoing(server: ScriptedServer, conversation: Conversation) -> None:
    """Empty documents for GET, the first input for calls."""
    while request := server.read(conversation):
        head, _, body = request.partition(b"\r\n\r\n")
        method, target = head.decode().split()[:2]
        if method == "GET":
            conversation.say(http_response(b"{}", content_type="application/json"))
        elif target == "/v1/calls":
            calls = [call for call in wire.decode_calls(body, wire.Media.MSGPACK) if isinstance(call, wire.Call)]
            answers = wire.encode_answers([answered(call) for call in calls], wire.Media.MSGPACK)
            conversation.say(http_response(b"".join(answers)))
        else:
            call = wire.decode_call(body, wire.Media.MSGPACK, target.removeprefix("/v1/"))
            conversation.say(http_response(b"".join(wire.encode_answer(answered(call), wire.Media.MSGPACK))))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that hands back what it gets."""
    with ScriptedServer(echoing) as server:
        yield server


def finished(client: Any, use: Callable[[Any], Any]) -> Any:
    """The result of using a client of either kind, which is closed afterwards."""
    if isinstance(client, matfn.Client):
        with client:
            return use(client)

    async def awaited() -> Any:
        async with client:
            return await use(client)

    return asyncio.run(awaited())


KINDS = pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])


@KINDS
@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda client: client.map([*CALLS, 3]), "item 2 of the calls is int; calls are built like matfn.call"),
        (lambda client: client.map(3), "an iterable of calls .* int was given"),
        (lambda client: client.map(SINGLE), "an iterable of calls .* a single call was given"),
        (lambda client: client.with_info.map([None]), "item 0 of the calls is NoneType"),
        (lambda client: client.ask(A), "the call is ndarray"),
    ],
)
def test_what_is_no_call_is_named(kind: type, server: ScriptedServer, use: Callable[[Any], Any], words: str) -> None:
    """A TypeError says what was given and how calls are built."""
    with pytest.raises(TypeError, match=words):
        finished(kind(server.url), use)


def test_unknown_function_is_no_call() -> None:
    """An invocation made by hand is checked when it is made."""
    with pytest.raises(matfn.UnknownFunction, match="no function 'sine'"):
        matfn.Invocation("sine", {}, {}, {})


@KINDS
def test_map_with_info_returns_answers(kind: type, server: ScriptedServer) -> None:
    """Every call's answer comes with its certificates, all in one request."""
    answers = finished(kind(server.url), lambda client: client.with_info.map(iter(CALLS)))

    assert [answer.value[0, 0] for answer in answers] == [1.0, 2.0]
    assert {answer.certificates[0].method for answer in answers} == {"echo"}
    assert sum(request.startswith(b"POST") for request in server.requests) == 1


@KINDS
@pytest.mark.parametrize("copied", [lambda client: pickle.loads(pickle.dumps(client)), copy.deepcopy])  # noqa: S301
def test_copied_client_has_connections_of_its_own(
    kind: type, server: ScriptedServer, copied: Callable[[Any], Any]
) -> None:
    """A copy goes to the same server with the same key, over a new connection, and outlives the original."""
    client = kind(server.url, api_key="k", max_retries=0)
    finished(copied(client), lambda client: client.msign(A))
    connections = server.connections

    finished(client, lambda client: client.msign(A))

    assert server.connections > connections
    assert b"Authorization: Bearer k" in server.requests[-1]


def test_copy_in_use_keeps_the_originals_pool(server: ScriptedServer) -> None:
    """Closing a copy closes nothing of the original's."""
    with matfn.Client(server.url) as client:
        client.msign(A)
        with copy.deepcopy(client) as other:
            other.msign(A)
        connections = server.connections
        client.msign(A)

    assert server.connections == connections


@pytest.mark.parametrize("kind", [SocketTransport, StreamTransport])
def test_own_tls_settings_are_not_copied(kind: Any) -> None:
    """A context with private keys stays in its process; the error says what to do."""
    transport = kind(Endpoint.parse("https://localhost"), tls=ssl.create_default_context())

    with pytest.raises(TypeError, match="open a new client there"):
        pickle.dumps(transport)
    assert pickle.loads(pickle.dumps(kind(Endpoint.parse("https://localhost"))))  # noqa: S301


@pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
@pytest.mark.parametrize("url", [[], "", (), [""], ["http://127.0.0.1:1", ""], "http://127.0.0.1:0", "127.0.0.1:8000"])
def test_url_that_names_no_server_is_refused(kind: type, url: Any) -> None:
    """Nothing goes to another server than the one that was meant."""
    with pytest.raises(ValueError, match=r"names no server|on which no server listens|begins with neither"):
        kind(url)


@pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
@pytest.mark.parametrize("timeout", [0, -1, 0.0, float("nan"), float("inf")])
def test_timeout_that_is_no_time_is_refused(kind: type, timeout: float) -> None:
    """A timeout is a number of seconds above nothing, or None."""
    with pytest.raises(ValueError, match=r"timeout=.* None waits"):
        kind("http://127.0.0.1:1", timeout=timeout)


def test_urls_may_be_any_iterable_of_names() -> None:
    """Every member of a generator is a server."""
    with matfn.Client(f"http://127.0.0.1:{port}" for port in (1, 2)) as client:  # type: ignore[arg-type]
        assert [endpoint.port for endpoint in client._session.endpoints] == [1, 2]


@pytest.mark.parametrize("value", [np.zeros((1000, 4, 4)), (np.zeros((1000, 4, 4)),) * 2, torch.zeros(1000, 4, 4)])
def test_answer_of_many_matrices_is_written_in_a_line(value: Any) -> None:
    """The kind, dtype and shape stand for many numbers, and counts for many certificates."""
    certificate = answered(wire.Call("msign", {"m": tensor()}, {}, {})).certificates[0]
    approximate = replace(certificate, outcome=matfn.Outcome.APPROXIMATE)
    answer = matfn.Answer(value, (certificate,) * 998 + (approximate,) * 2, matfn.Timing(0.1, 0.2, 1, 1.0), "r", "cpu")

    assert len(repr(answer)) < 300
    assert "1000x4x4" in repr(answer)
    assert "1000: 998 converged, 2 approximate" in repr(answer)


def test_answer_of_one_matrix_is_written_whole() -> None:
    """A few numbers and a single certificate are shown as they are."""
    certificate = answered(wire.Call("msign", {"m": tensor()}, {}, {})).certificates[0]
    answer = matfn.Answer(np.eye(2), (certificate,), matfn.Timing(0.1, 0.2, 1, 1.0), "r", "cpu")

    assert repr(np.eye(2)) in repr(answer)
    assert repr(certificate) in repr(answer)


def tensor() -> Any:
    """One matrix of order one."""
    return wire.Tensor("float64", (1, 1), np.ones((1, 1)).tobytes())


@pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
@pytest.mark.parametrize("timeout", ["5", [5], {}])
def test_a_timeout_is_no_other_thing(kind: Any, timeout: Any) -> None:
    """Another type is named when the client is made."""
    with pytest.raises(TypeError, match="is no number of seconds"):
        kind("http://127.0.0.1:1", timeout=timeout)


@pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])
@pytest.mark.parametrize("timeout", [5, np.float32(5), np.int64(5), Fraction(5)])
def test_a_timeout_is_any_real_number(kind: Any, timeout: Any) -> None:
    """Numbers of numpy and of the standard library are seconds too."""
    assert kind("http://127.0.0.1:1", timeout=timeout) is not None
