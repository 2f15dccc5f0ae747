"""A bug at any stage of one call's way fails that call alone: the others are answered, and the service goes on."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import scripted
from matfn import wire
from matfn_kernels.running import evaluation
from matfn_service import admission, answers
from scripted import MSGPACK, ScriptedExecutor, until

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from matfn_service.service import Service

pytestmark = pytest.mark.anyio

POISON = 4444.0
ENTRIES = [1.0, 2.0, 3.0, 4.0, POISON, 5.0, 6.0, 7.0, 8.0]

STAGES: dict[str, tuple[object, str]] = {
    "admission": (admission, "batch_of"),
    "packing": (scripted, "concatenate"),
    "device": (scripted, "evaluate_together"),
    "unpacking": (evaluation, "_apart"),
    "certificates": (scripted, "encode"),
    "joining": (answers, "rows_to_wire"),
    "encoding": (wire, "encode_answer"),
}


def holds_poison(thing: object) -> bool:
    """Whether a value, or anything that it is made of, is or holds the poisoned number."""
    match thing:
        case torch.Tensor():
            return bool((thing == POISON).any())
        case bytes() | bytearray() | memoryview():
            return not len(thing) % 8 and bool((np.frombuffer(thing, np.float64) == POISON).any())
        case dict():
            return any(map(holds_poison, thing.values()))
        case list() | tuple():
            return any(map(holds_poison, thing))
        case _:
            return any(holds_poison(getattr(thing, name)) for name in getattr(type(thing), "__slots__", ()))


def breaking(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same work, which fails on poison."""

    def broken(*arguments: object) -> object:
        if holds_poison(arguments):
            raise ValueError("a bug")
        return work(*arguments)

    return broken


async def send(client: httpx.AsyncClient, entry: float) -> float:
    """What comes back of a diagonal matrix that starts with this entry, through a clipping without bounds."""
    data = np.diag([entry, 1.0, 1.0, 1.0]).tobytes()
    call = wire.Call("mclip", {"m": wire.Tensor("float64", (4, 4), data)}, {"hi": None}, {})
    body = b"".join(wire.encode_call(call, wire.Media.MSGPACK))
    answer = await client.post("/v1/mclip", content=body, headers=MSGPACK)
    if answer.status_code != 200:
        assert wire.decode_problem(answer.content, answer.headers["content-type"]).code == "internal"
        return math.nan
    found = np.frombuffer(wire.decode_answer(answer.content, wire.Media.MSGPACK).outputs["x"].data)
    return float(found[0])


@pytest.mark.parametrize("stage", STAGES)
async def test_bug_at_any_stage_is_one_calls_own(
    client: httpx.AsyncClient,
    executor: ScriptedExecutor,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """Eight of nine calls that wait together are answered; what is kept for the ninth is let go; the next is served."""
    module, name = STAGES[stage]
    monkeypatch.setattr(module, name, breaking(getattr(module, name)))
    waiting = len(ENTRIES) - (stage == "admission")
    executor.gate.clear()
    blocker = asyncio.create_task(send(client, 9.0))
    await executor.busy.acquire()
    tasks = [asyncio.create_task(send(client, entry)) for entry in ENTRIES]
    await until(lambda: len(service.queue) == waiting)
    executor.gate.set()
    found = [await task for task in tasks]

    assert found == pytest.approx([math.nan if entry == POISON else entry for entry in ENTRIES], nan_ok=True)
    assert await blocker == pytest.approx(9.0)
    assert (len(service.queue), service.queue.bytes, service.batcher.is_busy) == (0, 0, False)
    assert await send(client, 10.0) == pytest.approx(10.0)
