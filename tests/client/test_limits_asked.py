"""When the clients ask a server for its limits, in whose time, and what becomes of a question without an answer."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matfn.errors import Problem

A = np.eye(2)
GOOD = matfn.call.root(A, 2)


def used(kind: type, url: str, use: Callable[[Any], Any], **settings: Any) -> Any:
    """What `use` of a client of either kind returns, once it is awaited."""
    if kind is matfn.Client:
        with matfn.Client(url, **settings) as client:
            return use(client)

    async def awaited() -> Any:
        async with matfn.AsyncClient(url, **settings) as client:
            return await use(client)

    return asyncio.run(awaited())


def serving(**limits: int) -> Callable[[ScriptedServer, Conversation], None]:
    """A server with these limits, which hands inputs back."""
    told = http_response(json.dumps({"limits": limits}).encode(), content_type="application/json")

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        while request := server.read(conversation):
            head, _, body = request.partition(b"\r\n\r\n")
            target = head.split()[1].decode()
            conversation.say(told if head.startswith(b"GET") else http_response(_answer(target, body)))

    return script


def _answer(target: str, body: bytes) -> bytes:
    if target != "/v1/calls":
        call = wire.decode_call(body, wire.Media.MSGPACK, target.removeprefix("/v1/"))
        return b"".join(wire.encode_answer(answered(call), wire.Media.MSGPACK))
    calls = wire.decode_calls(body, wire.Media.MSGPACK)
    answers: list[wire.Answer | Problem] = [answered(call) for call in calls if isinstance(call, wire.Call)]
    return b"".join(wire.encode_answers(answers, wire.Media.MSGPACK))


def silent(server: ScriptedServer, conversation: Conversation) -> None:
    """Reads and never answers."""
    while server.read(conversation):
        pass


@contextmanager
def silent_server() -> Iterator[str]:
    """The URL of a server that never answers."""
    with ScriptedServer(silent) as server:
        yield server.url


both = pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])


@both
@pytest.mark.parametrize(
    ("settings", "call", "seconds"),
    [
        ({"timeout": 8, "max_retries": 0}, matfn.call.root(A, 2, deadline=0.2), 1.2),
        ({"timeout": 8}, matfn.call.root(A, 2, deadline=0.2), 1.2),
        ({"timeout": 0.2}, GOOD, 0.2),
        ({"timeout": 0.2}, matfn.call.root(A, 2, deadline=30), 0.2),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_question_for_limits_has_the_calls_time(
    kind: type, settings: dict[str, Any], call: matfn.Invocation[Any], seconds: float, many: bool
) -> None:
    """A server that never answers is given up after the deadline with its second of grace, or the timeout."""
    with silent_server() as url:
        began = time.monotonic()
        with pytest.raises(matfn.TransportTimeout):
            used(kind, url, lambda client: client.map([call]) if many else client.ask(call), **settings)
        took = time.monotonic() - began

    assert seconds <= took < seconds + 2


@both
def test_question_of_another_call_does_not_hold_a_deadline(kind: type) -> None:
    """While a patient call waits for the limits, one with a deadline is given up at its own time."""
    with silent_server() as url:
        patient, hasty = GOOD, matfn.call.root(A, 2, deadline=0.1)
        began = time.monotonic()

        def threads(client: matfn.Client) -> None:
            with ThreadPoolExecutor(1) as other:
                first = other.submit(client.ask, patient)
                with pytest.raises(matfn.TransportTimeout):
                    client.ask(hasty)
                assert time.monotonic() - began < 2
                assert isinstance(first.exception(), matfn.TransportTimeout)

        async def tasks(client: matfn.AsyncClient) -> None:
            first = asyncio.create_task(client.ask(patient))
            await asyncio.sleep(0)
            with pytest.raises(matfn.TransportTimeout):
                await client.ask(hasty)
            assert time.monotonic() - began < 2
            first.cancel()

        used(kind, url, threads if kind is matfn.Client else tasks, timeout=3)


@both
def test_question_is_tried_again(kind: type) -> None:
    """A server that hangs up on the first question is asked once more."""
    answers = serving(max_order=1)

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        if conversation.number:
            answers(server, conversation)

    with ScriptedServer(script) as server, pytest.raises(matfn.TooLarge):
        used(kind, server.url, lambda client: client.ask(GOOD))


@both
def test_failed_question_is_asked_again_by_the_next_call(kind: type) -> None:
    """A client that found no server uses the limits of one that is started later."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = kind(f"http://127.0.0.1:{port}", max_retries=0)
    calls = [matfn.call.root(np.full((32, 32), float(number)), 2) for number in range(60)]

    async def of_async() -> Any:
        with pytest.raises(matfn.TransportError):
            await client.ask(GOOD)
        with _server_at(port, max_request_bytes=200_000) as server:
            values = await client.map(calls)
            assert sum(b"POST" in request for request in server.requests) > 1
            await client.close()
        return values

    def of_sync() -> Any:
        with pytest.raises(matfn.TransportError):
            client.ask(GOOD)
        with _server_at(port, max_request_bytes=200_000) as server:
            values = client.map(calls)
            assert sum(b"POST" in request for request in server.requests) > 1
            client.close()
        return values

    values = of_sync() if kind is matfn.Client else asyncio.run(of_async())
    np.testing.assert_array_equal(values, [np.full((32, 32), float(number)) for number in range(60)])


def _server_at(port: int, **limits: int) -> ScriptedServer:
    return ScriptedServer(serving(**limits), port=port)


@both
def test_limits_are_asked_for_again_after_a_call_that_was_too_large(kind: type) -> None:
    """A server that was started again with a larger limit gets the next call."""
    known = [1]

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        serving(max_order=known[0])(server, conversation)

    with ScriptedServer(script) as server:

        def sync(client: matfn.Client) -> Any:
            with pytest.raises(matfn.TooLarge):
                client.ask(GOOD)
            known[0] = 2
            client._transport.close()
            return client.ask(GOOD).value

        async def tasks(client: matfn.AsyncClient) -> Any:
            with pytest.raises(matfn.TooLarge):
                await client.ask(GOOD)
            known[0] = 2
            await client._transport.close()
            return (await client.ask(GOOD)).value

        np.testing.assert_array_equal(used(kind, server.url, sync if kind is matfn.Client else tasks), A)


@both
def test_map_returns_the_failed_question_in_every_place(kind: type) -> None:
    """With on_error="return" calls that could not be sent have the error each, with their places."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    errors = used(
        kind,
        f"http://127.0.0.1:{port}",
        lambda client: client.map([GOOD, GOOD], on_error="return"),
        max_retries=0,
    )

    assert [(type(error), error.call) for error in errors] == [(matfn.TransportError, 0), (matfn.TransportError, 1)]
    assert str(port) in str(errors[0])


@both
def test_map_of_nothing_needs_no_server(kind: type) -> None:
    """No calls have no answers, whether or not a server listens."""
    assert used(kind, "http://127.0.0.1:9", lambda client: client.map([]), max_retries=0) == []
