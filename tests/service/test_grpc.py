"""The Open Inference Protocol over gRPC, in the process of the test, read and written by Google's own library."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_calls import Example, answer_in, body_of, examples, octets, written
from inference_proto import MESSAGES, ROOT, request_of, set_parameter
from matfn import wire
from matfn_kernels.contract.functions import ENTRIES
from matfn_service.app import create_app
from matfn_service.grpc_caller import longest_write
from matfn_service.grpc_server import GrpcServer
from matfn_service.inference_messages import read_request
from matfn_service.inference_problems import GRPC_HINT
from matfn_service.ledger import Kind
from matfn_service.problems import Refusal
from matfn_service.settings import Settings
from scripted import MSGPACK, ScriptedExecutor, call_body, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from matfn_service.app import Application
    from matfn_service.service import Service

pytestmark = pytest.mark.anyio

INVALID = "INVALID_ARGUMENT"
A = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
BIG = Example("msign", "float64", {"m": torch.eye(200).double()}, {})
CALL = Example("root", "float32", {"a": A}, {"r": 2})


@dataclass
class Connected:
    """A server in this process and a channel to it."""

    app: Application
    channel: grpc.aio.Channel
    address: str

    @property
    def service(self) -> Service:
        """The service behind both protocols."""
        service: Service = self.app.state.service
        return service

    async def ask(self, method: str, request: Any = None, reply: str | None = None, **how: Any) -> Any:
        """The answer to a request, both messages."""
        octets_ = b"" if request is None else request if isinstance(request, bytes) else request.SerializeToString()
        answer = await self.channel.unary_unary(f"{ROOT}{method}")(octets_, **how)
        return MESSAGES[reply or f"{method}Response"].FromString(answer)

    async def infer(self, request: Any, **how: Any) -> Any:
        """The answer to a request to infer."""
        return await self.ask("ModelInfer", request, **how)

    async def refused(self, request: Any, method: str = "ModelInfer", **how: Any) -> tuple[str, str]:
        """The status and the problem's code of a request that is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(method, request, **how)
        assert caught.value.details()
        trailers = dict(caught.value.trailing_metadata() or ())
        return caught.value.code().name, str(trailers.get("matfn-code", ""))


Connect: TypeAlias = "Callable[..., AbstractAsyncContextManager[Connected]]"


@pytest.fixture
def connect(executor: ScriptedExecutor) -> Connect:
    """Opens the application and its gRPC server on the scripted device."""

    @asynccontextmanager
    async def opened(**given_: object) -> AsyncIterator[Connected]:
        settings_ = Settings.model_validate({"grpc_port": 0, **given_})
        app = create_app(settings_, executor=executor)
        async with app.router.lifespan_context(app):
            await app.state.service.admission()
            executor.forget()
            server = GrpcServer(app, app.state.service)
            address = await server.start(settings_)
            async with grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
                yield Connected(app, channel, address)
            await server.stop(0)

    return opened


@pytest.fixture
async def connected(connect: Connect) -> AsyncIterator[Connected]:
    """A server with its default settings."""
    async with connect() as found:
        yield found


def client_of(connected: Connected) -> Any:
    """A client of the same server over HTTP."""
    import httpx

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=connected.app), base_url="http://matfn")


def request(**fields: Any) -> Any:
    """A small request."""
    found = request_of(CALL)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
async def test_every_function_has_the_answers_of_http(connected: Connected, dtype: str) -> None:
    """Outputs have the bits that they have over HTTP; FP32 and FP64 also from contents of their type."""
    different = []
    async with client_of(connected) as client:
        for example in (one for one in examples() if one.dtype == dtype):
            parameters = {**example.keywords, "binary_data_output": True}
            data = [octets(x) for x in example.inputs.values()]
            body = body_of({"inputs": example.tensors(), "parameters": parameters}, data)
            path = f"/v2/models/{example.function}/infer"
            expected = answer_in(await client.post(path, content=body.content, headers=dict(body.headers))).binary
            forms = [True] if dtype in {"float16", "bfloat16"} else [True, False]
            answers = [await connected.infer(request_of(example, is_raw=is_raw)) for is_raw in forms]
            found = [
                dict(zip([one.name for one in answer.outputs], answer.raw_output_contents, strict=True))
                for answer in answers
            ]
            different += [example.name for one in found if one != expected]

    assert not different


