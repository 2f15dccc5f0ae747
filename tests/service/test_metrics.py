"""Every metric moves with what it counts, and with nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from matfn import wire
from matfn_kernels.contract.certificate import Outcome
from matfn_service.encoding import Status
from matfn_service.pulse import Loss
from matfn_service.statistics import STAGES
from scraped import documented, moved, samples
from scripted import MSGPACK, Opened, ScriptedExecutor, call_body, endless_account, post, service_behind, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    import httpx
    from prometheus_client import Metric

    from matfn_kernels.running.evaluation import Batch
    from matfn_service.service import Service

pytestmark = pytest.mark.anyio

POISON = 4444.0
DEVICE_SECONDS = 0.001  # of the scripted device, for any share


async def scrape(client: httpx.AsyncClient) -> dict[str, float]:
    """All samples now."""
    return samples((await client.get("/metrics")).text)


async def send(client: httpx.AsyncClient, function: str, rows: object, **params: object) -> httpx.Response:
    """The answer for one matrix."""
    name = "m" if function == "msign" else "a"
    return await client.post(f"/v1/{function}", json={"inputs": {name: rows}, "params": params})


def only(changes: dict[str, float], *names: str) -> dict[str, float]:
    """The changes of these metrics."""
    return {series: change for series, change in changes.items() if series.split("{")[0] in names}


def poisoned(batch: Batch) -> Exception | None:
    """A kernel that raises for the whole batch because of one matrix."""
    return ValueError("a bug in a kernel") if bool((batch.inputs["m"] == POISON).any()) else None


@pytest.fixture
async def blocked(client: httpx.AsyncClient, executor: ScriptedExecutor) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A call that keeps the device busy until the gate opens."""
    executor.gate.clear()
    blocker = asyncio.create_task(post(client))
    await executor.busy.acquire()
    yield blocker
    executor.gate.set()
    await blocker


async def test_answered_call_moves_every_stage(client: httpx.AsyncClient) -> None:
    """One call is one request, read, job, batch and answer, as many bytes and matrices as it had, and no fault."""
    body = call_body("msign", 3, 4, 4)
    before = await scrape(client)
    answer = await client.post("/v1/msign", content=body, headers=MSGPACK)
    changes = moved(before, await scrape(client))
    stages = ["matfn_request_seconds", "matfn_queue_wait_seconds", "matfn_device_seconds"]
    counts = {f"{stage}_count": 1.0 for stage in [*stages, "matfn_batch_matrices", "matfn_batch_fill_ratio"]}
    wire_stages = {f'matfn_wire_seconds_count{{stage="{stage}"}}': 1.0 for stage in STAGES}
    sums = {series for series in changes if "_sum" in series}

    assert {series: change for series, change in changes.items() if series not in sums} == {
        **counts,
        **wire_stages,
        'matfn_calls_total{code="ok",function="msign"}': 1.0,
        'matfn_matrices_total{code="none",function="msign",outcome="converged"}': 3.0,
        "matfn_received_bytes_total": len(body),
        "matfn_sent_bytes_total": len(answer.content),
        "matfn_cost_ratio_count": 1.0,
        "matfn_worker_seconds_total": pytest.approx(DEVICE_SECONDS),
        "matfn_lane_seconds_total": pytest.approx(DEVICE_SECONDS),
        "matfn_predicted_seconds_total": changes["matfn_predicted_seconds_total"],
        "matfn_priced_seconds_total": changes["matfn_predicted_seconds_total"],
        "matfn_corrections": 1.0,
    }
    assert changes["matfn_batch_matrices_sum"] == 3.0
    assert changes["matfn_device_seconds_sum"] == pytest.approx(DEVICE_SECONDS)
    assert changes["matfn_cost_ratio_sum"] == pytest.approx(DEVICE_SECONDS / changes["matfn_predicted_seconds_total"])


