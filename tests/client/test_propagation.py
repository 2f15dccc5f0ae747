"""The active span of the caller goes along with requests, from every kind of call, and nothing does without one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span

import matfn
from matfn import wire
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A = np.diag([1.0, 2.0])
NAME = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPAN = NonRecordingSpan(
    SpanContext(
        0x0AF7651916CD43DD8448EB211C80319C,
        0xB7AD6B7169203331,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState([("vendor", "1")]),
    )
)


def serving(server: ScriptedServer, conversation: Conversation) -> None:
    """Limits for GET, and the first input for each call."""
    while request := server.read(conversation):
        head, _, body = request.partition(b"\r\n\r\n")
        if head.startswith(b"GET"):
            conversation.say(http_response(b"{}", content_type="application/json"))
            continue
        if head.startswith(b"POST /v1/calls"):
            answers = [
                answered(call) for call in wire.decode_calls(body, wire.Media.MSGPACK) if isinstance(call, wire.Call)
            ]
            content = wire.encode_answers(answers, wire.Media.MSGPACK)
        else:
            content = wire.encode_answer(
                answered(wire.decode_call(body, wire.Media.MSGPACK, "msign")), wire.Media.MSGPACK
            )
        conversation.say(http_response(b"".join(content)))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that hands back what it gets."""
    with ScriptedServer(serving) as server:
        yield server


def heads(server: ScriptedServer) -> list[bytes]:
    """The heads of all requests."""
    return [request.partition(b"\r\n\r\n")[0] for request in server.requests]


async def _asked(url: str) -> None:
    async with matfn.AsyncClient(url) as client:
        await client.msign(A)


def _with_client(url: str, use: Callable[[matfn.Client], Any]) -> None:
    with matfn.Client(url) as client:
        use(client)


CALLS: dict[str, Callable[[str], None]] = {
    "call": lambda url: _with_client(url, lambda client: client.msign(A)),
    "map": lambda url: _with_client(url, lambda client: client.map([matfn.call.msign(A), matfn.call.msign(A)])),
    "submit": lambda url: _with_client(url, lambda client: client.submit(matfn.call.msign(A)).result(10)),
    "async": lambda url: asyncio.run(_asked(url)),
}


@pytest.mark.parametrize("ask", CALLS.values(), ids=CALLS.keys())
def test_active_span_goes_along(server: ScriptedServer, ask: Callable[[str], None]) -> None:
    """Every request of a call within a span names it, in whatever thread it is sent."""
    with use_span(SPAN):
        ask(server.url)

    assert len(heads(server)) == 2
    assert all(f"traceparent: {NAME}".encode() in head for head in heads(server))
    assert all(b"tracestate: vendor=1" in head for head in heads(server))


@pytest.mark.parametrize("ask", CALLS.values(), ids=CALLS.keys())
def test_nothing_goes_along_without_a_span(server: ScriptedServer, ask: Callable[[str], None]) -> None:
    """Without an active span there is no such header, also where OpenTelemetry is loaded."""
    ask(server.url)

    assert not any(b"trace" in head for head in heads(server))


def test_callers_own_header_wins(server: ScriptedServer) -> None:
    """A traceparent among the client's headers is the only one."""
    with use_span(SPAN), matfn.Client(server.url, headers={"traceparent": "00-mine"}) as client:
        client.msign(A)

    assert all(head.count(b"traceparent") == 1 for head in heads(server))
    assert b"traceparent: 00-mine" in heads(server)[-1]


def test_client_does_not_import_the_library(server: ScriptedServer) -> None:
    """A program that traces nothing does not load OpenTelemetry by calling."""
    program = (
        f"import sys, numpy, matfn; matfn.Client({server.url!r}).msign(numpy.eye(2));"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50)

    assert told.stdout.strip() == "[]"
