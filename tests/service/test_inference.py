"""The Open Inference Protocol over HTTP, through the application."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_calls import LENGTH, Content, Example, answer_in, body_of, examples, numbers_in, octets, written
from matfn import wire
from matfn_kernels.contract.functions import ENTRIES, FUNCTIONS
from matfn_service.inference_problems import HTTP_HINT
from scripted import MSGPACK, Opened, ScriptedExecutor, call_body, post, service_behind, until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

pytestmark = pytest.mark.anyio

A = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
IN_JSON = written("a", A, is_binary=False)
IN_BINARY = written("a", A)


async def infer(client: httpx.AsyncClient, function: str, body: Content) -> httpx.Response:
    """The answer to a request to infer."""
    return await client.post(f"/v2/models/{function}/infer", content=body.content, headers=dict(body.headers))


async def inferred(client: httpx.AsyncClient, **parts: Any) -> httpx.Response:
    """The answer to a small call of root in JSON, with these parts of the request besides."""
    tree = {"inputs": [IN_JSON], **parts, "parameters": {"r": 2, **parts.get("parameters", {})}}
    return await infer(client, "root", body_of(tree))


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem document, which has its detail where clients of the protocol look for it."""
    problem = wire.decode_problem(answer.content, answer.headers["content-type"])
    assert answer.json()["error"] == (f"{problem.detail}: {problem.hint}" if problem.hint else problem.detail)
    assert problem.status == answer.status_code
    return problem.status, problem.code


async def answer_of_v1(client: httpx.AsyncClient, call: wire.Call) -> wire.Answer:
    """The answer of /v1."""
    content = b"".join(wire.encode_call(call, wire.Media.MSGPACK))
    answer = await client.post(f"/v1/{call.function}", content=content, headers=MSGPACK)
    return wire.decode_answer(answer.content, wire.Media.MSGPACK)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
async def test_every_function_has_the_answers_of_v1(client: httpx.AsyncClient, dtype: str) -> None:
    """Binary or in JSON, outputs have the bits that /v1 answers with, and the certificates are the same."""
    different = [one.name for one in examples() if one.dtype == dtype and not await is_alike(client, one)]

    assert not different


async def is_alike(client: httpx.AsyncClient, example: Example) -> bool:
    """Whether a call has the same answer in /v1 and, in both forms, in /v2."""
    expected = await answer_of_v1(client, example.call)
    parameters, data = dict(example.keywords), [octets(x) for x in example.inputs.values()]
    in_binary = body_of({"inputs": example.tensors(), "parameters": {**parameters, "binary_data_output": True}}, data)
    in_json = body_of({"inputs": example.tensors(is_binary=False), "parameters": parameters})
    binary = answer_in(await infer(client, example.function, in_binary))
    plain = answer_in(await infer(client, example.function, in_json))
    numbers = {name: bytes(x.data) for name, x in expected.outputs.items()}
    listed = {one["name"]: numbers_in(one) for one in plain.tree["outputs"]}
    shapes = [tuple(one["shape"]) for one in binary.tree["outputs"]]
    found = [(one["method"], one["error_estimate"]) for one in json.loads(binary.tree["parameters"]["certificates"])]
    return (
        binary.binary == listed == numbers
        and shapes == [x.shape for x in expected.outputs.values()]
        and found == [(one.method, one.error_estimate) for one in expected.certificates]
    )


@pytest.mark.parametrize("name", ["verify/root", "vjp/root"])
async def test_verifications_and_gradients_are_models(client: httpx.AsyncClient, name: str) -> None:
    """Claims have certificates and no outputs; a vector-Jacobian product has the outputs and the gradients."""
    tree = {"inputs": [written("x", A, is_binary=False), IN_JSON], "parameters": {"r": 1}}
    answer = answer_in(await infer(client, name, body_of(tree))).tree

    assert [one["name"] for one in answer["outputs"]] == ([] if name == "verify/root" else ["x", "a"])
    assert json.loads(answer["parameters"]["certificates"])[0]["outcome"] == "converged"