async def test_answer_says_whose_it_is(connected: Connected) -> None:
    """Model, version, id, shape and datatype come back, and the certificates are a parameter."""
    answer = await connected.infer(request(id="mine", model_version="1"))
    parameters = {one.key: one.value for one in answer.parameters}

    assert (answer.model_name, answer.model_version, answer.id) == ("root", "1", "mine")
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [("x", "FP32", [2, 2])]
    assert json.loads(parameters["certificates"].string_param)[0]["outcome"] == "converged"
    assert parameters["batch_size"].int64_param == 1
    assert parameters["device"].string_param == "scripted"


async def test_outputs_are_those_asked_for(connected: Connected) -> None:
    """Outputs come in the order that they are named in; certificates are a tensor of texts."""
    asked = request_of(Example("sqrt_pair", "float32", {"a": A}, {}))
    for name in ("y", "certificates"):
        asked.outputs.add(name=name)
    answer = await connected.infer(asked)

    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
        ("y", "FP32", [2, 2]),
        ("certificates", "BYTES", [1]),
    ]
    text = answer.raw_output_contents[1]
    assert json.loads(text[4 : 4 + int.from_bytes(text[:4], "little")])["outcome"] == "converged"


async def test_parameters_of_every_kind(connected: Connected) -> None:
    """Numbers, booleans, words, whole numbers without a sign, and rows of numbers as JSON text."""
    asked = request_of(Example("msign", "float32", {"m": A}, {"coefficients": "[[3.4445, -4.775, 2.0315]]"}))
    asked.parameters.add(key="priority", value=MESSAGES["InferParameter"](uint64_param=1))
    triangle = request_of(Example("tri_inv", "float32", {"t": A.tril()}, {"lower": True, "on_failure": "nan"}))

    assert [(await connected.infer(one)).outputs[0].name for one in (asked, triangle)] == ["x", "x"]


async def test_reports(connected: Connected) -> None:
    """Server and models describe themselves, and the index has all of them."""
    model = MESSAGES["ModelRequest"](name="root")
    metadata = await connected.ask("ModelMetadata", model)
    config = (await connected.ask("ModelConfig", model)).config
    index = await connected.ask("RepositoryIndex")

    assert (await connected.ask("ServerMetadata")).name == "matfn"
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("root", ["1"], "matfn")
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
        ("a", "FP32", [-1, -1]),
        ("g", "FP32", [-1, -1]),
    ]
    assert [(one.name, one.optional, list(one.dims)) for one in config.input] == [
        ("a", False, [-1, -1]),
        ("g", True, [-1, -1]),
    ]
    assert (config.name, config.backend, [one.data_type for one in config.output]) == ("root", "matfn", [11, 13])
    assert {one.name for one in index.models if one.state == "READY"} == set(ENTRIES)


async def test_health(connected: Connected) -> None:
    """A warm server is live and ready, by gRPC's own health service too; a draining one is not ready."""

    async def found() -> list[object]:
        health = await connected.channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
        return [
            (await connected.ask("ServerLive")).live,
            (await connected.ask("ServerReady")).ready,
            (await connected.ask("ModelReady", MESSAGES["ModelRequest"](name="root"))).ready,
            MESSAGES["HealthCheckResponse"].FromString(health).status,
        ]

    assert await found() == [True, True, True, 1]
    await connected.service.drain()
    assert await found() == [True, False, False, 2]
    assert await connected.refused(request()) == ("UNAVAILABLE", "draining")


def contents_of(asked: Any) -> Any:
    """The contents of a type in a request's first input."""
    return asked.inputs[0].contents.fp32_contents


def changed(change: Callable[[Any], object]) -> Any:
    """A small request with a change."""
    found = request()
    change(found)
    return found


