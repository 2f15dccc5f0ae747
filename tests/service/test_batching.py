"""Batches form while the device is busy, and a failure stays with its culprit."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from matfn import wire
from matfn_service.batcher import Batcher
from matfn_service.executor import DeviceMemoryError
from scripted import MSGPACK, Opened, ScriptedExecutor, call_body, matrices, post, service_behind, until

if TYPE_CHECKING:
    import httpx

    from matfn_kernels.running.evaluation import Batch
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


@pytest.mark.parametrize("matrices", [0, 1, 3, 50])
async def test_fill_is_a_share_of_the_largest_batch(client: httpx.AsyncClient, matrices: int) -> None:
    """The fill in an answer's timing grows with the matrices in the batch; a batch without any has none."""
    one, some = [
        wire.decode_answer((await post(client, "msign", count, 4, 4)).content, wire.Media.MSGPACK).timing
        for count in (1, matrices)
    ]

    assert 0.0 < one.fill < 0.01
    assert some.fill == pytest.approx(matrices * one.fill)


async def test_calls_of_one_request_share_a_batch(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """POST /v1/calls queues all its calls before the device takes any."""
    calls = [wire.Call("msign", {"m": matrices(4, 4, seed=seed)}, {}, {}) for seed in range(5)]
    body = b"".join(wire.encode_calls(calls, wire.Media.MSGPACK))
    await client.post("/v1/calls", content=body, headers={"content-type": "application/msgpack"})

    assert executor.sizes == [[1] * 5]


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_large_batch_is_dealt_to_free_workers(opened: Opened, executor: ScriptedExecutor) -> None:
    """A call of many matrices uses every free worker and comes back whole and in order."""
    async with opened() as client:
        answer = wire.decode_answer((await post(client, "msign", 9, 64, 64)).content, wire.Media.MSGPACK)

    assert executor.sizes == [[4], [5]]
    assert answer.outputs["x"].shape == (9, 64, 64)
    assert (len(answer.certificates), answer.timing.batch_size) == (9, 9)


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=1, ahead=1)])
async def test_one_batch_is_prepared_ahead(opened: Opened, executor: ScriptedExecutor) -> None:
    """A device that lies elsewhere has its next batch at hand, whole, and no more than one."""
    async with opened() as client:
        await executor.hold()
        tasks = []
        for seen in (1, 2):
            tasks.append(asyncio.create_task(post(client, "msign", 9, 64, 64)))
            await until(lambda seen=seen: len(executor.seen) == seen)  # type: ignore[misc]
        tasks += [asyncio.create_task(post(client)) for _ in range(3)]
        await until(lambda: len(service_behind(client).queue) == 3)
        executor.gate.set()
        answers = await asyncio.gather(*tasks)

    assert executor.sizes == [[9], [9], [1] * 3]
    assert [answer.status_code for answer in answers] == [200] * 5


