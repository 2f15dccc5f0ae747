"""The access log: a line a request, with what it was and how long it took, and nothing of its matrices and keys."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from matfn import wire
from matfn_service.access_log import plain_path
from scripted import MSGPACK, Opened, ScriptedExecutor, call_body, matrices, post

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """What the log has in JSON since the last look."""

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith('{"event": "req')]

    return read


def many(*calls: wire.Call) -> bytes:
    """A body of many calls."""
    return b"".join(wire.encode_calls(calls, wire.Media.MSGPACK))


def sign(*shape: int, name: str = "m") -> wire.Call:
    """A call, right where its input's name is."""
    return wire.Call("msign", {name: matrices(*shape)}, {}, {})


async def test_call_is_a_line(opened: Opened, lines: Callable[[], list[dict[str, Any]]]) -> None:
    """A line has the request's name, its function, sizes, outcome and times."""
    body = call_body("msign", 3, 4, 4)
    async with opened(access_log="json") as client:
        answer = await client.post("/v1/msign", content=body, headers={**MSGPACK, "x-request-id": "r-7"})
    (line,) = lines()

    assert line.pop("timestamp").endswith("Z")
    times = [line.pop(name) for name in ("queue_ms", "device_ms", "total_ms")]
    assert 0 <= times[1] <= times[2]
    assert line == {
        "event": "request",
        "request_id": "r-7",
        "method": "POST",
        "path": "/v1/msign",
        "function": "msign",
        "calls": 1,
        "matrices": 3,
        "received": len(body),
        "sent": len(answer.content),
        "status": 200,
        "outcome": "ok",
    }


async def test_many_calls_are_a_line(opened: Opened, lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Calls of one request are counted together, and their outcomes by code."""
    async with opened(access_log="json") as client:
        body = many(sign(2, 4, 4), sign(4, 4), sign(4, 4, name="q"), sign(3, 3, 3))
        await client.post("/v1/calls", content=body, headers=MSGPACK)
        await client.post("/v1/calls", content=many(sign(4, 4), sign(2, 2)), headers=MSGPACK)
    first, second = lines()

    assert (first["function"], first["calls"], first["matrices"]) == ("calls", 3, 6)
    assert first["outcome"].startswith("3 ok, 1 ")
    assert (second["status"], second["outcome"], second["matrices"]) == (200, "ok", 2)


@pytest.mark.parametrize(
    ("method", "path", "content", "expected"),
    [
        ("GET", "/v1/status", b"", (200, "ok", None)),
        ("GET", "/healthz", b"", (200, "ok", None)),
        ("GET", "/nowhere", b"", (404, "not_found", None)),
        ("POST", "/v1/nothing", b"", (404, "unknown_function", None)),
        ("POST", "/v1/msign", b"\xc1", (400, "malformed", "msign")),
        ("POST", "/v1/msign", call_body("msign", 9, 9), (422, "invalid_shape", "msign")),
    ],
)
async def test_every_request_is_a_line(
    opened: Opened,
    lines: Callable[[], list[dict[str, Any]]],
    method: str,
    path: str,
    content: bytes,
    expected: tuple[int, str, str | None],
) -> None:
    """Reports, probes and refusals are in the log too, these with their code."""
    async with opened(access_log="json", max_order=8) as client:
        answer = await client.request(method, path, content=content, headers=MSGPACK)
    (line,) = lines()

    assert (line["status"], line["outcome"], line.get("function")) == expected
    assert (line["sent"], answer.status_code) == (len(answer.content), expected[0])
    assert line["received"] == (len(content) if line.get("function") else 0)


async def test_caller_who_left_is_a_line(
    opened: Opened, executor: ScriptedExecutor, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """A request that nobody waits for any more has no status."""
    sent = iter([{"type": "http.request", "body": call_body(), "more_body": False}])
    gone = asyncio.Event()

    async def receive() -> Any:
        message = next(sent, None)
        if message is None:
            await gone.wait()
            return {"type": "http.disconnect"}
        return message

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"content-type", MSGPACK["content-type"].encode()), (b"transfer-encoding", b"chunked")]
    async with opened(access_log="json") as client:
        scope = {"type": "http", "method": "POST", "path": "/v1/msign", "headers": headers, "extensions": {}}
        executor.gate.clear()
        serving = asyncio.create_task(client._transport.app(scope, receive, send))  # type: ignore[attr-defined]
        await executor.busy.acquire()
        gone.set()
        await serving
        executor.gate.set()
    (line,) = lines()

    assert (line["status"], line["outcome"], line["function"]) == (None, "left", "msign")


async def test_no_secret_is_in_the_log(opened: Opened, lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Neither keys nor query strings are logged, and paths are cut and hold nothing that terminals obey."""
    async with opened(access_log="json", api_keys="s3cret") as client:
        headers = {"authorization": "Bearer s3cret"}
        await client.get("/v1/status?key=s3cret", headers=headers)
        await client.get("/v1/status", headers={"authorization": "Bearer wr0ng"})
        await client.get("/%1b[31m" + "x" * 500, headers=headers)
    found = lines()

    assert [line["status"] for line in found] == [200, 401, 404]
    assert not any(word in json.dumps(found) for word in ("s3cret", "wr0ng"))
    assert all(len(line["path"]) < 220 and line["path"].isprintable() for line in found)


async def test_info_is_a_line_of_the_log(opened: Opened) -> None:
    """With `info` the line is one of the server's own, in whatever format these are."""
    with structlog.testing.capture_logs() as lines:
        async with opened(access_log="info") as client:
            await post(client)
    found = [line for line in lines if line["event"] == "request"]

    assert [(line["log_level"], line["function"], line["outcome"]) for line in found] == [("info", "msign", "ok")]


async def test_there_is_no_line_by_default(opened: Opened, lines: Callable[[], list[dict[str, Any]]]) -> None:
    """A server that was not asked to writes no access log."""
    with structlog.testing.capture_logs() as own:
        async with opened() as client:
            await post(client)

    assert lines() == []
    assert not [line for line in own if line["event"] == "request"]


def test_path_is_plain() -> None:
    """What is no ASCII, or moves a cursor, is written as an escape."""
    assert plain_path("/v1/ä\r\n") == "/v1/\\xe4\\r\\n"


async def test_status_is_a_number_in_the_log_for_people(opened: Opened) -> None:
    """A line for people has the status in digits, not by the name of Python's constant."""
    with structlog.testing.capture_logs() as events:
        async with opened(access_log="info") as client:
            await client.post("/v1/msign", content=call_body("msign", 2, 2), headers=MSGPACK)
    (line,) = [event for event in events if event["event"] == "request"]

    assert repr(line["status"]) == "200"
