"""The last worker is there for keys other than the one whose costly batch holds the rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from matfn_service import expectations
from scripted import MSGPACK, Opened, ScriptedExecutor, call_body, service_behind, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from matfn_service.assembly import Part
    from matfn_service.executor import Run

pytestmark = pytest.mark.anyio

COSTLY, BRIEF, SMALL, NEW = 32, 8, 4, 6


class TwoGates(ScriptedExecutor):
    """Two workers that hold costly matrices and small ones at a gate each; a costly one takes 10 ms."""

    def __init__(self) -> None:
        super().__init__(workers=2)
        self.gates = {COSTLY: asyncio.Event(), SMALL: asyncio.Event()}
        self.open()

    def open(self) -> None:
        """Lets everything through."""
        for gate in self.gates.values():
            gate.set()

    @property
    def orders(self) -> list[int]:
        """Orders of the batches so far."""
        return [batch.inputs["m"].shape[-1] for batch in self.seen]

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes once the gate of this order is open."""
        order = next(iter(parts[0].batch.inputs.values())).shape[-1]
        self.seconds_each = 0.01 if order == COSTLY else 0.0
        run = asyncio.create_task(super().run(parts))
        await self.gates.get(order, self.gate).wait()
        return await run


@pytest.fixture
def executor() -> TwoGates:
    """Two workers with gates."""
    return TwoGates()


async def posted(client: httpx.AsyncClient, key: str, order: int) -> httpx.Response:
    """The answer to a key's call of one matrix."""
    headers = {**MSGPACK, "authorization": f"Bearer {key}"}
    return await client.post("/v1/msign", content=call_body("msign", order, order), headers=headers)


async def held(client: httpx.AsyncClient, executor: TwoGates, key: str, order: int) -> asyncio.Task[httpx.Response]:
    """A call that is on a worker, behind the gate of its order."""
    executor.gates[order].clear()
    seen = len(executor.seen)
    call = asyncio.create_task(posted(client, key, order))
    await until(lambda: len(executor.seen) > seen)
    return call


async def test_brief_batch_waits_for_a_key_that_was_just_answered(
    opened: Opened, executor: TwoGates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the answer to a small call the last worker waits for the next one, then takes the flood's brief batch."""
    monkeypatch.setattr(expectations, "_SOON", 0.3)
    async with opened(api_keys="flood, other") as client:
        for key, order in [("flood", COSTLY), ("flood", BRIEF), ("other", SMALL)]:
            await posted(client, key, order)
        executor.forget()
        calls = [await held(client, executor, "flood", COSTLY), await held(client, executor, "other", SMALL)]
        calls.append(asyncio.create_task(posted(client, "flood", BRIEF)))
        await until(lambda: len(service_behind(client).queue) == 1)
        executor.gates[SMALL].set()
        await calls[1]
        await posted(client, "other", SMALL)
        before = executor.orders
        await until(lambda: len(executor.seen) == 4)
        executor.open()
        assert [(await call).status_code for call in calls] == [200] * 3

    assert before == [COSTLY, SMALL, SMALL]
    assert executor.orders == [COSTLY, SMALL, SMALL, BRIEF]


async def test_what_was_never_measured_stays_off_the_last_worker(opened: Opened, executor: TwoGates) -> None:
    """A key with a costly batch under way has nothing new on the last worker, where another key's new call runs."""
    async with opened(api_keys="flood, other") as client:
        for key, order in [("flood", COSTLY), ("other", SMALL)]:
            await posted(client, key, order)
        executor.forget()
        calls = [await held(client, executor, "flood", COSTLY)]
        calls.append(asyncio.create_task(posted(client, "flood", NEW)))
        await until(lambda: len(service_behind(client).queue) == 1)
        await posted(client, "other", NEW + 1)
        before = executor.orders
        executor.open()
        assert [(await call).status_code for call in calls] == [200] * 2

    assert before == [COSTLY, NEW + 1]
