"""Every status of the contract, through the application."""

from __future__ import annotations

import asyncio
import errno
import json
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from matfn import wire
from scripted import MSGPACK, Opened, ScriptedExecutor, call_body, matrices, post, service_behind, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx


pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
EYE = [[1.0, 0.0], [0.0, 1.0]]


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem document that is one in every respect."""
    problem = wire.decode_problem(answer.content, answer.headers["content-type"])
    assert problem.status == answer.status_code
    assert problem.request_id == answer.headers["x-request-id"]
    assert problem.title
    assert problem.detail
    return problem.status, problem.code


def call(function: str = "msign", **members: object) -> tuple[str, str]:
    """A path and a JSON body."""
    return f"/v1/{function}", json.dumps({"inputs": {"m": EYE}, **members})


def zeros(dtype: str, shape: list[int], size: int) -> dict[str, object]:
    """A tensor of this many zero bytes."""
    return {"dtype": dtype, "shape": shape, "data": b64encode(bytes(size)).decode()}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"inputs": {"m": [[1, 2], [3]]}}',
        b'{"inputs": {"m": "text"}}',
        b'{"inputs": {"m": [[1]]}, "surprise": 1}',
        b'{"inputs": {"m": [[1]], "m": [[2]]}}',
        b"[" * 10_000,
        b'{"inputs": {"m": [[1e999999]]}, "params": []}',
        call(inputs={"m": zeros("float32", [2, 2], 15)})[1].encode(),
        call(inputs={"m": zeros("float31", [2, 2], 16)})[1].encode(),
        call(inputs={"m": zeros("float32", [-2, -2], 16)})[1].encode(),
        call(inputs={"m": zeros("float32", [2**31, 2**31, 2**31, 2**31], 16)})[1].encode(),
    ],
)
async def test_unreadable_bodies_are_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    """What cannot be read is 400 malformed."""
    assert problem_of(await client.post("/v1/msign", content=body, headers=JSON)) == (400, "malformed")


@pytest.mark.parametrize("body", [b"", b"\xc1", call_body()[:-1], call_body() + b"\x00", b"\x80"])
async def test_unreadable_msgpack_gets_a_msgpack_problem(client: httpx.AsyncClient, body: bytes) -> None:
    """The problem comes in the format of the request."""
    answer = await client.post("/v1/msign", content=body, headers=MSGPACK)

    assert answer.headers["content-type"] == "application/problem+msgpack"
    assert problem_of(answer) == (400, "malformed")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (call(inputs={"m": [1.0, 2.0]}), "invalid_shape"),
        (call("inv_root", inputs={"a": [[1.0, 0.0]]}, params={"r": 2}), "invalid_shape"),
        (call(inputs={"m": [[[1.0]]] * 5}), "invalid_shape"),
        (call(inputs={"m": [[0.0] * 65]}), "invalid_shape"),
        (call(inputs={"m": zeros("float32", [2**31 - 1] * 4 + [0, 2], 0)}), "invalid_shape"),
        (call(params={"r": 2}), "invalid_parameter"),
        (call(options={"tol": 1e-30}), "invalid_parameter"),
        (call(options={"priority": 10}), "invalid_parameter"),
        (call(inputs={}), "invalid_parameter"),
        (call(inputs={"m": zeros("int32", [2, 2], 16)}), "unsupported_dtype"),
        (call("max_logit", inputs={name: zeros("complex64", [1, 1, 1], 8) for name in "qk"}), "unsupported_dtype"),
        (call(inputs={"m": [[None, 0.0], [0.0, 1.0]]}), "not_finite"),
        (call("inv_root", inputs={"a": [[1.0, 1.0], [0.0, 1.0]]}, params={"r": 2}), "not_symmetric"),
        (call("root", inputs={"a": [[-1.0, 0.0], [0.0, 1.0]]}, params={"r": 2}), "not_positive"),
        (call("tri_inv", inputs={"t": [[0.0]]}), "singular"),
        (call(options={"tol": 1e-15}, inputs={"m": [[1.0, 0.5], [0.25, 1.0]]}, params={"steps": 1}), "not_converged"),
    ],
)
async def test_calls_without_an_answer_are_unprocessable(opened: Opened, request_: tuple[str, str], code: str) -> None:
    """What can be read but has no answer is 422, with the code that says why."""
    path, body = request_
    async with opened(max_items=4, max_order=64) as client:
        assert problem_of(await client.post(path, content=body, headers=JSON)) == (422, code)


@pytest.mark.parametrize(("elements", "expected"), [(65**2 - 1, (422, "invalid_shape")), (65**2, (422, "singular"))])
async def test_small_request_cannot_ask_for_much(opened: Opened, elements: int, expected: tuple[int, str]) -> None:
    """What a call would hold is bounded, whatever its body's size; at the bound it is computed."""
    column = zeros("float32", [65, 1], 260)
    path, body = call("dplr_inv", inputs={"diag": zeros("float32", [65], 260), "q": column, "k": column})
    async with opened(max_elements=elements) as client:
        assert problem_of(await client.post(path, content=body, headers=JSON)) == expected


