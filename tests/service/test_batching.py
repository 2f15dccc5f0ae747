"""Batches form while the device is busy, and a failure stays with its culprit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from matfn import wire
from matfn_service.executor import DeviceMemoryError
from scripted import Opened, ScriptedExecutor, matrices, post, until

if TYPE_CHECKING:
    import httpx

    from matfn_kernels.evaluation import Batch
    from matfn_service.service import Service

pytestmark = pytest.mark.anyio

POISON = 4444.0


def poisoned(batch: Batch) -> Exception | None:
    """A kernel that raises for the whole batch because of one matrix."""
    return ValueError("a bug in a kernel") if bool((batch.inputs["m"] == POISON).any()) else None


async def send(client: httpx.AsyncClient, entry: float) -> httpx.Response:
    """The answer for a 4 x 4 matrix that starts with this entry."""
    rows = [[entry if i == j == 0 else float(i == j) for j in range(4)] for i in range(4)]
    return await client.post("/v1/msign", json={"inputs": {"m": rows}})


async def test_idle_device_takes_a_call_at_once(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """A lone call waits for nobody."""
    answer = await post(client)

    assert answer.status_code == 200
    assert executor.sizes == [[1]]


async def test_batch_forms_while_the_device_is_busy(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """Calls of one program that come while the device works leave together, others separately."""
    executor.gate.clear()
    first = asyncio.create_task(post(client))
    await executor.busy.acquire()
    others = [asyncio.create_task(post(client, "msign", *shape)) for shape in [(4, 4), (3, 4, 4), (5, 5), (4, 4)]]
    await until(lambda: len(service.queue) == 4)
    executor.gate.set()

    answers = [wire.decode_answer((await task).content, wire.Media.MSGPACK) for task in [first, *others]]
    assert executor.sizes == [[1], [1, 3, 1], [1]]
    assert [answer.timing.batch_size for answer in answers] == [1, 5, 5, 1, 5]


async def test_calls_of_one_request_share_a_batch(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """POST /v1/calls queues all its calls before the device takes any."""
    calls = [wire.Call("msign", {"m": matrices(4, 4, seed=seed)}, {}, {}) for seed in range(5)]
    body = b"".join(wire.encode_calls(calls, wire.Media.MSGPACK))
    await client.post("/v1/calls", content=body, headers={"content-type": "application/msgpack"})

    assert executor.sizes == [[1] * 5]


@pytest.mark.parametrize("executor", [ScriptedExecutor(lanes=2)])
async def test_large_batch_is_dealt_to_free_lanes(opened: Opened, executor: ScriptedExecutor) -> None:
    """A call of many matrices uses every free lane and comes back whole and in order."""
    async with opened() as client:
        answer = wire.decode_answer((await post(client, "msign", 9, 64, 64)).content, wire.Media.MSGPACK)

    assert executor.sizes == [[4], [5]]
    assert answer.outputs["x"].shape == (9, 64, 64)
    assert (len(answer.certificates), answer.timing.batch_size) == (9, 9)


async def test_call_beyond_the_cap_is_split_and_joined(opened: Opened, executor: ScriptedExecutor) -> None:
    """A call larger than a batch may be is computed in pieces, and its caller does not notice."""
    async with opened(batch_bytes=2 * 4 * 4 * 8 * 3) as client:
        answer = wire.decode_answer((await post(client, "msign", 7, 4, 4)).content, wire.Media.MSGPACK)

    assert len(executor.sizes) > 1
    assert sum(map(sum, executor.sizes)) == 7
    assert answer.outputs["x"].shape == (7, 4, 4)


async def test_lone_failure_fails_alone(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """One call that makes the kernel raise gets a 500; its eight batch-mates get their answers."""
    executor.fault = poisoned
    executor.gate.clear()
    blocker = asyncio.create_task(post(client))
    await executor.busy.acquire()
    tasks = [asyncio.create_task(send(client, entry)) for entry in [1, 2, 3, 4, POISON, 5, 6, 7, 8]]
    await until(lambda: len(service.queue) == 9)
    executor.gate.set()
    await blocker

    assert [(await task).status_code for task in tasks] == [200] * 4 + [500] + [200] * 4
    assert service.statistics.bisections == 3
    assert service.statistics.failed == {"internal": 1}


async def test_memory_shortage_halves_the_batch(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """A batch too large for the device is computed in halves, and every caller is answered."""
    executor.memory_for(items=2)
    answer = await post(client, "msign", 7, 4, 4)

    assert answer.status_code == 200
    assert service.statistics.halvings == 3
    assert wire.decode_answer(answer.content, wire.Media.MSGPACK).outputs["x"].shape == (7, 4, 4)


async def test_matrix_too_large_for_the_device_is_told(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """A single matrix that does not fit the device's memory is out_of_memory, and the next call is served."""
    executor.fault = lambda batch: DeviceMemoryError("full") if batch.items else None
    refused = await post(client)
    executor.memory_for(items=10)

    assert (refused.status_code, wire.decode_problem(refused.content, refused.headers["content-type"]).code) == (
        503,
        "out_of_memory",
    )
    assert (await post(client)).status_code == 200


async def test_program_recovers_its_batch_size(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """After a shortage a program's batches grow back with every batch that fits."""
    executor.memory_for(items=4)
    await post(client, "msign", 8, 4, 4)
    shrunk = dict(service.batcher._caps)
    for _ in range(20):
        await post(client)

    assert list(shrunk.values()) == [0.5]
    assert service.batcher._caps == {}


async def test_higher_priority_goes_first(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """Of what waits, the program of the highest priority is next."""
    executor.gate.clear()
    tasks = [asyncio.create_task(post(client))]
    await executor.busy.acquire()
    for order, priority in [(5, 0), (6, 9), (7, 4)]:
        tasks.append(asyncio.create_task(post(client, "msign", order, order, priority=priority)))
        await until(lambda: len(service.queue) == len(tasks) - 1)
    executor.gate.set()
    await asyncio.gather(*tasks)

    assert [batch.inputs["m"].shape[-1] for batch in executor.seen] == [4, 6, 7, 5]