async def test_answer_says_whose_it_is(client: httpx.AsyncClient) -> None:
    """Model, version and the caller's id come back, and the request's id is that of the header."""
    answer = await inferred(client, id="mine")
    tree = answer.json()

    assert (tree["model_name"], tree["model_version"], tree["id"]) == ("root", "1", "mine")
    assert tree["parameters"]["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"


async def test_outputs_are_those_asked_for(client: httpx.AsyncClient) -> None:
    """Outputs come in the order that they are named in, each binary or in JSON as it asks."""
    wanted = [
        {"name": "y", "parameters": {"binary_data": True}},
        {"name": "certificates", "parameters": {"binary_data": True}},
        {"name": "x"},
    ]
    answer = answer_in(await infer(client, "sqrt_pair", body_of({"inputs": [IN_JSON], "outputs": wanted})))

    assert [one["name"] for one in answer.tree["outputs"]] == ["y", "certificates", "x"]
    assert list(answer.binary) == ["y", "certificates"]
    text = answer.binary["certificates"]
    assert int.from_bytes(text[:4], "little") == len(text) - 4
    assert json.loads(text[4:]) == json.loads(answer.tree["parameters"]["certificates"])[0]
    root = torch.tensor(answer.tree["outputs"][2]["data"]).reshape(2, 2)
    assert torch.allclose(root @ root, A)


async def test_certificates_are_a_tensor_of_texts(client: httpx.AsyncClient) -> None:
    """In JSON the certificates are strings, one a matrix."""
    tree = {"inputs": [written("a", torch.stack([A, A + 1]), is_binary=False)], "outputs": [{"name": "certificates"}]}
    answer = answer_in(await infer(client, "sqrt_pair", body_of(tree)))

    (output,) = answer.tree["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2])
    assert [json.loads(one)["outcome"] for one in output["data"]] == ["converged"] * 2


async def test_outputs_on_request_are_asked_for_by_a_parameter(client: httpx.AsyncClient) -> None:
    """The gain of a regulator is an output where the parameter says so."""
    one = torch.eye(2)
    tensors = [written(name, one, is_binary=False) for name in ("a", "b", "q", "r")]
    answer = answer_in(await infer(client, "solve_care", body_of({"inputs": tensors, "parameters": {"gain": True}})))

    assert [one["name"] for one in answer.tree["outputs"]] == ["x", "y"]


async def test_data_may_be_nested_or_flat(client: httpx.AsyncClient) -> None:
    """Numbers come flat or nested as the shape is; the JSON of an input has no other form."""
    flat, nested = [
        answer_in(await inferred(client, inputs=[{**IN_JSON, "data": data}]))
        for data in ([2, 1, 1, 2], [[2, 1], [1, 2]])
    ]

    assert flat.tree["outputs"] == nested.tree["outputs"]


async def test_numbers_that_are_not_finite_are_null(client: httpx.AsyncClient) -> None:
    """JSON has null for NaN, both ways."""
    tree = {
        "inputs": [{"name": "a", "shape": [2, 2, 2], "datatype": "FP64", "data": [2, 1, 1, 2, None, 1, 1, 2]}],
        "parameters": {"r": 2, "on_failure": "nan"},
    }
    answer = answer_in(await infer(client, "root", body_of(tree)))

    assert answer.tree["outputs"][0]["data"][4:] == [None] * 4
    assert [one["code"] for one in json.loads(answer.tree["parameters"]["certificates"])] == [None, "not_finite"]


@pytest.mark.parametrize(
    "coefficients", [[[3.4445, -4.775, 2.0315]], "[[3.4445, -4.775, 2.0315]]"], ids=["list", "text"]
)
async def test_parameters_that_are_no_scalars_may_be_text(client: httpx.AsyncClient, coefficients: object) -> None:
    """Coefficients are rows of numbers, or their JSON text."""
    tree = {"inputs": [{**IN_JSON, "name": "m"}], "parameters": {"coefficients": coefficients}}
    answer = answer_in(await infer(client, "msign", body_of(tree)))
    call = wire.Call(
        "msign", {"m": wire.Tensor("float32", (2, 2), octets(A))}, {"coefficients": ((3.4445, -4.775, 2.0315),)}, {}
    )

    assert numbers_in(answer.tree["outputs"][0]) == (await answer_of_v1(client, call)).outputs["x"].data


async def test_null_as_text_opens_a_bound(client: httpx.AsyncClient) -> None:
    """Where a parameter may be null, so may its text, for callers whose parameters are scalars."""
    tree = {"inputs": [{**IN_JSON, "name": "m"}], "parameters": {"hi": "null", "lo": 0.5}}

    assert (await infer(client, "mclip", body_of(tree))).status_code == 200


async def test_metadata_of_the_server(client: httpx.AsyncClient) -> None:
    """The server names itself and its extensions."""
    tree = (await client.get("/v2")).json()

    assert (tree["name"], "binary_tensor_data" in tree["extensions"]) == ("matfn", True)


async def test_metadata_of_models(client: httpx.AsyncClient) -> None:
    """Every entry of the catalogue is a model with its inputs and outputs, in one version."""
    for name, entry in ENTRIES.items():
        tree = (await client.get(f"/v2/models/{name}")).json()
        again = (await client.get(f"/v2/models/{name}/versions/1")).json()

        assert tree == again
        assert (tree["name"], tree["versions"], tree["platform"]) == (name, ["1"], "matfn")
        assert [one["name"] for one in tree["inputs"]] == [one.name for one in entry.inputs]
        further = [one.name for one in entry.on_request]
        assert [one["name"] for one in tree["outputs"]] == [*entry.outputs, *further, "certificates"]


async def test_every_model_is_in_the_index(client: httpx.AsyncClient) -> None:
    """The repository's index has every model as ready, and each has a configuration."""
    index = (await client.post("/v2/repository/index", content=b"")).json()
    config = (await client.get("/v2/models/root/config")).json()

    assert {one["name"] for one in index} == set(ENTRIES)
    assert {one["state"] for one in index} == {"READY"}
    assert [(one["name"], one["optional"]) for one in config["input"]] == [("a", False), ("g", True)]


@pytest.mark.parametrize("path", ["health/live", "health/ready", "models/root/ready", "models/root/versions/1/ready"])
async def test_health(client: httpx.AsyncClient, path: str) -> None:
    """A warm server is live and ready, and so are its models."""
    assert (await client.get(f"/v2/{path}")).status_code == 200


async def test_readiness_follows_the_service(opened: Opened, executor: ScriptedExecutor) -> None:
    """While the server warms up or drains it is live and not ready."""
    executor.warm.clear()
    async with opened() as client:
        warming = [(await client.get(path)).status_code for path in ("/v2/health/live", "/v2/health/ready")]
        executor.warm.set()
        service = service_behind(client)
        await service.warmed_up()
        ready = (await client.get("/v2/models/root/ready")).status_code
        await service.drain()
        draining = problem_of(await inferred(client)), problem_of(await client.get("/v2/models/root/ready"))

    assert (warming, ready, draining) == ([200, 503], 200, ((503, "draining"),) * 2)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v2/models/nothing", (404, "unknown_function")),
        ("POST", "/v2/models/nothing/infer", (404, "unknown_function")),
        ("GET", "/v2/models/root/versions/2", (404, "unknown_function")),
        ("POST", "/v2/models/root/versions/2/infer", (404, "unknown_function")),
        ("POST", "/v2/models/verify/norm2/infer", (404, "unknown_function")),
        ("GET", "/v2/models/root/stats", (404, "not_found")),
        ("GET", "/v2/surprise", (404, "not_found")),
        ("GET", "/v2/systemsharedmemory/status", (404, "not_found")),
        ("GET", "/v2/models/root/infer", (405, "method_not_allowed")),
        ("POST", "/v2/models/root", (405, "method_not_allowed")),
        ("GET", "/v2/repository/index", (405, "method_not_allowed")),
    ],
)
async def test_wrong_routes(client: httpx.AsyncClient, method: str, path: str, expected: tuple[int, str]) -> None:
    """Unknown models, versions, routes and methods are problems."""
    assert problem_of(await client.request(method, path)) == expected


