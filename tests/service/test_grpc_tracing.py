"""Traces of calls over gRPC, by plain calls of a server in the process of the test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
import structlog
import torch
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from inference_calls import Example
from inference_proto import ROOT, request_of
from kept_metrics import KeptMetrics
from kept_spans import KeptSpan, KeptSpans
from matfn_service.app import create_app
from matfn_service.grpc_server import GrpcServer
from matfn_service.settings import Settings
from matfn_service.telemetry import OpenTelemetry
from matfn_service.telemetry_metrics import ServiceMetrics
from matfn_service.tracing import add_trace
from scripted import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scripted import ScriptedExecutor

pytestmark = pytest.mark.anyio

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = (("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "vendor=1"))
INFER = f"{ROOT}ModelInfer".removeprefix("/")
CALL = request_of(
    Example("root", "float32", {"a": torch.tensor([[2.0, 1.0], [1.0, 2.0]])}, {"r": 2})
).SerializeToString()


class Traced:
    """A traced server and a channel to it."""

    def __init__(self, app: Any, channel: grpc.aio.Channel, spans: KeptSpans | None = None) -> None:
        self.app, self.channel, self._spans = app, channel, spans

    @property
    def spans(self) -> KeptSpans:
        """What it has recorded."""
        assert self._spans is not None
        return self._spans

    async def ask(self, content: bytes = CALL, method: str = "ModelInfer") -> Any:
        """The metadata behind the answer to a call with a trace."""
        call = self.channel.unary_unary(f"{ROOT}{method}")(content, metadata=PARENT)
        await call
        return dict(await call.trailing_metadata())

    async def refused(self, content: bytes, method: str = "ModelInfer") -> tuple[str, dict[str, Any]]:
        """Status and metadata of a call that is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(content, method)
        return caught.value.code().name, dict(caught.value.trailing_metadata() or ())

    async def only(self, name: str) -> KeptSpan:
        """The one span of this name, once it is there; an answer may come before it."""
        await until(lambda: bool(self.spans(name)))
        (span,) = self.spans(name)
        return span


@pytest.fixture
async def traced(executor: ScriptedExecutor) -> AsyncIterator[Traced]:
    """A traced server."""
    spans = KeptSpans()
    async with opened(executor, spans.telemetry, spans) as found:
        yield found


@asynccontextmanager
async def opened(
    executor: ScriptedExecutor, telemetry: OpenTelemetry, spans: KeptSpans | None = None
) -> AsyncIterator[Traced]:
    """A server with this telemetry."""
    settings = Settings(grpc_port=0, host="127.0.0.1")
    app = create_app(settings, executor=executor, telemetry=telemetry)
    async with app.router.lifespan_context(app):
        await app.state.service.admission()
        executor.forget()
        server = GrpcServer(app, app.state.service)
        async with grpc.aio.insecure_channel(await server.start(settings)) as channel:
            yield Traced(app, channel, spans)
        await server.stop(0)


async def test_call_is_a_span_with_its_stages(traced: Traced) -> None:
    """A call continues its caller's trace, says what the conventions for RPC ask for, and has the stages of a call."""
    metadata = await traced.ask()
    call = await traced.only(INFER)
    stages = [await traced.only(name) for name in ("decode", "queue", "device", "encode")]

    assert call.is_of_server
    assert not call.is_error
    assert (call.ids[0], call.parent) == (TRACE, SPAN)
    assert call.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": INFER,
        "rpc.status_code": "OK",
        "matfn.calls": 1,
        "matfn.function": "root",
        "matfn.matrices": 1,
    }
    assert all((stage.ids[0], stage.parent) == call.ids for stage in stages)
    moments = [moment for stage in stages for moment in (stage.start, stage.end)]
    assert all(call.start <= moment <= call.end for moment in moments)
    assert metadata["traceparent"] == f"00-{TRACE}-{call.ids[1]}-01"
    assert metadata["tracestate"] == "vendor=1"


