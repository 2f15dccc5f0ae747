"""Traces, metrics and log lines of the service, as a queue of spans and an exporter of metrics see them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from kept_metrics import KeptMetrics
from kept_spans import KeptSpans
from matfn import wire
from matfn_service.app import create_app
from matfn_service.settings import Settings
from matfn_service.telemetry import OpenTelemetry
from matfn_service.telemetry_metrics import ServiceMetrics
from matfn_service.tracing import add_trace, telemetry_of
from scripted import MSGPACK, ScriptedExecutor, call_body, matrices, post, service_behind, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

pytestmark = pytest.mark.anyio

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = {"decode", "queue", "device", "encode"}


@pytest.fixture
def spans() -> KeptSpans:
    """All spans."""
    return KeptSpans()


@pytest.fixture
async def client(spans: KeptSpans, executor: ScriptedExecutor) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a traced service."""
    async with opened(spans.telemetry, executor) as client:
        yield client


def opened(telemetry: OpenTelemetry, executor: ScriptedExecutor, **settings: object) -> Any:
    """A client of a service with this telemetry."""

    @asynccontextmanager
    async def open_app() -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(Settings.model_validate(settings), executor=executor, telemetry=telemetry)
        async with app.router.lifespan_context(app):
            await app.state.service.admission()
            executor.forget()
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://matfn") as client:
                yield client

    return open_app()


def parent(sampled: str = "01") -> dict[str, str]:
    """The headers of a caller with a span of its own."""
    return {"traceparent": f"00-{TRACE}-{SPAN}-{sampled}", "tracestate": "vendor=1", **MSGPACK}


async def test_call_is_a_span_with_its_stages(client: httpx.AsyncClient, spans: KeptSpans) -> None:
    """A call's span says what the conventions ask for; its stages lie in it, one after the other."""
    answer = await post(client, "msign", 3, 4, 4)
    (call,) = spans("POST /v1/{function}")
    stages = [span for name in ("decode", "queue", "device", "encode") for span in spans(name)]

    assert answer.status_code == 200
    assert call.is_of_server
    assert not call.is_error
    assert call.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/{function}",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "server.address": "matfn",
        "url.path": "/v1/msign",
        "url.scheme": "http",
        "user_agent.original": client.headers["user-agent"],
        "matfn.calls": 1,
        "matfn.function": "msign",
        "matfn.matrices": 3,
    }
    assert [stage.name for stage in stages] == ["decode", "queue", "device", "encode"]
    assert all((stage.ids[0], stage.parent) == call.ids for stage in stages)
    moments = [moment for stage in stages for moment in (stage.start, stage.end)]
    assert all(call.start <= moment <= call.end for moment in moments)
    assert moments[0] == call.start


async def test_batch_and_requests_are_linked(
    client: httpx.AsyncClient, spans: KeptSpans, executor: ScriptedExecutor
) -> None:
    """A batch is a trace of its own, linked to the requests in it, and the stage of each that it computed to it."""
    await executor.hold()
    first = asyncio.create_task(post(client))
    await executor.busy.acquire()
    others = [asyncio.create_task(post(client)) for _ in range(3)]
    await until(lambda: len(service_behind(client).queue) == 3)
    executor.gate.set()
    await asyncio.gather(first, *others)

    calls = {span.ids for span in spans("POST /v1/{function}")}
    small, large = sorted(spans("batch"), key=lambda span: len(span.links))
    assert (len(small.links), len(large.links)) == (1, 3)
    assert {link for span in (small, large) for link in span.links} == calls
    assert (large.attributes["matfn.batch.size"], large.attributes["matfn.function"]) == (3, "msign")
    assert not large.parent
    computed = [link for span in spans("device") for link in span.links]
    assert [computed.count(span.ids) for span in (small, large)] == [1, 3]