async def test_head_and_options(client: httpx.AsyncClient) -> None:
    """HEAD is GET without a body; OPTIONS tells the methods."""
    head, options = await client.head("/v2/health/live"), await client.options("/v2/models/root/infer")

    assert (head.status_code, head.content, options.headers["allow"]) == (200, b"", "POST, OPTIONS")


def damaged(**fields: object) -> Content:
    """A small call of root whose only input has these fields."""
    return body_of({"inputs": [{**IN_JSON, **fields}], "parameters": {"r": 2}})


def with_binary(octets_: bytes, header: int | str | None = None, **parts: object) -> Content:
    """A small call of root with these octets behind its JSON."""
    body = body_of({"inputs": [IN_BINARY], "parameters": {"r": 2}, **parts}, [octets_])
    return body if header is None else Content(body.content, {LENGTH: str(header)})


MALFORMED: Mapping[str, Content] = {
    "empty": Content(b"", {}),
    "no JSON": Content(b"{", {}),
    "a list": Content(b"[]", {}),
    "no inputs": body_of({"parameters": {"r": 2}}),
    "unknown key": body_of({"inputs": [IN_JSON], "surprise": 1}),
    "two inputs of one name": body_of({"inputs": [IN_JSON, IN_JSON], "parameters": {"r": 2}}),
    "two outputs of one name": body_of({"inputs": [IN_JSON], "outputs": [{"name": "x"}] * 2, "parameters": {"r": 2}}),
    "a name twice in a map": Content(b'{"inputs": [], "inputs": []}', {}),
    "too many inputs": body_of({"inputs": [{**IN_JSON, "name": f"a{i}"} for i in range(100)]}),
    "negative size": damaged(shape=[-2, -2]),
    "huge size": damaged(shape=[2**31, 2**31]),
    "huge product": damaged(shape=[2**30] * 60),
    "too many sizes": damaged(shape=[1] * 65),
    "fraction of a size": damaged(shape=[2.0, 2]),
    "shape without a list": damaged(shape=4),
    "too few numbers": damaged(data=[1, 2, 3]),
    "ragged": damaged(data=[[1, 2], [3]]),
    "nested otherwise": damaged(shape=[4, 1], data=[[1, 2], [3, 4]]),
    "text among numbers": damaged(data=[1, 2, 3, "4"]),
    "no numbers": damaged(data="1 2 3 4"),
    "unknown datatype": damaged(datatype="FP31"),
    "unknown parameter of an input": damaged(parameters={"shared_memory_region": "mine"}),
    "data and binary": damaged(parameters={"binary_data_size": 16}),
    "binary without octets": body_of({"inputs": [IN_BINARY], "parameters": {"r": 2}}),
    "truncated": with_binary(octets(A)[:-1]),
    "octets left over": with_binary(octets(A) + b"x"),
    "negative binary": with_binary(octets(A), inputs=[{**IN_BINARY, "parameters": {"binary_data_size": -16}}]),
    "huge binary": with_binary(octets(A), inputs=[{**IN_BINARY, "parameters": {"binary_data_size": 2**62}}]),
    "binary of another size": with_binary(octets(A), inputs=[{**IN_BINARY, "shape": [2, 3]}]),
    "header beyond the body": with_binary(octets(A), 10**6),
    "header is no number": with_binary(octets(A), "-1"),
    "header of many digits": with_binary(octets(A), "1" * 400),
    "header in the middle": with_binary(octets(A), 10),
    "binary without the header": Content(with_binary(octets(A)).content, {}),
    "unknown parameter of an output": body_of(
        {"inputs": [IN_JSON], "outputs": [{"name": "x", "parameters": {"classification": 2}}]}
    ),
    "flag is no flag": body_of({"inputs": [IN_JSON], "parameters": {"r": 2, "binary_data_output": 1}}),
    "parameter is a map": body_of({"inputs": [IN_JSON], "parameters": {"r": {}}}),
    "long text": body_of({"inputs": [IN_JSON], "parameters": {"r": "1" * 70_000}}),
    "many parameters": body_of({"inputs": [IN_JSON], "parameters": {f"p{i}": 1 for i in range(100)}}),
    "id is no text": body_of({"inputs": [IN_JSON], "id": 7, "parameters": {"r": 2}}),
}