REFUSED: Sequence[tuple[str, Any, str, str]] = [
    ("no message of the protocol", b"\xff\xff", INVALID, "malformed"),
    ("a field that ends too early", b"\x0a\x7f", INVALID, "malformed"),
    ("empty", b"", "NOT_FOUND", "unknown_function"),
    ("unknown model", request(model_name="nothing"), "NOT_FOUND", "unknown_function"),
    ("unknown version", request(model_version="2"), "NOT_FOUND", "unknown_function"),
    ("many empty inputs", b"\x2a\x00" * 10**6, INVALID, "malformed"),
    ("truncated", changed(lambda one: one.raw_input_contents.__setitem__(0, b"123")), INVALID, "malformed"),
    ("contents left over", changed(lambda one: one.raw_input_contents.append(b"")), INVALID, "malformed"),
    ("no contents", changed(lambda one: one.raw_input_contents.pop()), INVALID, "malformed"),
    ("both contents", changed(lambda one: contents_of(one).append(1)), INVALID, "malformed"),
    ("negative size", changed(lambda one: one.inputs[0].shape.__setitem__(0, -2)), INVALID, "malformed"),
    ("huge size", changed(lambda one: one.inputs[0].shape.__setitem__(0, 2**62)), INVALID, "malformed"),
    ("many sizes", changed(lambda one: one.inputs[0].shape.extend([1] * 10**4)), INVALID, "malformed"),
    ("two of a name", changed(lambda one: one.inputs.add(name="a")), INVALID, "malformed"),
    ("unknown datatype", changed(lambda one: setattr(one.inputs[0], "datatype", "FP31")), INVALID, "malformed"),
    ("integers", changed(lambda one: setattr(one.inputs[0], "datatype", "INT32")), INVALID, "unsupported_dtype"),
    ("unknown parameter", changed(lambda one: set_parameter(one, "surprise", 1)), INVALID, "invalid_parameter"),
    ("parameter of an input", changed(lambda one: one.inputs[0].parameters.add(key="x")), INVALID, "malformed"),
    ("unknown output", changed(lambda one: one.outputs.add(name="y")), INVALID, "invalid_parameter"),
    ("not finite", changed(lambda one: one.raw_input_contents.__setitem__(0, b"\xff" * 16)), INVALID, "not_finite"),
]  # fmt: skip


async def test_refusals_have_a_status_and_a_code(connected: Connected) -> None:
    """What cannot be read or has no answer has a status, the problem's code and words, and nothing else is lost."""
    found = [(name, *await connected.refused(one)) for name, one, _, _ in REFUSED]

    assert found == [(name, status, code) for name, _, status, code in REFUSED]
    assert (await connected.infer(request())).model_name == "root"
    assert connected.service.ledger.total == 0


async def test_typed_contents_of_another_type(connected: Connected) -> None:
    """FP32 belongs in fp32_contents; FP16 has no field of its own."""
    wrong = request_of(Example("root", "float64", {"a": A.double()}, {"r": 2}), is_raw=False)
    wrong.inputs[0].datatype = "FP32"
    half = request_of(Example("root", "float64", {"a": A.double()}, {"r": 2}), is_raw=False)
    half.inputs[0].datatype = "FP16"

    assert [await connected.refused(one) for one in (wrong, half)] == [(INVALID, "malformed")] * 2


async def test_methods_that_are_not_there(connected: Connected) -> None:
    """Triton's other methods are refused in words."""
    assert await connected.refused(None, "ModelStatistics", reply="HealthCheckResponse") == (
        "UNIMPLEMENTED",
        "method_not_allowed",
    )


async def test_compressed_messages_are_refused(connected: Connected) -> None:
    """As over HTTP, what is sent is sent as it is."""
    assert (await connected.refused(request(), compression=grpc.Compression.Gzip))[0] == "UNIMPLEMENTED"