async def test_failed_matrix_is_named(client: httpx.AsyncClient) -> None:
    """The problem tells which matrix of the batch it is about."""
    answer = await client.post("/v1/msign", json={"inputs": {"m": [EYE, [[None, 0], [0, 1]]]}})

    assert answer.json()["index"] == 1


async def test_failed_matrix_may_be_nan_instead(client: httpx.AsyncClient) -> None:
    """With on_failure="nan" the call is answered and that matrix alone has no value."""
    body = {"inputs": {"m": [EYE, [[None, 0], [0, 1]]]}, "options": {"on_failure": "nan"}}
    answer = await client.post("/v1/msign", json=body)

    assert [entry["code"] for entry in answer.json()["certificates"]] == [None, "not_finite"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/nothing", (404, "unknown_function")),
        ("GET", "/nothing", (404, "not_found")),
        ("POST", "/v1/msign/more", (404, "not_found")),
        ("GET", "/v1/msign", (405, "method_not_allowed")),
        ("DELETE", "/v1/calls", (405, "method_not_allowed")),
        ("POST", "/v1/status", (405, "method_not_allowed")),
        ("PUT", "/healthz", (405, "method_not_allowed")),
    ],
)
async def test_wrong_routes(client: httpx.AsyncClient, method: str, path: str, expected: tuple[int, str]) -> None:
    """Unknown routes and methods are problems too, and a wrong method is told the right ones."""
    answer = await client.request(method, path)

    assert problem_of(answer) == expected
    assert ("allow" in answer.headers) == (expected[0] == 405)


@pytest.mark.parametrize("path", ["/v1/msign", "/v1/calls", "/v1/functions", "/v1/status", "/healthz"])
async def test_options_tells_the_methods(client: httpx.AsyncClient, path: str) -> None:
    """OPTIONS is answered with what the route allows."""
    answer = await client.options(path)

    assert answer.status_code == 200
    assert ("POST" in answer.headers["allow"]) == (path in {"/v1/msign", "/v1/calls"})


@pytest.mark.parametrize("path", ["/v1/functions", "/healthz", "/docs", "/openapi.json"])
async def test_allowed_methods_are_told_once(client: httpx.AsyncClient, path: str) -> None:
    """Allow names each method of a readable route once."""
    answer = await client.delete(path)

    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]


@pytest.mark.parametrize("path", ["/v1/functions", "/v1/status", "/healthz", "/readyz"])
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    """HEAD is answered like GET."""
    answer = await client.head(path)

    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/octet-stream"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_other_media_types_are_unsupported(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Only uncompressed msgpack and JSON are read."""
    answer = await client.post("/v1/msign", content=b"{}", headers=headers)

    assert problem_of(answer) == (415, "unsupported_media_type")


async def test_identity_and_parameters_are_no_obstacle(client: httpx.AsyncClient) -> None:
    """A charset and the encoding identity change nothing."""
    headers = {"content-type": "application/json; charset=utf-8", "content-encoding": "identity"}

    assert (await client.post("/v1/msign", content=call()[1], headers=headers)).status_code == 200


async def chunks(number: int) -> AsyncIterator[bytes]:
    """A body of so many KiB, its length not declared."""
    for _ in range(number):
        yield bytes(1024)