async def test_the_next_batch_goes_before_the_answers_of_the_last(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """A device that has done its batch has the next one before anybody has been answered."""
    answered: list[int] = []
    executor.fault = lambda batch: answered.append(service.statistics.answered)  # noqa: ARG005
    await executor.hold()
    first = asyncio.create_task(post(client))
    await executor.busy.acquire()
    second = asyncio.create_task(post(client))
    await until(lambda: len(service.queue) == 1)
    executor.gate.set()

    assert [(await task).status_code for task in (first, second)] == [200, 200]
    assert answered == [0, 0]


async def test_a_batch_leaves_work_for_the_next(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """Of many callers who wait, half are computed while the answers of the others go out and their next calls come."""
    await executor.hold()
    tasks = [asyncio.create_task(post(client))]
    await executor.busy.acquire()
    tasks += [asyncio.create_task(post(client, "msign", 128, 128)) for _ in range(33)]
    await until(lambda: len(service.queue) == 33)
    executor.gate.set()

    assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [200] * 34
    assert len(executor.sizes[1]) == 16
    assert sum(map(sum, executor.sizes)) == 34


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_workers_take_their_whole_share_of_many_calls(opened: Opened, executor: ScriptedExecutor) -> None:
    """Each of two takes half of what there is: while the answers of one go out, the other computes."""
    async with opened() as client:
        await executor.hold()
        tasks = []
        for seen in (1, 2):
            tasks.append(asyncio.create_task(post(client)))
            await until(lambda seen=seen: len(executor.seen) == seen)  # type: ignore[misc]
        tasks += [asyncio.create_task(post(client, "msign", 64, 64)) for _ in range(33)]
        await until(lambda: len(service_behind(client).queue) == 33)
        executor.gate.set()
        answers = await asyncio.gather(*tasks)

    assert executor.sizes[2:4] == [[1] * 16] * 2
    assert [answer.status_code for answer in answers] == [200] * 35


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_a_worker_leaves_the_others_their_share(opened: Opened, executor: ScriptedExecutor) -> None:
    """A large call that finds one worker free does not go to it whole: the other one, free soon after, gets as much."""
    async with opened() as client:
        await executor.hold()
        small = asyncio.create_task(post(client))
        await until(lambda: len(executor.seen) == 1)
        large = asyncio.create_task(post(client, "msign", 100, 48, 48))
        await until(lambda: len(executor.seen) == 2)
        taken = sum(executor.sizes[1])
        executor.gate.set()
        answer = wire.decode_answer((await large).content, wire.Media.MSGPACK)
        await small

    assert 25 <= taken <= 50
    assert answer.outputs["x"].shape == (100, 48, 48)
    assert answer.timing.device_ms <= len(executor.sizes), "every batch takes 1 ms and counts once"


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
    """One call that makes the kernel raise gets a 500; the eight others in the batch get their answers."""
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
    assert isinstance(service.batcher, Batcher)
    caps = service.batcher.dispatcher.isolator.caps
    shrunk = dict(caps._below_one)
    for _ in range(20):
        await post(client)

    assert list(shrunk.values()) == [0.5]
    assert len(caps) == 0


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


LONG, SHORT = 64, 4


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_short_job_overtakes_long_ones(opened: Opened, executor: ScriptedExecutor) -> None:
    """However many long jobs wait, a short one waits for no more than one of those that run."""
    async with opened(batch_seconds=1e-4) as client:
        executor.gate.clear()
        tasks = [asyncio.create_task(post(client, "msign", LONG, LONG)) for _ in range(8)]
        await until(lambda: len(executor.seen) == 2 and len(service_behind(client).queue) == 6)
        tasks.append(asyncio.create_task(post(client, "msign", SHORT, SHORT)))
        await until(lambda: len(service_behind(client).queue) == 7)
        executor.gate.set()
        answers = [await task for task in tasks]

    assert SHORT in orders_of(executor)[2:4]
    assert [answer.status_code for answer in answers] == [200] * 9


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_pieces_of_a_huge_job_leave_a_worker(opened: Opened, executor: ScriptedExecutor) -> None:
    """A call that is computed in many pieces does not make a short one wait for all of them."""
    async with opened(batch_seconds=1e-3) as client:
        executor.gate.clear()
        huge = asyncio.create_task(post(client, "msign", 60, LONG, LONG))
        await until(lambda: len(executor.seen) == 2 and len(service_behind(client).queue))
        short = asyncio.create_task(post(client, "msign", SHORT, SHORT))
        waiting = len(service_behind(client).queue)
        await until(lambda: len(service_behind(client).queue) == waiting + 1)
        executor.gate.set()
        await asyncio.gather(huge, short)

    assert SHORT in orders_of(executor)[2:4]
    assert len(orders_of(executor)) > 20


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_long_jobs_take_every_worker_if_nothing_short_waits(opened: Opened, executor: ScriptedExecutor) -> None:
    """No worker stays free for a short job that has not come."""
    async with opened(batch_seconds=1e-4) as client:
        executor.gate.clear()
        tasks = [asyncio.create_task(post(client, "msign", order, order)) for order in (LONG, LONG + 1, LONG + 2)]
        await until(lambda: len(executor.seen) == 2)
        executor.gate.set()
        await asyncio.gather(*tasks)

    assert orders_of(executor) == [LONG, LONG + 1, LONG + 2]


@pytest.mark.parametrize(
    "executor", [ScriptedExecutor(workers=1), ScriptedExecutor(workers=2)], ids=["one worker", "two workers"]
)
async def test_more_urgent_long_job_is_not_overtaken(opened: Opened, executor: ScriptedExecutor) -> None:
    """A short job overtakes no long one of a higher priority, and on the only worker none at all."""
    urgency = 9 if executor.workers > 1 else 0
    async with opened(batch_seconds=1e-4) as client:
        executor.gate.clear()
        tasks = [asyncio.create_task(post(client, "msign", LONG, LONG, priority=urgency)) for _ in range(4)]
        await until(lambda: len(service_behind(client).queue) == 4 - executor.workers)
        tasks.append(asyncio.create_task(post(client, "msign", SHORT, SHORT)))
        await until(lambda: len(service_behind(client).queue) == 5 - executor.workers)
        executor.gate.set()
        await asyncio.gather(*tasks)

    assert orders_of(executor) == [LONG] * 4 + [SHORT]


def orders_of(executor: ScriptedExecutor) -> list[int]:
    """The orders of the matrices that the device has seen, share by share."""
    return [batch.inputs["m"].shape[-1] for batch in executor.seen]


async def test_many_calls_are_queued_in_turns(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service
) -> None:
    """While the calls of one request come to the queue, the loop serves others after every few of them."""
    executor.gate.clear()
    tensor = matrices(1, 1)
    sent = [wire.Call("msign", {"m": tensor}, {}, {}) for _ in range(1000)]
    body = b"".join(wire.encode_calls(sent, wire.Media.MSGPACK))
    request = asyncio.create_task(client.post("/v1/calls", content=body, headers=MSGPACK))
    lengths = [0]
    while lengths[-1] < len(sent) - 256:  # a batch may be on the device
        await asyncio.sleep(0)
        lengths.append(len(service.queue))
    executor.gate.set()
    answers = wire.decode_answers((await request).content, wire.Media.MSGPACK)

    assert max(later - earlier for earlier, later in pairwise(lengths)) <= 32
    assert len(answers) == len(sent)


async def test_work_that_overruns_its_price_is_cut(opened: Opened, executor: ScriptedExecutor) -> None:
    """Once a batch took far longer than its price, calls of its program that wait are computed a few rows at a time."""
    executor.seconds_each = 0.001
    async with opened() as client:
        await executor.hold()
        first = asyncio.create_task(post(client, "msign", 500, 4, 4))
        await until(lambda: len(executor.seen) == 1)
        large = asyncio.create_task(post(client, "msign", 300, 4, 4))
        await until(lambda: len(service_behind(client).queue) == 1)
        small = asyncio.create_task(post(client, "msign", 5, 5))
        await until(lambda: len(service_behind(client).queue) == 2)
        executor.gate.set()
        answers = [wire.decode_answer((await call).content, wire.Media.MSGPACK) for call in (first, large, small)]

    sizes = [sum(batch) for batch in executor.sizes]
    assert sizes[0] == 500
    assert max(sizes[1:]) <= 100
    assert sum(sizes) == 801
    assert 1 in sizes[:3]
    assert [answer.timing.batch_size > 0 and len(answer.certificates) for answer in answers] == [500, 300, 1]


async def test_price_follows_what_batches_took(opened: Opened, executor: ScriptedExecutor) -> None:
    """A call that comes after batches of its program overran is priced by them, one of another program is not."""
    executor.seconds_each = 0.001
    async with opened() as client:
        await post(client, "msign", 500, 4, 4)
        executor.forget()
        await executor.hold()
        calls = [asyncio.create_task(post(client, "msign", 100, n, n)) for n in (4, 5)]
        await until(lambda: len(service_behind(client).queue) >= 2)
        waiting = service_behind(client).queue.seconds
        executor.gate.set()
        assert [(await call).status_code for call in calls] == [200, 200]

    assert waiting > 0.05
    assert max(sum(batch) for batch in executor.sizes if len(batch) == 1) == 100


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_abandoned_rest_of_a_cut_call_is_dropped(opened: Opened, executor: ScriptedExecutor) -> None:
    """The rows that wait of a call that was cut go with its caller."""
    executor.seconds_each = 0.001
    async with opened() as client:
        await post(client, "msign", 500, 4, 4)
        await executor.hold()
        large = asyncio.create_task(post(client, "msign", 500, 4, 4, deadline=0.5))
        await until(lambda: len(service_behind(client).queue) > 1)
        assert (await large).status_code == 504
        assert len(service_behind(client).queue) == 0
        executor.gate.set()


def keyed(name: str) -> dict[str, str]:
    """The headers of a msgpack body that a key sends."""
    return {**MSGPACK, "authorization": f"Bearer {name}"}


async def posted(client: httpx.AsyncClient, key: str, *shape: int) -> httpx.Response:
    """The answer to a call of a key."""
    return await client.post("/v1/msign", content=call_body("msign", *shape), headers=keyed(key))


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_costly_work_of_a_key_leaves_a_worker_to_another(opened: Opened, executor: ScriptedExecutor) -> None:
    """Matrices that take long are computed on one worker of two while another key is about, whose call runs at once."""
    executor.seconds_each = 0.5
    async with opened(api_keys="costly, other") as client:
        await posted(client, "costly", 32, 32)
        await posted(client, "other", 4, 4)
        executor.forget()
        await executor.hold()
        flood = [asyncio.create_task(posted(client, "costly", 32, 32))]
        await until(lambda: len(executor.seen) == 1)
        flood += [asyncio.create_task(posted(client, "costly", 32, 32)) for _ in range(5)]
        await until(lambda: len(service_behind(client).queue) == 5)
        other = asyncio.create_task(posted(client, "other", 5, 5))
        await until(lambda: len(executor.seen) == 2)
        shapes = [tuple(batch.inputs["m"].shape) for batch in executor.seen]
        executor.gate.set()
        assert [(await call).status_code for call in [*flood, other]] == [200] * 7

    assert shapes == [(1, 32, 32), (1, 5, 5)]


async def test_costly_work_runs_where_nothing_else_does(opened: Opened, executor: ScriptedExecutor) -> None:
    """With a single worker a matrix that takes long is computed although another key is about."""
    executor.seconds_each = 0.5
    async with opened(api_keys="costly, other") as client:
        for _ in range(2):
            assert (await posted(client, "costly", 32, 32)).status_code == 200
            assert (await posted(client, "other", 32, 32)).status_code == 200


@pytest.mark.parametrize("executor", [ScriptedExecutor(workers=2)])
async def test_single_key_has_all_workers(opened: Opened, executor: ScriptedExecutor) -> None:
    """Where no other key is about, costly work takes every worker."""
    executor.seconds_each = 0.5
    async with opened(api_keys="costly, other") as client:
        await executor.hold()
        flood = [asyncio.create_task(posted(client, "costly", 32, 32))]
        await until(lambda: len(executor.seen) == 1)
        flood.append(asyncio.create_task(posted(client, "costly", 32, 32)))
        await until(lambda: len(executor.seen) == 2)
        executor.gate.set()
        assert [(await call).status_code for call in flood] == [200] * 2