async def test_requests_that_cannot_be_read_are_malformed(client: httpx.AsyncClient) -> None:
    """What cannot be read is 400, and the next request is answered."""
    answers = {name: await infer(client, "root", body) for name, body in MALFORMED.items()}

    found = {name: problem_of(answer) for name, answer in answers.items()}
    assert found == dict.fromkeys(MALFORMED, (400, "malformed"))
    assert {answer.json()["hint"] for answer in answers.values()} == {HTTP_HINT}
    assert (await inferred(client)).status_code == 200


@pytest.mark.parametrize("x", [torch.eye(2), torch.full((2, 2), -1.0), torch.zeros(2, 2)])
async def test_missing_header_is_named(client: httpx.AsyncClient, x: torch.Tensor) -> None:
    """Binary tensors without the header that says where they begin are refused by its name."""
    answer = await infer(client, "root", Content(with_binary(octets(x)).content, {}))

    assert problem_of(answer) == (400, "malformed")
    assert "Inference-Header-Content-Length does not say where" in answer.json()["detail"]


async def test_two_headers_are_refused(client: httpx.AsyncClient) -> None:
    """Of two places where the JSON ends neither is taken, even if they are the same."""
    body = with_binary(octets(A))
    length = body.headers[LENGTH]
    answer = await client.post("/v2/models/root/infer", content=body.content, headers=[(LENGTH, length)] * 2)

    assert problem_of(answer) == (400, "malformed")
    assert f"{length}, {length}" in answer.json()["detail"]