async def test_many_calls_are_one_span(client: httpx.AsyncClient, spans: KeptSpans) -> None:
    """A request of many calls has each stage once, however many batches it takes part in."""
    calls = [wire.Call("msign", {"m": matrices(n, n)}, {}, {}) for n in (2, 3, 4)]
    body = b"".join(wire.encode_calls(calls, wire.Media.MSGPACK))
    await client.post("/v1/calls", content=body, headers=MSGPACK)

    (call,) = spans("POST /v1/calls")
    assert call.attributes["matfn.calls"] == 3
    assert all(len(spans(name)) == 1 for name in STAGES)
    assert len(spans("device")[0].links) == len(spans("batch"))


async def test_callers_trace_is_continued(client: httpx.AsyncClient, spans: KeptSpans) -> None:
    """The span is a child of the caller's, whose state goes along; the answer names the span."""
    answer = await client.post("/v1/msign", content=call_body(), headers=parent())
    (call,) = spans("POST /v1/{function}")

    assert (call.ids[0], call.parent) == (TRACE, SPAN)
    assert answer.headers["traceparent"] == f"00-{TRACE}-{call.ids[1]}-01"
    assert answer.headers["tracestate"] == "vendor=1"


@pytest.mark.parametrize("named", ["", "00-0-0-01", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "\xe9"])
async def test_odd_traceparent_is_as_none(client: httpx.AsyncClient, spans: KeptSpans, named: str) -> None:
    """What is no traceparent begins a trace, and fails nothing."""
    headers = {b"content-type": b"application/msgpack", b"traceparent": named.encode("latin-1")}
    answer = await client.post("/v1/msign", content=call_body(), headers=headers)
    (call,) = spans("POST /v1/{function}")

    assert (answer.status_code, call.parent) == (200, "")


@pytest.mark.parametrize(
    ("sampler", "sampled", "recorded"),
    [
        (DEFAULT_ON, "01", True),
        (DEFAULT_ON, "00", False),
        (ParentBased(ALWAYS_OFF), "01", True),
        (ALWAYS_OFF, "01", False),
    ],
)
async def test_sampler_chooses(executor: ScriptedExecutor, sampler: Sampler, sampled: str, recorded: bool) -> None:
    """The sampler that OTEL_TRACES_SAMPLER names decides what is recorded; the answer names its span all the same."""
    spans = KeptSpans(sampler)
    async with opened(spans.telemetry, executor) as client:
        answer = await client.post("/v1/msign", content=call_body(), headers=parent(sampled))

    assert spans.names == (sorted([*STAGES, "batch", "POST /v1/{function}"]) if recorded else [])
    assert answer.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert answer.headers["traceparent"].endswith("-01" if recorded else "-00")


@pytest.mark.parametrize(
    ("request_line", "content", "name", "facts"),
    [
        ("GET /healthz", b"", "GET /healthz", {"http.response.status_code": 200, "http.route": "/healthz"}),
        ("GET /nowhere", b"", "GET", {"http.response.status_code": 404, "matfn.codes": ["not_found"]}),
        ("BREW /nowhere", b"", "HTTP", {"http.request.method": "_OTHER"}),
        ("POST /v1/msign", b"\xc1", "POST /v1/{function}", {"matfn.codes": ["malformed"]}),
        ("GET /v2/health/live", b"", "GET /v2/health/live", {"http.response.status_code": 200}),
        ("GET /v2/models/msign", b"", "GET /v2/models/{function}", {"matfn.function": "msign"}),
        (
            "POST /v2/models/msign/versions/1/infer",
            b"[",
            "POST /v2/models/{function}/infer",
            {"http.route": "/v2/models/{function}/infer", "matfn.codes": ["malformed"]},
        ),
        (
            "POST /v1/verify/msign",
            b"\xc1",
            "POST /v1/verify/{function}",
            {"http.route": "/v1/verify/{function}", "matfn.function": "verify/msign"},
        ),
    ],
)
async def test_every_request_is_a_span(
    client: httpx.AsyncClient, spans: KeptSpans, request_line: str, content: bytes, name: str, facts: Mapping[str, Any]
) -> None:
    """Reports, probes and refusals have a span too, and a caller's mistake is no error of the server's."""
    method, path = request_line.split()
    await client.request(method, path, content=content, headers=MSGPACK)
    (span,) = spans(name)

    assert facts.items() <= span.attributes.items()
    assert "error.type" not in span.attributes
    assert not span.is_error