async def test_large_bodies_are_refused_by_length_and_by_count(opened: Opened) -> None:
    """A body over the limit is 413, whether its length is declared or not; one at the limit is read."""
    async with opened(max_request_bytes=4096) as client:
        declared = await client.post("/v1/msign", content=bytes(4097), headers=JSON)
        chunked = await client.post("/v1/msign", content=chunks(5), headers=JSON)
        fitting = await client.post("/v1/msign", content=chunks(4), headers=JSON)

    assert problem_of(declared) == problem_of(chunked) == (413, "too_large")
    assert problem_of(fitting) == (400, "malformed")


async def test_checks_come_in_order(opened: Opened) -> None:
    """Of several faults the first in the order 401, 404, 415, 413, 400 is told."""
    key = {"authorization": "Bearer secret"}
    async with opened(max_request_bytes=1024, api_keys="secret") as client:
        large = bytes(2000)
        found = [
            await client.post("/v1/nothing", content=large),
            await client.post("/v1/nothing", content=large, headers=key),
            await client.post("/v1/msign", content=large, headers=key),
            await client.post("/v1/msign", content=large, headers=key | JSON),
            await client.post("/v1/msign", content=b"{", headers=key | JSON),
        ]

    assert [answer.status_code for answer in found] == [401, 404, 415, 413, 400]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Basic first", 401),
        ("Bearer first", 200),
        ("bearer second", 200),
    ],
)
async def test_keys(opened: Opened, authorization: str | None, status: int) -> None:
    """With keys set, a request needs one of them."""
    headers = {} if authorization is None else {"authorization": authorization}
    async with opened(api_keys="first, second") as client:
        answer = await client.get("/v1/functions", headers=headers)

    assert answer.status_code == status
    assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)


async def test_health_needs_no_key(opened: Opened) -> None:
    """Probes need no key."""
    async with opened(api_keys="secret") as client:
        found = {
            path: (await client.get(path)).status_code for path in ("/healthz", "/readyz", "/docs", "/openapi.json")
        }

    assert found == {"/healthz": 200, "/readyz": 200, "/docs": 401, "/openapi.json": 401}


async def test_full_queue_is_busy(opened: Opened, executor: ScriptedExecutor) -> None:
    """Beyond the queue's bound a call is 429 with the time after which there is room, rounded up in the header."""
    async with opened(queue_bytes=5000, max_request_bytes=4096) as client:
        service = service_behind(client)
        executor.gate.clear()
        tasks = [asyncio.create_task(post(client, "msign", 8, 8))]
        await executor.busy.acquire()
        tasks += [asyncio.create_task(post(client, "msign", 8, 8)) for _ in range(2)]
        await until(lambda: len(service.queue) == 2)
        refused = await post(client, "msign", 8, 8)
        backlog = service.batcher.backlog_seconds
        executor.gate.set()

        assert problem_of(refused) == (429, "busy")
        problem = wire.decode_problem(refused.content, refused.headers["content-type"])
        held, size, bound = 3 * 1536, 1536, 5000 / 2  # newcomers get no more of the queue while others are told
        assert problem.retry_after_ms == pytest.approx(1 + 1.1e3 * backlog * (held + size - bound) / held)
        assert refused.headers["retry-after"] == "1"
        assert [(await task).status_code for task in tasks] == [200] * 3


async def test_limits_of_a_key_are_its_own(opened: Opened, executor: ScriptedExecutor) -> None:
    """A key with as many requests in flight as it may have is 429 with the limit's name; other keys are not."""
    async with opened(api_keys="one name=first requests=1, two bytes=400") as client:
        executor.gate.clear()
        headers = [{**MSGPACK, "authorization": f"Bearer {key}"} for key in ("one", "two")]
        held = asyncio.create_task(client.post("/v1/msign", content=call_body(), headers=headers[0]))
        await executor.busy.acquire()
        refused = await client.post("/v1/msign", content=b"never read", headers=headers[0])
        large = await client.post("/v1/msign", content=call_body("msign", 8, 8), headers=headers[1])
        executor.gate.set()
        answers = [await held, await client.post("/v1/msign", content=call_body(), headers=headers[0])]
        uses = [(use.requests, use.bytes, use.refused) for use in service_behind(client).allowances]

    assert problem_of(refused) == (429, "busy")
    assert (b"API key first" in refused.content, b"requests=1" in refused.content) == (True, True)
    assert problem_of(large) == (413, "too_large")
    assert [answer.status_code for answer in answers] == [200, 200]
    assert uses == [(0, 0, 1), (0, 0, 1)]


