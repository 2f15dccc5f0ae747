"""What the read-only routes and the OpenAPI document say."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from matfn import wire
from matfn.errors import TABLE
from matfn_kernels.contract.functions import FUNCTIONS, OPTIONS
from matfn_kernels.programs.profile import Profile
from matfn_service.batch_log import MOST_RECORDS
from matfn_service.version import VERSION
from scripted import MSGPACK, call_body, post, service_behind, until

if TYPE_CHECKING:
    import httpx

    from scripted import Opened, ScriptedExecutor

pytestmark = pytest.mark.anyio


async def test_functions_are_the_catalogue(client: httpx.AsyncClient) -> None:
    """GET /v1/functions tells inputs and parameters of every function, the limits, and the versions."""
    document = (await client.get("/v1/functions")).json()

    assert [entry["name"] for entry in document["functions"]] == list(FUNCTIONS)
    assert [entry["name"] for entry in document["options"]] == [option.name for option in OPTIONS]
    assert {"max_order", "max_items", "max_request_bytes", "max_json_nesting"} <= document["limits"].keys()
    assert (document["version"], document["wire"]) == (VERSION, [1])


async def test_limits_are_the_settings(opened: Opened) -> None:
    """The limits shown are the ones in force."""
    async with opened(max_order=17, max_items=5) as client:
        limits = (await client.get("/v1/functions")).json()["limits"]

    assert (limits["max_order"], limits["max_items"]) == (17, 5)


async def test_status_counts(client: httpx.AsyncClient) -> None:
    """GET /v1/status counts answers, failures and batches by size and function."""
    await post(client)
    await post(client, "msign", 3, 4, 4)
    await post(client, "inv_root")
    await client.post("/v1/msign", content=call_body()[:-1], headers=MSGPACK)
    status = (await client.get("/v1/status")).json()

    assert status["counters"]["answered"] == 3
    assert status["counters"]["failed"] == {"malformed": 1}
    assert status["batches"]["histogram"] == {"1": 2, "3": 1}
    assert status["batches"]["by_function"]["msign"] == {"batches": 2, "matrices": 4}
    assert (status["queue"]["jobs"], status["queue"]["bytes"], status["queue"]["seconds"]) == (0, 0, 0)
    assert (status["state"], status["device"]) == ("ready", "scripted")
    assert (status["workers_alive"], status["held_bytes"]) == (1, 0)
    assert status["stages"]["device"]["count"] == 3
    assert 0.0 < status["stages"]["device"]["seconds"] <= status["stages"]["request"]["seconds"]


async def test_batches_are_told(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """GET /v1/batches tells each batch after a number: its calls, shape and method, and whether it still runs."""
    await post(client, "msign", 3, 5, 5)
    await executor.hold()
    async with asyncio.TaskGroup() as group:
        group.create_task(post(client, "inv_root", 2, 4, 4))
        await executor.busy.acquire()
        await executor.busy.acquire()
        waiting = [group.create_task(post(client, "msign", 4, 4)) for _ in range(3)]
        await until(lambda: len(service_behind(client).queue) == len(waiting))
        report = (await client.get("/v1/batches")).json()
        executor.gate.set()
    later = (await client.get("/v1/batches", params={"after": 1})).json()

    ended, running = report["batches"]
    assert (ended["calls"], ended["items"], ended["shape"], ended["dtype"]) == ([["msign", 3]], 3, [5, 5], "float64")
    assert ended["seconds"] > 0.0
    assert (running["number"], running["calls"], running["seconds"]) == (2, [["inv_root", 2]], None)
    assert 0.0 <= ended["at"] <= running["at"] <= report["now"]
    (key,) = report["waiting"]
    assert (key["function"], key["shape"], key["calls"]) == ("msign", [4, 4], 3)
    assert [batch["number"] for batch in later["batches"]] == list(range(2, later["last"] + 1))
    assert all(batch["seconds"] is not None for batch in later["batches"])
    assert sum(batch["items"] for batch in later["batches"]) == 5
    assert later["waiting"] == []


async def test_report_of_batches_is_bounded(client: httpx.AsyncClient) -> None:
    """However many batches there were and however many calls they hold, the report has a fixed number of each."""
    calls = {"calls": [{"function": "msign", "inputs": {"m": [[1.0]]}}] * 100}
    for _ in range(MOST_RECORDS + 5):
        await post(client, "msign", 1, 1)
    await client.post("/v1/calls", json=calls)
    report = (await client.get("/v1/batches")).json()

    assert len(report["batches"]) == MOST_RECORDS
    assert report["batches"][-1]["number"] == report["last"]
    assert max(len(batch["calls"]) for batch in report["batches"]) < 30
    assert sum(len(batch["calls"]) + batch["more"] for batch in report["batches"]) > 100
    assert (await client.get("/v1/batches", params={"after": "x"})).status_code == 400


async def test_failed_batches_end(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """A batch whose computation failed is told as ended."""
    executor.fault = lambda batch: RuntimeError("broken")  # noqa: ARG005
    assert (await post(client)).status_code == 500

    assert (await client.get("/v1/batches")).json()["batches"][0]["seconds"] is not None


async def test_profile_stands_in_status_and_answers(client: httpx.AsyncClient) -> None:
    """Name and hash of the profile are in the status, and in the timing of one call's and of many calls' answers."""
    one = wire.decode_answer((await post(client)).content, wire.Media.MSGPACK)
    calls = {"calls": [{"function": "msign", "inputs": {"m": [[1.0]]}}]}
    many = (await client.post("/v1/calls", json=calls)).json()["answers"]
    profile = (await client.get("/v1/status")).json()["profile"]

    assert profile == {"name": "nominal", "hash": Profile.nominal().hash}
    assert one.timing.profile == many[0]["timing"]["profile"] == Profile.nominal().label


async def test_methods_are_told(client: httpx.AsyncClient) -> None:
    """Every function lists its methods, which its options in the OpenAPI document choose from."""
    listed = {entry["name"]: entry["methods"] for entry in (await client.get("/v1/functions")).json()["functions"]}
    document = (await client.get("/openapi.json")).json()
    body = document["paths"]["/v1/msign"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    (words, _) = body["properties"]["options"]["properties"]["method"]["anyOf"]

    assert listed == {name: list(function.methods) for name, function in FUNCTIONS.items()}
    assert words["enum"] == ["auto", *listed["msign"]]


async def test_verifiability_is_told(client: httpx.AsyncClient) -> None:
    """Every function says what can be said of a claimed answer; the name of its definition is not told."""
    entries = (await client.get("/v1/functions")).json()["functions"]

    assert {entry["name"]: entry["verifiability"] for entry in entries} == {
        name: function.verifiability for name, function in FUNCTIONS.items()
    }
    assert not [entry["name"] for entry in entries if "reference" in entry]


@pytest.mark.parametrize("place", ["params", "options"])
async def test_method_is_taken(client: httpx.AsyncClient, place: str) -> None:
    """A call's method is an option; msign's may be a parameter too."""
    call = {"inputs": {"m": [[1.0, 2.0], [3.0, 5.0]]}, place: {"method": "svd"}}

    answer = (await client.post("/v1/msign", json=call)).json()

    assert answer["certificates"][0]["method"] == "svd"


async def test_openapi_describes_every_route(client: httpx.AsyncClient) -> None:
    """The document has a path for every function, with its parameters and the statuses of its errors."""
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/inv_root"]["post"]
    params = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["params"]

    assert {
        f"/v1/{name}" for name in [*FUNCTIONS, "calls", "plan/{function}", "functions", "status", "batches"]
    } <= document["paths"].keys()
    assert params["required"] == ["r"]
    assert params["properties"]["s"]["default"] == 1
    assert {"200", "400", "401", "413", "415", "422", "429", "503", "504"} <= operation["responses"].keys()


async def test_openapi_references_resolve(client: httpx.AsyncClient) -> None:
    """Every schema that is referred to is there."""
    document = (await client.get("/openapi.json")).json()

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == list(TABLE)


async def test_manual_needs_no_other_host(opened: Opened) -> None:
    """GET /docs is one page with every function, parameter, code and limit, and loads nothing from anywhere."""
    async with opened(max_order=1717) as client:
        answer = await client.get("/docs")
    names = [*FUNCTIONS, *TABLE, *(option.name for option in OPTIONS), "1717", "/openapi.json", "structure"]

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert [name for name in names if name not in answer.text] == []
    assert re.findall(r"(?:src|href)=\"(.*?)\"|@import|<script", answer.text) == ["/openapi.json", "/docs/"]


async def test_manual_is_the_only_one(client: httpx.AsyncClient) -> None:
    """The framework's own pages, which load scripts from elsewhere, are not served."""
    assert (await client.get("/redoc")).status_code == 404


def references(tree: Any) -> list[str]:
    """All $ref of a document."""
    if isinstance(tree, list):
        return [found for entry in tree for found in references(entry)]
    if not isinstance(tree, dict):
        return []
    own = [tree["$ref"]] if "$ref" in tree else []
    return own + [found for entry in tree.values() for found in references(entry)]