async def test_failure_is_an_error(client: httpx.AsyncClient, spans: KeptSpans, executor: ScriptedExecutor) -> None:
    """A request that failed on the server's side has an error with the problem's code, and the stages it came to."""
    executor.fault = lambda _: RuntimeError("broken")
    await post(client)
    (span,) = spans("POST /v1/{function}")

    assert span.is_error
    assert span.attributes["error.type"] == "internal"
    assert spans.names == ["POST /v1/{function}", "batch", "decode"]


async def test_log_lines_name_the_trace(client: httpx.AsyncClient, spans: KeptSpans) -> None:
    """The line of a failed request has the names of its trace and span."""
    with structlog.testing.capture_logs(processors=[add_trace]) as lines:
        await client.post("/v1/msign", content=b"\xc1", headers=parent())
    (span,) = spans("POST /v1/{function}")
    (line,) = [line for line in lines if line["event"] == "request failed"]

    assert (line["trace_id"], line["span_id"]) == (TRACE, span.ids[1])


async def test_access_log_names_the_trace(
    spans: KeptSpans, executor: ScriptedExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    """So has the line of the access log."""
    async with opened(spans.telemetry, executor, access_log="json") as client:
        await client.post("/v1/msign", content=call_body(), headers=parent())

    assert f'"trace_id": "{TRACE}"' in capsys.readouterr().err


async def test_metrics_are_those_of_the_conventions(executor: ScriptedExecutor) -> None:
    """Requests are counted by method, route and status; queue and batches as for Prometheus."""
    kept = KeptMetrics()
    metrics = ServiceMetrics(Resource({}), InstrumentationScope("test"), kept)
    provider = TracerProvider(shutdown_on_exit=False)
    async with opened(OpenTelemetry(provider, None, metrics), executor) as client:
        answer = await post(client, "msign", 3, 4, 4)
        await client.get("/nowhere")
        metrics.flush()
        active = {
            point.attributes["http.request.method"]: point.value for point in kept.found["http.server.active_requests"]
        }

    by_route = {point.attributes.get("http.route"): point for point in kept.found["http.server.request.duration"]}
    assert dict(by_route["/v1/{function}"].attributes) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/v1/{function}",
        "network.protocol.version": "1.1",
        "url.scheme": "http",
    }
    assert by_route[None].attributes["http.response.status_code"] == 404
    assert by_route["/v1/{function}"].count == sum(by_route["/v1/{function}"].bucket_counts) == 1
    assert kept.found["http.server.response.body.size"][0].sum == len(answer.content)
    assert active == {"GET": 0, "POST": 0}
    (sizes,), (waits,) = kept.found["matfn.batch.size"], kept.found["matfn.queue.duration"]
    assert (sizes.count, sizes.sum, waits.count) == (1, 3, 1)
    calls = {
        (one.attributes["matfn.function"], one.attributes["matfn.code"]): one.value for one in kept.found["matfn.calls"]
    }
    assert calls == {("msign", "ok"): 1, ("none", "not_found"): 1}
    assert "traceparent" not in answer.headers


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_nothing_is_traced_without_an_endpoint(environment: dict[str, str]) -> None:
    """Without an endpoint there is no telemetry."""
    assert telemetry_of(environment) is None


@pytest.mark.timeout(120)  # it imports torch, on a machine that may be busy
def test_nothing_is_imported_without_an_endpoint() -> None:
    """A server that exports nothing does not load the library."""
    program = (
        "import sys, matfn_service.app; from matfn_service.tracing import telemetry_of; telemetry_of({});"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_missing_extra_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without the extra is told, with what installs it; the service works."""
    monkeypatch.delitem(sys.modules, "matfn_service.telemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with structlog.testing.capture_logs() as lines:
        found = telemetry_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})

    assert found is None
    assert "matfn[otel]" in lines[0]["hint"]
