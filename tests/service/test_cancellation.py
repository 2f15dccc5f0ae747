"""Callers who leave, deadlines that come, and servers that stop: while queued and while running."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from matfn import wire
from scripted import MSGPACK, Opened, ScriptedExecutor, call_body, post, service_behind, until

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    import httpx

    from matfn_service.service import Service

pytestmark = pytest.mark.anyio


class Caller:
    """A raw ASGI caller who may hang up."""

    def __init__(self, client: httpx.AsyncClient, body: bytes, path: str = "/v1/msign") -> None:
        self.gone = asyncio.Event()
        self.sent: list[MutableMapping[str, object]] = []
        self._messages = [{"type": "http.request", "body": body, "more_body": False}]
        headers = [(name.encode(), value.encode()) for name, value in MSGPACK.items()]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "root_path": ""}
        headers.append((b"content-length", b"%d" % len(body)))
        app = client._transport.app  # type: ignore[attr-defined]
        self.done = asyncio.create_task(app({**scope, "headers": headers}, self._receive, self._send))

    async def _receive(self) -> dict[str, object]:
        if self._messages:
            return self._messages.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, object]) -> None:
        self.sent.append(message)

    async def hang_up(self) -> None:
        """Closes the connection and waits until the application is through."""
        self.gone.set()
        await self.done


@pytest.fixture
async def blocked(client: httpx.AsyncClient, executor: ScriptedExecutor) -> asyncio.Task[httpx.Response]:
    """A call that stays on the device until the gate opens."""
    executor.gate.clear()
    task = asyncio.create_task(post(client, "msign", 3, 3))
    await executor.busy.acquire()
    return task


async def test_caller_who_left_never_reaches_the_device(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service, blocked: asyncio.Task[httpx.Response]
) -> None:
    """A queued call whose caller hangs up frees its slot at once, is counted, and the others are answered."""
    leaver, mate = Caller(client, call_body()), asyncio.create_task(post(client))
    await until(lambda: len(service.queue) == 2)
    await leaver.hang_up()
    waiting = len(service.queue)
    executor.gate.set()

    assert (await mate).status_code == (await blocked).status_code == 200
    assert (waiting, executor.sizes) == (1, [[1], [1]])
    assert service.statistics.dropped_disconnected == 1
    assert leaver.sent == []


async def test_cancelled_request_frees_its_slot(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service, blocked: asyncio.Task[httpx.Response]
) -> None:
    """A server that cancels a request's task leaves nothing of it in the queue."""
    cancelled = Caller(client, call_body())
    await until(lambda: len(service.queue) == 1)
    cancelled.done.cancel()
    await until(lambda: len(service.queue) == 0)
    executor.gate.set()

    assert (await blocked).status_code == 200
    assert executor.sizes == [[1]]


async def test_caller_who_left_while_running_harms_nobody(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """The answer of a caller that hung up is dropped; the others are answered, and the worker goes on."""
    executor.gate.clear()
    leaver = Caller(client, call_body())
    await executor.busy.acquire()
    await leaver.hang_up()
    executor.gate.set()

    assert (await post(client)).status_code == 200
    assert service.statistics.dropped_disconnected == 0


async def test_all_calls_of_a_request_leave_together(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service, blocked: asyncio.Task[httpx.Response]
) -> None:
    """Hanging up on POST /v1/calls drops every call of it."""
    call = wire.decode_call(call_body(), wire.Media.MSGPACK, "msign")
    leaver = Caller(client, b"".join(wire.encode_calls([call] * 3, wire.Media.MSGPACK)), "/v1/calls")
    await until(lambda: len(service.queue) == 3)
    await leaver.hang_up()
    executor.gate.set()

    assert (await blocked).status_code == 200
    assert executor.sizes == [[1]]
    assert service.statistics.dropped_disconnected == 3


async def test_deadline_is_answered_while_queued(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service, blocked: asyncio.Task[httpx.Response]
) -> None:
    """A deadline that comes in the queue is answered though the device is busy, and the device never sees the call."""
    answer = await post(client, "msign", 4, 4, deadline=0.05)
    executor.gate.set()
    await blocked

    assert answer.status_code == 504
    assert (len(service.queue), executor.sizes) == (0, [[1]])
    assert service.statistics.dropped_deadline == 1


async def test_deadline_is_answered_while_running(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """A deadline that comes on the device is answered before the device is done."""
    executor.gate.clear()
    late = await post(client, "msign", 4, 4, deadline=0.05)
    executor.gate.set()

    assert late.status_code == 504
    assert (await post(client)).status_code == 200


@pytest.mark.parametrize("deadline", [0, 0.0])
async def test_no_time_is_no_answer(client: httpx.AsyncClient, executor: ScriptedExecutor, deadline: float) -> None:
    """A deadline of zero is exceeded at once."""
    answer = await post(client, "msign", 4, 4, deadline=deadline)

    assert answer.status_code == 504
    assert executor.sizes == []


async def test_hopeless_deadline_is_refused_at_admission(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service, blocked: asyncio.Task[httpx.Response]
) -> None:
    """A deadline before the predicted end of the backlog is refused at once; a higher priority has less before it."""
    work = [asyncio.create_task(post(client, "msign", 100, 64, 64)) for _ in range(40)]
    await until(lambda: service.queue.seconds > 0.4)
    waiting = len(service.queue)
    low = await post(client, deadline=0.3)
    high = asyncio.create_task(post(client, deadline=30.0, priority=9))
    await until(lambda: len(service.queue) == waiting + 1)
    executor.gate.set()

    assert low.status_code == 504
    assert "ahead of this call" in wire.decode_problem(low.content, low.headers["content-type"]).detail
    assert [(await task).status_code for task in (*work, high, blocked)] == [200] * 42


async def test_drain_finishes_queued_work(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service, blocked: asyncio.Task[httpx.Response]
) -> None:
    """A drain answers what is queued, refuses what is new, and ends when the last answer is out."""
    queued = asyncio.create_task(post(client))
    await until(lambda: len(service.queue) == 1)
    draining = asyncio.create_task(service.drain())
    await until(lambda: service.state == "draining")
    refused, ready = await post(client), await client.get("/readyz")
    executor.gate.set()
    await draining

    assert (refused.status_code, ready.status_code) == (503, 503)
    assert blocked.done()
    assert queued.result().status_code == 200


async def test_drain_gives_up_in_time(opened: Opened, executor: ScriptedExecutor) -> None:
    """Work that outlasts the drain is answered with draining instead of silence."""
    async with opened(drain_seconds=0.2) as client:
        executor.gate.clear()
        stuck = asyncio.create_task(post(client))
        await executor.busy.acquire()
        await service_behind(client).drain()

        problem = wire.decode_problem((await stuck).content, (await stuck).headers["content-type"])
        assert (problem.status, problem.code) == (503, "draining")
        executor.gate.set()