async def test_stages_add_up_to_less_than_the_request(client: httpx.AsyncClient) -> None:
    """Waiting and the stages on the event loop and its threads are parts of the request's time, one after the other."""
    await post(client, "msign", 64, 16, 16)
    found = await scrape(client)
    wire_stages = [f'matfn_wire_seconds_sum{{stage="{stage}"}}' for stage in STAGES if stage != "copy"]
    parts = [found[series] for series in [*wire_stages, "matfn_queue_wait_seconds_sum"]]

    assert min(parts) > 0.0
    assert sum(parts) < found["matfn_request_seconds_sum"]


@pytest.mark.parametrize(
    ("path", "body", "changes"),
    [
        ("/v1/msign", {"inputs": {}}, {'matfn_calls_total{code="invalid_parameter",function="msign"}': 1.0}),
        ("/v1/nothing", {"inputs": {}}, {'matfn_calls_total{code="unknown_function",function="none"}': 1.0}),
        ("/v1/../etc/passwd", {}, {'matfn_calls_total{code="not_found",function="none"}': 1.0}),
        (
            "/v1/inv_root",
            {"inputs": {"a": [[-1.0]]}, "params": {"r": 2}},
            {
                'matfn_calls_total{code="not_positive",function="inv_root"}': 1.0,
                'matfn_matrices_total{code="not_positive",function="inv_root",outcome="failed"}': 1.0,
            },
        ),
        (
            "/v1/inv_root",
            {"inputs": {"a": [[[-1.0]], [[1.0]]]}, "params": {"r": 2}, "options": {"on_failure": "nan"}},
            {
                'matfn_calls_total{code="ok",function="inv_root"}': 1.0,
                'matfn_matrices_total{code="none",function="inv_root",outcome="converged"}': 1.0,
                'matfn_matrices_total{code="not_positive",function="inv_root",outcome="failed"}': 1.0,
            },
        ),
        (
            "/v1/calls",
            {
                "calls": [
                    {"function": "msign", "inputs": {"m": [[1.0]]}},
                    {"function": "msign", "inputs": {"m": [[]]}, "params": {"surprise": 1}},
                    {"function": "made up", "inputs": {"m": [[1.0]]}},
                    {"function": "inv_root", "inputs": {"a": [[-1.0]]}, "params": {"r": 2}},
                    {"inputs": {}},
                ]
            },
            {
                'matfn_calls_total{code="ok",function="msign"}': 1.0,
                'matfn_calls_total{code="invalid_parameter",function="msign"}': 1.0,
                'matfn_calls_total{code="unknown_function",function="none"}': 1.0,
                'matfn_calls_total{code="not_positive",function="inv_root"}': 1.0,
                'matfn_calls_total{code="malformed",function="none"}': 1.0,
                'matfn_matrices_total{code="none",function="msign",outcome="converged"}': 1.0,
                'matfn_matrices_total{code="not_positive",function="inv_root",outcome="failed"}': 1.0,
            },
        ),
    ],
)
async def test_outcomes_are_counted_by_function(
    client: httpx.AsyncClient, path: str, body: object, changes: dict[str, float]
) -> None:
    """Each call is counted once under its function and code, alone or one of many; made-up names are not."""
    before = await scrape(client)
    await client.post(path, json=body)

    assert only(moved(before, await scrape(client)), "matfn_calls_total", "matfn_matrices_total") == changes


async def test_escalations_name_what_was_tried(client: httpx.AsyncClient, service: Service) -> None:
    """Each matrix answered by a later method is one escalation, each method tried on it before one fallback."""
    first = Status(Outcome.CONVERGED, None, None, None)
    tried = [None, "quick", "quick, better", "quick, better"]
    before = await scrape(client)
    service.statistics.count_outcomes("msign", [replace(first, fallback=methods) for methods in tried])
    changes = moved(before, await scrape(client))

    assert only(changes, "matfn_escalations_total", "matfn_fallbacks_total") == {
        'matfn_escalations_total{function="msign"}': 3.0,
        'matfn_fallbacks_total{function="msign",method="quick"}': 3.0,
        'matfn_fallbacks_total{function="msign",method="better"}': 2.0,
    }