@pytest.mark.parametrize(("datatype", "number"), [("FP16", 1e6), ("FP32", 1e300), ("BF16", -1e39)])
async def test_numbers_beyond_a_datatype_are_named(client: httpx.AsyncClient, datatype: str, number: float) -> None:
    """A finite number that the datatype cannot hold is said to be out of its range, and not to be infinite."""
    answer = await inferred(client, inputs=[{**IN_JSON, "datatype": datatype, "data": [1, 0, 0, number]}])

    assert problem_of(answer) == (422, "not_finite")
    assert f"has {number:g}, out of the range of {datatype}" in answer.json()["detail"]


async def test_largest_number_of_a_datatype_is_taken(client: httpx.AsyncClient) -> None:
    """What rounds to the largest number is within the range."""
    answer = await inferred(client, inputs=[{**IN_JSON, "datatype": "FP16", "data": [1, 0, 0, 65519]}])

    assert answer.json().get("code") != "not_finite"


async def test_certificates_may_be_left_out(client: httpx.AsyncClient) -> None:
    """Without the parameter the rest of the answer is the same, and a tensor of certificates may still be asked for."""
    wanted = [{"name": "x"}, {"name": "certificates"}]
    whole, less = [
        (await inferred(client, outputs=wanted, parameters=parameters)).json()
        for parameters in ({}, {"certificates": False})
    ]
    wrong = await inferred(client, parameters={"certificates": 0})

    assert set(whole["parameters"]) - set(less["parameters"]) == {"certificates"}
    assert less["outputs"] == whole["outputs"]
    assert problem_of(wrong) == (400, "malformed")