async def test_batch_and_calls_are_linked(traced: Traced, executor: ScriptedExecutor) -> None:
    """A batch is linked to the calls in it, and the device's stage of each to the batch."""
    await executor.hold()
    first = asyncio.create_task(traced.ask())
    await executor.busy.acquire()
    others = [asyncio.create_task(traced.ask()) for _ in range(3)]
    await until(lambda: len(traced.app.state.service.queue) == 3)
    executor.gate.set()
    await asyncio.gather(first, *others)
    await until(lambda: len(traced.spans(INFER)) == 4)

    batches = traced.spans("batch")
    assert sorted(len(batch.links) for batch in batches) == [1, 3]
    assert {link for batch in batches for link in batch.links} == {call.ids for call in traced.spans(INFER)}
    computed = [link for span in traced.spans("device") for link in span.links]
    assert all(computed.count(batch.ids) == len(batch.links) for batch in batches)


@pytest.mark.parametrize(
    ("method", "content", "status", "is_error", "facts"),
    [
        ("ModelInfer", b"\xff", "INVALID_ARGUMENT", False, {"matfn.codes": ["malformed"]}),
        (
            "Nonsense",
            b"",
            "UNIMPLEMENTED",
            True,
            {"rpc.method": "_OTHER", "rpc.method_original": f"{ROOT[1:]}Nonsense", "error.type": "UNIMPLEMENTED"},
        ),
    ],
)
async def test_refusal_is_a_span(
    traced: Traced, method: str, content: bytes, status: str, is_error: bool, facts: dict[str, Any]
) -> None:
    """A refusal has the status's name; it is an error if the conventions say so, and unknown methods have one name."""
    code, metadata = await traced.refused(content, method)
    call = await traced.only("grpc" if method == "Nonsense" else INFER)

    assert code == status == call.attributes["rpc.status_code"]
    assert call.is_error is is_error
    assert ("error.type" in call.attributes) is is_error
    assert facts.items() <= call.attributes.items()
    assert metadata["traceparent"] == f"00-{TRACE}-{call.ids[1]}-01"


async def test_failure_is_an_error(traced: Traced, executor: ScriptedExecutor) -> None:
    """A call that failed on the server's side is an error by its status."""
    executor.fault = lambda _: RuntimeError("broken")
    await traced.refused(CALL)
    call = await traced.only(INFER)

    assert call.is_error
    assert call.attributes["error.type"] == call.attributes["rpc.status_code"] == "INTERNAL"


async def test_call_of_a_caller_that_left_is_cancelled(traced: Traced, executor: ScriptedExecutor) -> None:
    """A call that its caller has given up is a span without an error."""
    await executor.hold()
    asked = asyncio.create_task(traced.ask())
    await executor.busy.acquire()
    asked.cancel()
    call = await traced.only(INFER)
    executor.gate.set()

    assert call.attributes["rpc.status_code"] == "CANCELLED"
    assert not call.is_error


async def test_log_lines_name_the_trace(traced: Traced) -> None:
    """The line of a failed call has the names of its trace and span."""
    with structlog.testing.capture_logs(processors=[add_trace]) as lines:
        await traced.refused(b"\xff")
    call = await traced.only(INFER)
    (line,) = [line for line in lines if line["event"] == "request failed"]

    assert (line["trace_id"], line["span_id"]) == call.ids


async def test_calls_are_counted_by_method_and_status(executor: ScriptedExecutor) -> None:
    """Calls over gRPC have a metric of their own, and are no requests over HTTP."""
    kept = KeptMetrics()
    metrics = ServiceMetrics(Resource({}), InstrumentationScope("test"), kept)
    telemetry = OpenTelemetry(TracerProvider(shutdown_on_exit=False), None, metrics)
    async with opened(executor, telemetry) as counted:
        told = await counted.ask()
        await counted.ask()
        await counted.refused(b"\xff")
        metrics.flush()

    points = {point.attributes["rpc.status_code"]: point for point in kept.found["rpc.server.call.duration"]}
    assert "traceparent" not in told
    assert {status: point.count for status, point in points.items()} == {"OK": 2, "INVALID_ARGUMENT": 1}
    assert dict(points["OK"].attributes) == {"rpc.system.name": "grpc", "rpc.method": INFER, "rpc.status_code": "OK"}
    assert not kept.found["http.server.request.duration"]
    assert [point.value for point in kept.found["http.server.active_requests"]] == [0]