async def test_failed_matrix_is_named(connected: Connected) -> None:
    """The trailing metadata tell which matrix a refusal is about, and the request's id."""
    asked = request_of(Example("root", "float32", {"a": torch.stack([A, -A])}, {"r": 2}))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await connected.infer(asked, metadata=(("x-request-id", "mine"),))
    trailers = dict(caught.value.trailing_metadata())

    assert (trailers["matfn-code"], trailers["matfn-index"], trailers["x-request-id"]) == ("not_positive", "1", "mine")


async def test_keys(connect: Connect) -> None:
    """A call needs a key in its metadata; health does not."""
    async with connect(api_keys="secret name=mine") as found:
        good, bad = (("authorization", "Bearer secret"),), (("authorization", "Bearer wrong"),)
        refused = [await found.refused(request(), metadata=metadata) for metadata in ((), bad)]
        twice = await found.refused(request(), metadata=good + bad)
        told = await found.refused(None, "ServerMetadata")
        answer = await found.infer(request(), metadata=good)
        live = (await found.ask("ServerLive")).live

    assert refused == [("UNAUTHENTICATED", "unauthorized")] * 2
    assert twice == (INVALID, "malformed")
    assert told == ("UNAUTHENTICATED", "unauthorized")
    assert (answer.model_name, live) == ("root", True)


async def test_requests_of_a_key_are_limited(connect: Connect, executor: ScriptedExecutor) -> None:
    """A key with as many requests as it may have is told to come again, over either protocol together."""
    headers = {"authorization": "Bearer one"}
    async with connect(api_keys="one requests=1") as found, client_of(found) as client:
        executor.gate.clear()
        held = asyncio.create_task(client.post("/v1/msign", content=call_body(), headers=MSGPACK | headers))
        await executor.busy.acquire()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await found.infer(request(), metadata=tuple(headers.items()))
        executor.gate.set()
        answered = (await held).status_code

    trailers = dict(caught.value.trailing_metadata())
    assert (caught.value.code().name, trailers["matfn-code"], answered) == ("UNAVAILABLE", "busy", 200)
    assert int(trailers["grpc-retry-pushback-ms"]) > 0


async def test_large_messages_are_refused(connect: Connect) -> None:
    """A message over the limit of bodies is RESOURCE_EXHAUSTED; one below it is answered."""
    big = Example("msign", "float64", {"m": torch.eye(16).double()}, {})
    async with connect(max_request_bytes=2048) as found:
        refused = await found.refused(request_of(big))
        answered = (await found.infer(request())).model_name
        total, calls = found.service.ledger.total, dict(found.service.statistics.calls)

    assert (refused[0], answered, total) == ("RESOURCE_EXHAUSTED", "root", 0)
    assert calls == {("root", "ok"): 1}


async def test_several_slow_messages_fit(connect: Connect) -> None:
    """Even on a small machine slow messages arrive together, each charged as the largest by default."""
    async with connect(memory=2 * 10**9, workers=1) as found:
        ledger, size = found.service.ledger, found.service.settings.grpc_message_bytes
        calls = [found.channel.stream_stream(f"{ROOT}ModelInfer")() for _ in range(8)]
        await until(lambda: ledger.held(Kind.ARRIVING) == 8 * size)
        for call in calls:
            await call.write(request().SerializeToString())
            await call.done_writing()
        answers = [MESSAGES["ModelInferResponse"].FromString(await call.read()).model_name for call in calls]
        statuses = {(await call.code()).name for call in calls}

    assert size >= 4 * 2**20
    assert (answers, statuses) == (["root"] * 8, {"OK"})