async def test_call_that_never_fits_the_queue_is_too_large(opened: Opened) -> None:
    """A call that even an empty queue could not hold is not told to come again."""
    async with opened(queue_bytes=4096, max_request_bytes=4096) as client:
        assert problem_of(await post(client, "msign", 16, 16)) == (413, "too_large")


async def test_kernel_that_raises_is_internal(client: httpx.AsyncClient, executor: ScriptedExecutor) -> None:
    """A bug on our side is 500 and tells nothing of its inside."""
    executor.fault = lambda batch: KeyError(batch.items, "secret")
    answer = await post(client)

    assert problem_of(answer) == (500, "internal")
    assert b"secret" not in answer.content


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
async def test_shortage_of_memory_may_pass(client: httpx.AsyncClient, error: Exception) -> None:
    """A request for which the server itself finds no memory is 503, so that clients send it again."""

    def lend(*_: object) -> memoryview:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matfn_service.body.lent", lend)
        answer = await post(client)

    assert problem_of(answer) == (503, "out_of_memory")


async def test_warming_server_lets_calls_wait(opened: Opened, executor: ScriptedExecutor) -> None:
    """While it warms up the server is alive but not ready, which no log need repeat; a call waits."""
    executor.warm.clear()
    async with opened() as client:
        early = asyncio.create_task(post(client))
        with capture_logs() as logged:
            health = [(await client.get(path)).status_code for path in ("/healthz", "/readyz")]
        executor.warm.set()

        assert health == [200, 503]
        assert logged == []
        assert (await early).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


async def test_calls_have_their_own_statuses(client: httpx.AsyncClient) -> None:
    """POST /v1/calls is 200 with an answer or a problem for each call, in order."""
    calls = [
        wire.Call("msign", {"m": matrices(4, 4)}, {}, {}),
        wire.Call("nothing", {}, {}, {}),
        wire.Call("inv_root", {"a": matrices(3, 3)}, {}, {}),
        wire.Call("msign", {"m": matrices(4, 4)}, {}, {"deadline": 0.0}),
        wire.Call("sqrt_pair", {"a": matrices(2, 5, 5)}, {}, {}),
    ]
    body = b"".join(wire.encode_calls(calls, wire.Media.MSGPACK))
    answer = await client.post("/v1/calls", content=body, headers=MSGPACK)
    statuses = wire.decode_answers(answer.content, wire.Media.MSGPACK)

    assert answer.status_code == 200
    assert [None if isinstance(status, wire.Answer) else status.code for status in statuses] == [
        None,
        "unknown_function",
        "invalid_parameter",
        "deadline_exceeded",
        None,
    ]
    assert all(status.request_id == answer.headers["x-request-id"] for status in statuses)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"calls": 1}', b'{"calls": [], "more": 1}'])
async def test_bad_envelope_is_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    """An envelope that cannot be read is 400 as a whole."""
    assert problem_of(await client.post("/v1/calls", content=body, headers=JSON)) == (400, "malformed")


async def test_too_many_calls_are_refused_together(opened: Opened) -> None:
    """An envelope holds as many calls as a call may hold matrices."""
    async with opened(max_items=3) as client:
        answer = await client.post("/v1/calls", json={"calls": [{}] * 4})

    assert problem_of(answer) == (413, "too_large")


async def test_no_calls_have_no_answers(client: httpx.AsyncClient) -> None:
    """An empty envelope is answered with an empty one."""
    answer = await client.post("/v1/calls", json={"calls": []})

    assert (answer.status_code, answer.json()) == (200, {"answers": []})


async def test_server_that_cannot_warm_up_says_so(
    opened: Opened, executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose warm-up failed is alive, never ready, and answers calls with internal."""
    executor.warm.clear()
    monkeypatch.setattr(executor, "run", None)
    async with opened() as client:
        executor.warm.set()
        answer = await post(client)
        ready = await client.get("/readyz")

    assert problem_of(answer) == (500, "internal")
    assert problem_of(ready) == (503, "internal")