async def test_bisections_and_what_they_isolate(
    client: httpx.AsyncClient, executor: ScriptedExecutor, service: Service, blocked: asyncio.Task[httpx.Response]
) -> None:
    """One of four calls raises: the batch is cut twice, and one part fails alone."""
    executor.fault = poisoned
    before = await scrape(client)
    tasks = [asyncio.create_task(send(client, "msign", [[entry]])) for entry in (1.0, 2.0, POISON, 3.0)]
    await until(lambda: len(service.queue) == len(tasks))
    executor.gate.set()
    await asyncio.gather(blocked, *tasks)
    faults = ("matfn_bisections_total", "matfn_halvings_total", "matfn_isolated_failures_total")

    assert only(moved(before, await scrape(client)), *faults) == {
        "matfn_bisections_total": 2.0,
        "matfn_isolated_failures_total": 1.0,
    }


async def test_halvings(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """Four matrices on a device with memory for one are halved three times; nothing fails."""
    executor.memory_for(items=1)
    before = await scrape(client)
    await post(client, "msign", 4, 4, 4)
    faults = ("matfn_bisections_total", "matfn_halvings_total", "matfn_isolated_failures_total")

    assert only(moved(before, await scrape(client)), *faults) == {"matfn_halvings_total": 3.0}


@pytest.mark.usefixtures("blocked")
async def test_drop_for_the_deadline(client: httpx.AsyncClient) -> None:
    """A call whose deadline comes while it waits is one drop."""
    before = await scrape(client)
    await post(client, "msign", 4, 4, deadline=0.01)

    assert only(moved(before, await scrape(client)), "matfn_drops_total") == {
        'matfn_drops_total{reason="deadline"}': 1.0
    }


async def test_drop_of_who_left(
    client: httpx.AsyncClient, service: Service, blocked: asyncio.Task[httpx.Response]
) -> None:
    """A call whose caller leaves while it waits is one drop."""
    del blocked
    before = await scrape(client)
    prepared = await (await service.admission()).one(
        memoryview(call_body()), wire.Media.MSGPACK, "msign", endless_account()
    )
    service.batcher.abandon(service.submit(prepared, service.clock(), "who leaves"))

    assert only(moved(before, await scrape(client)), "matfn_drops_total") == {
        'matfn_drops_total{reason="disconnected"}': 1.0
    }


async def test_queue_and_its_refusals(opened: Opened, executor: ScriptedExecutor) -> None:
    """Gauges show what waits and runs against the bounds; who finds no room is one drop."""
    async with opened(queue_bytes=5000, max_request_bytes=4096, queue_seconds=7.0) as client:
        service = service_behind(client)
        executor.gate.clear()
        tasks = [asyncio.create_task(post(client, "msign", 8, 8))]
        await executor.busy.acquire()
        tasks += [asyncio.create_task(post(client, "msign", 8, 8)) for _ in range(2)]
        await until(lambda: len(service.queue) == len(tasks) - 1)
        before = await scrape(client)
        assert (await post(client, "msign", 8, 8)).status_code == 429
        changes = moved(before, await scrape(client))
        executor.gate.set()
        await asyncio.gather(*tasks)
        after = await scrape(client)

    waiting = service.queue.bound.bytes
    assert (before["matfn_queue_jobs"], before["matfn_queue_bytes"], before["matfn_held_bytes"]) == (2, 3072, 4608)
    assert (before["matfn_held_bound_bytes"], before["matfn_queue_bound_seconds"]) == (waiting, 7.0)
    assert before["matfn_queue_seconds"] > 0.0
    assert only(changes, "matfn_drops_total") == {'matfn_drops_total{reason="busy"}': 1.0}
    assert [after[f"matfn_{name}"] for name in ("queue_jobs", "queue_seconds", "queue_bytes", "held_bytes")] == [0] * 4


async def test_fill_is_the_share_of_the_largest_batch(opened: Opened) -> None:
    """A call of half the bytes that a batch may have fills half of it."""
    async with opened(batch_bytes=2 * 3 * 8 * 8 * 8) as client:
        await post(client, "msign", 8, 8)
        found = await scrape(client)

    assert found["matfn_batch_fill_ratio_sum"] == pytest.approx(0.5)


async def test_workers_are_told(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """How many workers there are, can compute, and were replaced."""
    executor.alive, executor.losses = 0, {Loss.STOPPED: 2}
    found = await scrape(client)

    assert [found[f"matfn_workers{name}"] for name in ("", "_alive")] == [1, 0]
    assert {loss: found[f'matfn_workers_lost_total{{reason="{loss}"}}'] for loss in Loss} == {
        loss: 2 if loss is Loss.STOPPED else 0 for loss in Loss
    }


@pytest.mark.parametrize(
    ("former", "name"),
    [
        ("matfn_lanes", "matfn_workers"),
        ("matfn_lanes_alive", "matfn_workers_alive"),
        ("matfn_lanes_lost_total", "matfn_workers_lost_total"),
        ("matfn_lane_seconds_total", "matfn_worker_seconds_total"),
    ],
)
async def test_renamed_metric_keeps_its_former_name(
    client: httpx.AsyncClient, executor: ScriptedExecutor, former: str, name: str
) -> None:
    """A renamed metric has the same value under its former name, whose help names the new one."""
    executor.losses = {Loss.ENDED: 2, Loss.HUNG: 1}
    await post(client)
    text = (await client.get("/metrics")).text
    found = samples(text)

    assert found[former] == sum(value for series, value in found.items() if series.partition("{")[0] == name)
    assert f"# HELP {former} Deprecated name of {name}.\n" in text


async def test_state_is_one_of_four(client: httpx.AsyncClient, service: Service) -> None:
    """The state that the service is in is 1, the others 0, also while it drains."""
    ready = await scrape(client)
    await service.drain()
    draining = await scrape(client)

    assert [state for state in ("warming", "ready", "draining", "failed") if ready[series_of(state)]] == ["ready"]
    assert [state for state in ("warming", "ready", "draining", "failed") if draining[series_of(state)]] == ["draining"]


def series_of(state: str) -> str:
    """The series of one state."""
    return f'matfn_state{{state="{state}"}}'


async def test_build_names_version_and_device(client: httpx.AsyncClient) -> None:
    """What runs, as labels of a series that is 1."""
    ((series, value),) = [entry for entry in (await scrape(client)).items() if entry[0].startswith("matfn_build_info")]

    assert value == 1.0
    assert all(f'{label}="' in series for label in ("version", "python", "torch"))
    assert 'device="scripted"' in series


def names_of(families: Iterable[Metric]) -> set[str]:
    """The metrics by the names that queries use."""
    suffix = {"counter": "_total", "info": "_info"}
    return {family.name + suffix.get(family.type, "") for family in families}


async def test_format_is_what_the_scraper_accepts(client: httpx.AsyncClient) -> None:
    """Plain text unless OpenMetrics is asked for; both hold the same metrics, each with its help."""
    plain = await client.get("/metrics")
    other = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    families = [list(plain_text(plain.text)), list(open_metrics(other.text))]  # type: ignore[no-untyped-call]

    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert other.headers["content-type"].startswith("application/openmetrics-text")
    assert names_of(families[0]) == names_of(families[1])
    assert [family.name for family in families[0] if not family.documentation.endswith(".")] == []


async def test_metrics_need_a_key(opened: Opened) -> None:
    """With keys set, /metrics wants one, as all routes but the probes do."""
    async with opened(api_keys="secret") as client:
        bare = await client.get("/metrics")
        known = await client.get("/metrics", headers={"authorization": "Bearer secret"})

    assert (bare.status_code, known.status_code) == (401, 200)


async def test_every_metric_is_documented(client: httpx.AsyncClient) -> None:
    """The operations manual lists the service's metrics and no others, and those of the process where there are any."""
    names = names_of(plain_text((await client.get("/metrics")).text))

    assert {name for name in documented() if name.startswith("matfn_")} <= names <= documented()