UNPROCESSABLE: Sequence[tuple[dict[str, Any], str]] = [
    ({"parameters": {"surprise": 1}}, "invalid_parameter"),
    ({"parameters": {"sequence_id": 1}}, "invalid_parameter"),
    ({"parameters": {"r": 0}}, "invalid_parameter"),
    ({"parameters": {"r": "two"}}, "invalid_parameter"),
    ({"parameters": {"timeout": -1}}, "invalid_parameter"),
    ({"parameters": {"timeout": 1.5}}, "invalid_parameter"),
    ({"parameters": {"timeout": 10**6, "deadline": 1.0}}, "invalid_parameter"),
    ({"parameters": {"priority": 10}}, "invalid_parameter"),
    ({"outputs": [{"name": "y"}]}, "invalid_parameter"),
    ({"inputs": [{**IN_JSON, "name": "b"}]}, "invalid_parameter"),
    ({"inputs": [{**IN_JSON, "shape": [4]}]}, "invalid_shape"),
    ({"inputs": [{**IN_JSON, "shape": [2**31 - 1, 2**31 - 1, 0], "data": []}]}, "invalid_shape"),
    ({"inputs": [{**IN_JSON, "datatype": "INT32"}]}, "unsupported_dtype"),
    ({"inputs": [{**IN_JSON, "datatype": "COMPLEX64"}]}, "unsupported_dtype"),
    ({"inputs": [{**IN_JSON, "data": [1, None, 0, 1]}]}, "not_finite"),
    ({"inputs": [{**IN_JSON, "data": [1, 1, 0, 1]}]}, "not_symmetric"),
    ({"inputs": [{**IN_JSON, "data": [-1, 0, 0, 1]}]}, "not_positive"),
]