async def test_slow_reports_are_charged_as_much(connect: Connect) -> None:
    """A slow message about a model is charged what grpc takes, though it is refused beyond 4 KiB."""
    async with connect(max_request_bytes=2**21, grpc_message_bytes=2**20) as found:
        call = found.channel.stream_stream(f"{ROOT}ModelMetadata")()
        await call.wait_for_connection()
        await until(lambda: found.service.ledger.total == 2**20)
        call.cancel()
        await until(lambda: found.service.ledger.total == 0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await found.ask("ModelMetadata", MESSAGES["ModelRequest"](name="a" * 10**4))

    assert caught.value.code().name == "RESOURCE_EXHAUSTED"
    assert "has 4096 at most" in caught.value.details()
    assert "MATFN" not in caught.value.details()


async def test_details_have_the_hint(connected: Connected) -> None:
    """Clients show the details alone; they say what to try as well."""
    nope = request(model_name="inv_rot")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await connected.infer(nope)
    long = request(id="i" * 10**5)
    with pytest.raises(grpc.aio.AioRpcError) as named:
        await connected.infer(long)

    assert "inv_root" in caught.value.details().partition(": ")[2]
    assert named.value.details().startswith("id is a text of 100000 bytes: ")


@pytest.mark.parametrize(
    "deadline",
    [math.nan, math.inf, -3.0, "abc", "[1, 2]", True],
    ids=["nan", "inf", "negative", "text", "list", "bool"],
)
@pytest.mark.parametrize("seconds", [None, 20.0])
async def test_deadline_is_checked_with_any_timeout(
    connected: Connected, deadline: object, seconds: float | None
) -> None:
    """A deadline that is no time is refused, whether the caller has one of its own or not."""
    asked = changed(lambda one: set_parameter(one, "deadline", deadline))

    assert await connected.refused(asked, timeout=seconds) == (INVALID, "invalid_parameter")


async def test_unknown_models_are_not_ready(connected: Connected) -> None:
    """A model that does not exist is not ready, as clients over HTTP are told as well."""
    names = [("root", ""), ("root", "1"), ("root", "2"), ("nothing", "")]
    asked = [MESSAGES["ModelRequest"](name=name, version=version) for name, version in names]

    assert [(await connected.ask("ModelReady", one)).ready for one in asked] == [True, True, False, False]


async def test_certificates_may_be_left_out(connected: Connected) -> None:
    """The parameter of the same name leaves them out of the answer's parameters."""
    answer = await connected.infer(changed(lambda one: set_parameter(one, "certificates", value=False)))
    wrong = changed(lambda one: set_parameter(one, "certificates", "no"))

    assert "certificates" not in {one.key for one in answer.parameters}
    assert [one.name for one in answer.outputs] == ["x"]
    assert await connected.refused(wrong) == (INVALID, "malformed")


async def test_request_without_a_message(connected: Connected) -> None:
    """A caller that ends its request before a message is told so."""
    call = connected.channel.stream_stream(f"{ROOT}ModelInfer")()
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()

    assert caught.value.details() == f"the request has no message: {GRPC_HINT}"


async def test_connections_are_limited(connect: Connect) -> None:
    """Beyond the limit a connection is closed; those that are open go on."""
    async with connect(max_connections=2) as found:
        await found.ask("ServerLive")
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with (
            grpc.aio.insecure_channel(found.address, options=options) as second,
            grpc.aio.insecure_channel(found.address, options=options) as third,
        ):
            live = await second.unary_unary(f"{ROOT}ServerLive")(b"")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await third.unary_unary(f"{ROOT}ServerLive")(b"", timeout=5)
        again = (await found.ask("ServerLive")).live

    assert (live, caught.value.code().name, again) == (b"\x08\x01", "UNAVAILABLE", True)


@pytest.mark.parametrize("how", ["timeout", "deadline"])
async def test_late_answers(connected: Connected, executor: ScriptedExecutor, how: str) -> None:
    """A call that is not answered in time is DEADLINE_EXCEEDED, by its parameter or by gRPC's own deadline."""
    executor.gate.clear()
    first = asyncio.create_task(connected.infer(request()))
    await executor.busy.acquire()
    late = request()
    if how == "timeout":
        set_parameter(late, "timeout", 20_000)
    status, _ = await connected.refused(late, timeout=0.1 if how == "deadline" else None)
    executor.gate.set()

    assert status == "DEADLINE_EXCEEDED"
    assert (await first).model_name == "root"
    await until(lambda: connected.service.ledger.total == 0)


async def test_caller_that_leaves_is_dropped(connected: Connected, executor: ScriptedExecutor) -> None:
    """A call whose caller cancels it leaves the queue."""
    executor.gate.clear()
    first = asyncio.create_task(connected.infer(request()))
    await executor.busy.acquire()
    second = asyncio.create_task(connected.infer(request()))
    await until(lambda: len(connected.service.queue) == 1)
    second.cancel()
    await until(lambda: len(connected.service.queue) == 0)
    executor.gate.set()

    assert (await first).model_name == "root"
    assert connected.service.statistics.dropped_disconnected == 1
    await until(lambda: connected.service.ledger.total == 0)


@pytest.mark.parametrize("how", [{"write_rate": 10**9}, {"write_rate": 0, "body_seconds": 0.2}])
async def test_answers_that_are_not_read_are_dropped(connect: Connect, how: dict[str, float]) -> None:
    """An answer beyond the window of its stream is charged until it is read, and its connection cut after a while."""
    async with connect(write_idle_seconds=0.2, **how) as found:
        options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(found.address, options=options) as channel:
            call = channel.stream_stream(f"{ROOT}ModelInfer")()
            await call.write(request_of(BIG).SerializeToString())
            await call.done_writing()
            await until(lambda: found.service.statistics.dropped_unread == 1)
            await until(lambda: found.service.ledger.total == 0)
            status = await call.code()
        live = (await found.ask("ServerLive")).live

    assert (status.name, live) == ("UNAVAILABLE", True)


async def test_answers_stay_charged_while_they_hold_memory(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no connection could be cut, an answer that is not read is charged until its caller leaves."""
    monkeypatch.setattr("matfn_service.grpc_caller.cut", lambda *_: False)
    async with connect(write_idle_seconds=0.2, write_rate=10**9) as found:
        channel = grpc.aio.insecure_channel(found.address, options=[("grpc.http2.bdp_probe", 0)])
        call = channel.stream_stream(f"{ROOT}ModelInfer")()
        await call.write(request_of(BIG).SerializeToString())
        await call.done_writing()
        await until(lambda: found.service.statistics.dropped_unread == 1)
        held = found.service.ledger.held(Kind.ANSWERS)
        call.cancel()
        await until(lambda: found.service.ledger.total == 0)
        await channel.close()

    assert held >= 200 * 200 * 8


async def test_mute_callers_are_dropped(connect: Connect) -> None:
    """A caller that answers no ping of HTTP/2, as one that is stopped or gone, loses its connection."""
    async with connect(write_idle_seconds=0.2, write_rate=0) as found:
        reader, writer = await asyncio.open_connection(*found.address.rsplit(":", 1))
        two = Example("sqrt_pair", "float64", {"a": torch.eye(88).double()}, {})  # whose outputs exceed the window
        writer.write(begun(f"{ROOT}ModelInfer", request_of(two).SerializeToString()))
        while await reader.read(1 << 16):
            pass
        writer.close()
        await until(lambda: found.service.ledger.total == 0)

    assert found.service.statistics.dropped_unread == 0


def begun(path: str, message: bytes) -> bytes:
    """What opens a connection of HTTP/2 and sends one message, in frames within the first window."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a", "te": "trailers"}
    fields["content-type"] = "application/grpc"
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    data = b"\x00" + len(message).to_bytes(4) + message
    pieces = [data[start : start + 2**14] for start in range(0, len(data), 2**14)]
    ends = [0] * (len(pieces) - 1) + [1]
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(
        len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content
        for kind, flags, stream, content in [
            (4, 0, 0, b""),
            (1, 4, 1, block),
            *((0, flags, 1, piece) for flags, piece in zip(ends, pieces, strict=True)),
        ]
    )


@pytest.mark.parametrize(
    ("how", "size", "seconds"),
    [
        ({}, 0, 30.0),
        ({}, 10 * 2**20, 40.0),
        ({}, 500 * 2**20, 300.0),
        ({"write_rate": 2**24}, 160 * 2**20, 40.0),
        ({"write_rate": 0}, 1, 300.0),
        ({"write_rate": 0, "body_seconds": 7.0}, 2**30, 30.0),
    ],
)
def test_time_to_read_an_answer_is_bounded(how: dict[str, float], size: int, seconds: float) -> None:
    """It grows with the size, by 1 s a MiB at most, up to the time that a body may take, whatever the rate."""
    assert longest_write(Settings.model_validate(how), size) == seconds


async def test_messages_that_take_long_are_charged_ahead(connect: Connect) -> None:
    """A message that does not come is charged as the largest; while others like it take all room, it is refused."""
    async with connect(max_request_bytes=2**21, grpc_message_bytes=2**20) as found:
        ledger = found.service.ledger
        call = found.channel.stream_stream(f"{ROOT}ModelInfer")()
        await call.wait_for_connection()
        await until(lambda: ledger.total == 2**20)
        call.cancel()
        await until(lambda: ledger.total == 0)


async def test_one_batch_has_callers_of_all_three_protocols(connected: Connected, executor: ScriptedExecutor) -> None:
    """Calls of /v1, /v2 and gRPC share a batch, and all have the bits of a call alone."""
    x = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    example = Example("msign", "float32", {"m": x}, {})
    own = b"".join(wire.encode_call(example.call, wire.Media.MSGPACK))
    binary = body_of({"inputs": [written("m", x)], "parameters": {"binary_data_output": True}}, [octets(x)])
    async with client_of(connected) as client:
        alone = (await connected.infer(request_of(example))).raw_output_contents[0]
        executor.forget()
        executor.gate.clear()
        held = asyncio.create_task(connected.infer(request()))
        await executor.busy.acquire()
        by_v1 = asyncio.create_task(client.post("/v1/msign", content=own, headers=MSGPACK))
        path = "/v2/models/msign/infer"
        by_v2 = asyncio.create_task(client.post(path, content=binary.content, headers=dict(binary.headers)))
        by_grpc = asyncio.create_task(connected.infer(request_of(example)))
        await until(lambda: len(connected.service.queue) == 3)
        executor.gate.set()
        await held
        answers = [
            bytes(wire.decode_answer((await by_v1).content, wire.Media.MSGPACK).outputs["x"].data),
            answer_in(await by_v2).binary["x"],
            (await by_grpc).raw_output_contents[0],
        ]

    assert executor.sizes == [[1], [1, 1, 1]]
    assert answers == [alone] * 3


async def test_calls_are_counted_and_logged(connected: Connected) -> None:
    """Calls over gRPC are counted by function and code."""
    await connected.infer(request())
    await connected.refused(changed(lambda one: set_parameter(one, "surprise", 1)))
    calls = connected.service.statistics.calls

    assert (calls["root", "ok"], calls["root", "invalid_parameter"]) == (1, 1)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(content: bytes) -> None:
    """Whatever comes is a request or a typed refusal."""
    readable(content)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 200), octet=st.integers(0, 255), cut=st.integers(0, 60))
def test_damaged_messages_are_read_or_refused(position: int, octet: int, cut: int) -> None:
    """Whatever is damaged in a message, it is a request or a typed refusal."""
    content = bytearray(request().SerializeToString())
    content[position % len(content)] = octet
    readable(bytes(content[: len(content) - cut]))


def readable(content: bytes) -> bool:
    """Whether a message can be read; any other error than a refusal is a failure."""
    try:
        read_request(memoryview(content))
    except (wire.DecodeError, Refusal):
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(
    name=st.text(max_size=20),
    values=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name not in {"timeout", "priority"}),
        st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)),
        max_size=5,
    ),
)
def test_messages_are_read_as_google_writes_them(name: str, values: dict[str, Any]) -> None:
    """Ids and parameters of any value are what they were."""
    written_ = request(id=name)
    for key, value in values.items():
        set_parameter(written_, key, value)
    found = read_request(memoryview(written_.SerializeToString()))

    assert found.id == name
    assert {**found.call.params, **found.call.options} == {"r": 2, **values}
    assert bytes(found.call.inputs["a"].data) == octets(A)
