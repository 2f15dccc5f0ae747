"""More callers than the queue holds: each is told a time of its own, and finds room then."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import httpx
import pytest

from matfn import wire
from matfn_service.app import create_app
from matfn_service.batcher import Batcher
from matfn_service.settings import Settings
from scripted import MSGPACK, ScriptedExecutor, call_body, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from matfn_service.service import Service

pytestmark = pytest.mark.anyio

CALL_BYTES = 3 * 8 * 8 * 8  # an 8 x 8 float64 matrix, and what the planner keeps for its answer
PLACES = 8


class Clock:
    """Time that goes on when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


@asynccontextmanager
async def full_service(executor: ScriptedExecutor, clock: Clock) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """A service that holds `PLACES` calls, and its client."""
    settings = {"queue_bytes": CALL_BYTES * PLACES, "max_request_bytes": 4096}
    app = create_app(Settings.model_validate(settings), executor=executor, clock=clock)
    async with app.router.lifespan_context(app):
        await app.state.service.admission()
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://matfn") as client:
            executor.forget()
            executor.gate.clear()
            tasks = [asyncio.create_task(send(client, "first-0"))]
            await executor.busy.acquire()
            tasks += [asyncio.create_task(send(client, f"first-{number}")) for number in range(1, PLACES)]
            await until(lambda: len(app.state.service.queue) == PLACES - 1)
            yield client, app.state.service
            executor.gate.set()
            assert [(await task).status_code for task in tasks] == [200] * PLACES


async def send(client: httpx.AsyncClient, name: str) -> httpx.Response:
    """One call under a name."""
    body = call_body("msign", 8, 8)
    return await client.post("/v1/msign", content=body, headers={**MSGPACK, "x-request-id": name})


def wait_of(refused: httpx.Response) -> float:
    """Seconds that a refused call is told to wait."""
    assert refused.status_code == 429
    milliseconds = wire.decode_problem(refused.content, refused.headers["content-type"]).retry_after_ms
    assert milliseconds is not None
    return milliseconds / 1e3


async def test_refused_callers_are_told_different_times(executor: ScriptedExecutor) -> None:
    """Each refusal names a later time than the one before, by what the one before will bring."""
    async with full_service(executor, Clock()) as (client, _):
        waits = [wait_of(await send(client, f"more-{number}")) for number in range(6)]

    steps = [later - earlier for earlier, later in pairwise(waits)]
    assert steps == pytest.approx([steps[0]] * 5)
    assert steps[0] > 0


async def test_newcomers_leave_room_for_who_was_told_to_come(executor: ScriptedExecutor) -> None:
    """Where one place is free, it is refused to a newcomer and given to the caller it was reserved for."""
    clock = Clock()
    async with full_service(executor, clock) as (client, service):
        wait = wait_of(await send(client, "reserved"))
        executor.finish_batch()
        await executor.busy.acquire()
        clock.now += wait
        other = wait_of(await send(client, "other"))
        reserved = asyncio.create_task(send(client, "reserved"))
        await until(lambda: len(service.queue) == 1)
        executor.gate.set()

        assert other > 0
        assert (await reserved).status_code == 200


async def test_nobody_is_expected_for_ever(executor: ScriptedExecutor) -> None:
    """Callers who do not come back keep no place."""
    clock = Clock()
    async with full_service(executor, clock) as (client, service):
        for number in range(50):
            await send(client, f"gone-{number}")
        clock.now += 1e6
        wait_of(await send(client, "newcomer"))

        assert isinstance(service.batcher, Batcher)
        assert len(service.batcher.admittance.reservations[""]) == 1
