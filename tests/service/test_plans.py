"""POST /v1/plan/{function}: the method that would answer a call, and what every other would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from matfn import wire
from matfn_kernels import FUNCTIONS
from matfn_kernels.programs.profile import Profile
from scripted import MSGPACK, call_body, post

if TYPE_CHECKING:
    import httpx

    from scripted import Opened, ScriptedExecutor

pytestmark = pytest.mark.anyio


def stack(*shape: int, dtype: str = "float32") -> dict[str, Any]:
    """No matrices of this shape: all that a plan depends on."""
    return {"dtype": dtype, "shape": [0, *shape], "data": ""}


async def plan_of(client: httpx.AsyncClient, function: str, **call: Any) -> dict[str, Any]:
    """The plan of a call."""
    answer = await client.post(f"/v1/plan/{function}", json=call)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("certify", ["estimate", "proved"])
async def test_every_function_has_plans(client: httpx.AsyncClient, function: str, certify: str) -> None:
    """Each function's plan names methods of its entry, and none is cheaper than the one that was chosen."""
    entry = FUNCTIONS[function]
    inputs = {one.name: stack(*[8] * len(one.shape)) for one in entry.inputs if not one.optional}
    params = {one.name: 2 for one in entry.parameters if one.required}

    plan = await plan_of(client, function, inputs=inputs, params=params, options={"certify": certify})

    prices = [plan["seconds"], *(other["seconds"] for other in plan["considered"])]
    assert {plan["method"], *(other["method"] for other in plan["considered"])} <= {*entry.methods}
    assert prices[0] > 0.0
    assert [price for price in prices if price is not None] == sorted(price for price in prices if price is not None)
    assert (plan["function"], plan["profile"]) == (function, Profile.nominal().label)


async def test_plan_is_the_answers(client: httpx.AsyncClient) -> None:
    """The method of a plan is that of the answer to the same body, which is sent to either route."""
    body = call_body("msign", 3, 8, 8)

    plan = (await client.post("/v1/plan/msign", content=body, headers=MSGPACK)).json()
    answer = wire.decode_answer((await post(client, "msign", 3, 8, 8)).content, wire.Media.MSGPACK)

    assert {certificate.method for certificate in answer.certificates} == {plan["method"]}


@pytest.mark.parametrize("function", ["verify/inv_root", "vjp/inv_root"])
async def test_verifications_and_gradients_have_plans(client: httpx.AsyncClient, function: str) -> None:
    """What stands below another route has its plan too."""
    call: dict[str, Any] = {"inputs": {"a": stack(8, 8)}, "params": {"r": 2}}
    if function.startswith("vjp/"):
        call["cotangents"] = {"x": stack(8, 8)}
    else:
        call["inputs"]["x"] = stack(8, 8)

    plan = await plan_of(client, function, **call)

    assert (plan["function"], plan["seconds"] > 0.0) == (function, True)


async def test_shapes_dtype_and_options_decide(client: httpx.AsyncClient) -> None:
    """Larger matrices cost more, a proof costs more, a named method is alone, and the number of matrices is nothing."""
    small = await plan_of(client, "inv_root", inputs={"a": stack(16, 16)}, params={"r": 4})
    large = await plan_of(client, "inv_root", inputs={"a": stack(256, 256)}, params={"r": 4})
    proved = await plan_of(
        client, "inv_root", inputs={"a": stack(16, 16)}, params={"r": 4}, options={"certify": "proved"}
    )
    named = await plan_of(client, "inv_root", inputs={"a": stack(16, 16)}, params={"r": 4}, options={"method": "eigh"})
    ones = await plan_of(client, "inv_root", inputs={"a": np.eye(16)[None].tolist()}, params={"r": 4})

    assert large["seconds"] > small["seconds"]
    assert large["bytes"] == 256 * small["bytes"]
    assert proved["seconds"] > small["seconds"]
    assert (named["method"], named["considered"]) == ("eigh", [])
    assert ones["bytes"] == 2 * small["bytes"]


async def test_nothing_is_computed(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """A plan of real matrices costs the device nothing, and matrices without an answer have one."""
    plan = await plan_of(client, "inv_root", inputs={"a": [[-1.0, 0.0], [0.0, -1.0]]}, params={"r": 2})

    assert plan["method"]
    assert executor.sizes == []


REFUSED = [
    ("/v1/plan/nothing", {"inputs": {}}, 404, "unknown_function"),
    ("/v1/plan/", {"inputs": {}}, 404, "unknown_function"),
    ("/v1/plan/calls", {"inputs": {}}, 404, "unknown_function"),
    ("/v1/plan/msign", {"inputs": {"m": stack(8, 8)}, "params": {"k": 1}}, 422, "invalid_parameter"),
    ("/v1/plan/msign", {"inputs": {"m": [1.0, 2.0]}}, 422, "invalid_shape"),
    ("/v1/plan/msign", {"inputs": {"m": {"shape": [8, 8]}}}, 400, "malformed"),
    ("/v1/plan/inv_root", {"inputs": {"a": stack(8, 8)}}, 422, "invalid_parameter"),
]


@pytest.mark.parametrize(("path", "call", "status", "code"), REFUSED)
async def test_refusals_are_those_of_the_call(
    client: httpx.AsyncClient, path: str, call: dict[str, Any], status: int, code: str
) -> None:
    """What the function's own route refuses by its shapes and parameters, the plan's refuses alike."""
    answer = await client.post(path, json=call)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_limits_and_keys_hold(opened: Opened) -> None:
    """Plans need a key, take no larger bodies than calls, no other method, and no other media types."""
    async with opened(api_keys="secret", max_request_bytes=2000) as client:
        key = {"authorization": "Bearer secret"}
        call = {"inputs": {"m": stack(8, 8)}}
        statuses = [
            (await client.post("/v1/plan/msign", json=call)).status_code,
            (await client.post("/v1/plan/msign", json=call, headers=key)).status_code,
            (await client.post("/v1/plan/msign", content=b" " * 2001, headers=key | MSGPACK)).status_code,
            (await client.post("/v1/plan/msign", content=b"{}", headers=key)).status_code,
            (await client.get("/v1/plan/msign", headers=key)).status_code,
        ]

    assert statuses == [401, 200, 413, 415, 405]