async def test_calls_without_an_answer_are_unprocessable(client: httpx.AsyncClient) -> None:
    """What can be read and has no answer is 422, with its code."""
    found = [problem_of(await inferred(client, **parts)) for parts, _ in UNPROCESSABLE]

    assert found == [(422, code) for _, code in UNPROCESSABLE]


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, {"content-type": "application/msgpack"}])
async def test_content_type_says_nothing(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """The media type is ignored; a problem is in JSON too."""
    body = body_of({"inputs": [IN_JSON], "parameters": {"r": 2}})
    good = await client.post("/v2/models/root/infer", content=body.content, headers=headers)
    bad = await client.post("/v2/models/root/infer", content=b"{", headers=headers)

    assert (good.status_code, bad.headers["content-type"]) == (200, "application/problem+json")


async def test_checks_come_in_order(opened: Opened) -> None:
    """Of several faults the first in the order 401, 404, 413, 415, 400, 422 is told; health needs no key."""
    key, packed = {"authorization": "Bearer secret"}, {"content-encoding": "gzip"}
    root, large = "/v2/models/root/infer", bytes(2000)
    async with opened(max_request_bytes=1024, api_keys="secret") as client:
        found = [
            await client.post("/v2/models/nothing/infer", content=large),
            await client.post("/v2/models/nothing/infer", content=large, headers=key),
            await client.post(root, content=large, headers=key),
            await client.post(root, content=b"{", headers=key | packed),
            await client.post(root, content=b"{", headers=key),
            await client.post(root, content=b'{"inputs": []}', headers=key),
        ]
        health = [(await client.get(f"/v2/health/{kind}")).status_code for kind in ("live", "ready")]

    assert [answer.status_code for answer in found] == [401, 404, 413, 415, 400, 422]
    assert health == [200, 200]
    assert problem_of(found[0]) == (401, "unauthorized")


async def test_triangles_and_shared_memory_are_of_v1_alone(client: httpx.AsyncClient) -> None:
    """A header that asks for triangles changes no answer."""
    body = body_of({"inputs": [IN_JSON], "parameters": {"r": 2}})
    answer = await client.post("/v2/models/root/infer", content=body.content, headers={"x-matfn-triangle": "L"})

    assert len(answer.json()["outputs"][0]["data"]) == 4


async def test_timeout_is_the_deadline(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """A call that is not answered within its timeout is 504, while the device is still busy."""
    executor.gate.clear()
    held = asyncio.create_task(post(client))
    await executor.busy.acquire()
    late = await inferred(client, parameters={"timeout": 20_000})
    executor.gate.set()

    assert problem_of(late) == (504, "deadline_exceeded")
    assert (await held).status_code == 200


async def test_priority_one_goes_first(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """The protocol's 1 goes before its 2, and both before calls that say nothing."""
    executor.gate.clear()
    tasks = [asyncio.create_task(post(client))]
    await executor.busy.acquire()
    sizes = {3: {}, 4: {"priority": 2}, 5: {"priority": 1}}
    for size, parameters in sizes.items():
        tensor = written("m", torch.eye(size), is_binary=False)
        body = body_of({"inputs": [tensor], "parameters": parameters})
        tasks.append(asyncio.create_task(infer(client, "msign", body)))
        await until(lambda: len(service_behind(client).queue) == size - 2)  # noqa: B023 - called within the turn
    executor.gate.set()
    await asyncio.gather(*tasks)

    assert [next(iter(batch.inputs.values())).shape[-1] for batch in executor.seen[1:]] == [5, 4, 3]


async def test_one_batch_has_callers_of_both_protocols(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """Calls of /v1 and /v2 share a batch, and each answer has the bits of a call alone."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 4)))
    alone = answer_in(await infer(client, "msign", body_of({"inputs": [written("m", x, is_binary=False)]})))
    executor.forget()
    executor.gate.clear()
    first = asyncio.create_task(post(client))
    await executor.busy.acquire()
    calls = [asyncio.create_task(post(client)) for _ in range(2)]
    binary = body_of({"inputs": [written("m", x)], "parameters": {"binary_data_output": True}}, [octets(x)])
    inferences = [asyncio.create_task(infer(client, "msign", binary)) for _ in range(2)]
    await until(lambda: len(service_behind(client).queue) == 4)
    executor.gate.set()
    answers = [answer_in(await one) for one in inferences]
    await asyncio.gather(first, *calls)

    assert executor.sizes == [[1], [1] * 4]
    assert [one.tree["parameters"]["batch_size"] for one in answers] == [4, 4]
    assert {one.binary["x"] for one in answers} == {numbers_in(alone.tree["outputs"][0])}


async def test_openapi_describes_every_route(client: httpx.AsyncClient) -> None:
    """The document has the routes, and the example of a call is answered."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    content = paths["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]
    answer = await infer(client, "msign", body_of(content["application/json"]["example"]))

    assert {"/v2", "/v2/health/ready", "/v2/models/{model}", "/v2/models/{model}/versions/{version}/infer"} <= set(
        paths
    )
    assert [one["name"] for one in answer.json()["outputs"]] == ["x", "certificates"]


async def test_requests_are_counted_by_function(client: httpx.AsyncClient) -> None:
    """Calls and failures are counted as those of /v1 are."""
    await inferred(client)
    await inferred(client, parameters={"r": 0})
    calls = service_behind(client).statistics.calls

    assert (calls["root", "ok"], calls["root", "invalid_parameter"]) == (1, 1)


async def test_nothing_stays_in_the_ledger(client: httpx.AsyncClient) -> None:
    """Answered or refused, a request leaves no charge behind."""
    await inferred(client)
    await infer(client, "root", MALFORMED["truncated"])
    await inferred(client, outputs=[{"name": "y"}])

    assert service_behind(client).ledger.total == 0


async def test_long_lists_are_read_and_written(client: httpx.AsyncClient) -> None:
    """Numbers beyond those that are written together come whole."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 40, 40)))
    answer = answer_in(await infer(client, "msign", body_of({"inputs": [written("m", x, is_binary=False)]})))
    call = wire.Call("msign", {"m": wire.Tensor("float64", (3, 40, 40), octets(x))}, {}, {})

    assert numbers_in(answer.tree["outputs"][0]) == (await answer_of_v1(client, call)).outputs["x"].data


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    position=st.integers(0, 400),
    octet=st.integers(0, 255),
    cut=st.integers(0, 3),
    header=st.one_of(st.none(), st.integers(0, 300)),
)
async def test_damaged_requests_are_answered_or_refused(
    client: httpx.AsyncClient, position: int, octet: int, cut: int, header: int | None
) -> None:
    """Whatever is damaged, the answer is a typed one."""
    body = with_binary(octets(A))
    content = bytearray(body.content)
    content[position % len(content)] = octet
    headers = dict(body.headers) if header is None else {LENGTH: str(header)}
    damaged_ = Content(bytes(content[: len(content) - cut]), headers)

    answer = await infer(client, "root", damaged_)

    assert answer.status_code in {200, 400, 422}
    if answer.status_code != 200:
        problem_of(answer)


def test_models_are_the_catalogue() -> None:
    """Every function is a model."""
    assert {example.function for example in examples()} == set(FUNCTIONS)
    assert call_body()
