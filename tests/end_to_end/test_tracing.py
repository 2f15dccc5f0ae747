"""A mixed load of traced callers on a real server, as a receiver of OTLP has written it to files."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import grpc
import numpy as np
import pytest
import torch
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

import matfn
from inference_calls import Example
from inference_proto import ROOT, request_of
from otlp_receiver import exported, plain, receiver
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)

CALLERS, CALLS = 6, 4
A = np.diag([1.0, 2.0, 3.0])
INFER = f"{ROOT}ModelInfer".removeprefix("/")
GRPC_TRACES = range(1, CALLERS + 1)


@dataclass(frozen=True)
class Exported:
    """What a server has exported and logged, and how it ended."""

    spans: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    code: int

    def named(self, pattern: str) -> list[dict[str, Any]]:
        """The spans whose names match."""
        return [span for span in self.spans if re.fullmatch(pattern, span["name"])]


def trace_id(caller: int) -> int:
    """The trace of each caller."""
    return (caller + 1) << 64


def call_grpc(channel: grpc.Channel, trace: int) -> None:
    """A call over gRPC in a trace."""
    message = request_of(Example("root", "float64", {"a": torch.eye(3, dtype=torch.float64)}, {"r": 2}))
    metadata = [("traceparent", f"00-{trace:032x}-{7:016x}-01")]
    channel.unary_unary(f"/{INFER}")(message.SerializeToString(), metadata=metadata)


def call(url: str, caller: int) -> None:
    """Some calls of a traced caller: alone, together, and one that is refused."""
    span = SpanContext(trace_id(caller), 7, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with use_span(NonRecordingSpan(span)), matfn.Client(url) as client:
        for _ in range(CALLS):
            client.inv_root(A, r=4)
            client.map([matfn.call.msign(A), matfn.call.eig_clip(A, lo=0.0)])
        with pytest.raises(matfn.NotPositive):
            client.inv_root(-A, r=4)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """What a server exported under a mixed load."""
    folder = tmp_path_factory.mktemp("otlp")
    with receiver(folder) as url:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
        with patch.dict(os.environ, variables), running_server(access_log="json", grpc_port="0") as server:
            address = str(server.wait_for("listening for gRPC")["address"])
            with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(2 * CALLERS) as threads:
                asked = [threads.submit(call_grpc, channel, trace) for trace in GRPC_TRACES]
                list(threads.map(lambda caller: call(server.url, caller), range(CALLERS)))
                for one in asked:
                    one.result()
            server.terminate()
            code = server.exit_code()
        yield Exported(exported(folder, "traces"), exported(folder, "metrics"), server.lines, code)


def test_every_request_is_in_its_callers_trace(found: Exported) -> None:
    """Each caller's trace has its requests, children of its own span, with what they were and got."""
    requests = found.named(r"(GET|POST) .*")
    by_trace = Counter(int(span["traceId"], 16) for span in requests)

    assert found.code == 0
    assert by_trace == dict.fromkeys(map(trace_id, range(CALLERS)), 2 * CALLS + 2)  # and the question for the limits
    assert {span["parentSpanId"] for span in requests} == {f"{7:016x}"}
    assert {span["kind"] for span in requests} == {"SPAN_KIND_SERVER"}
    routes = Counter(plain(span["attributes"])["http.route"] for span in requests)
    assert routes == {
        "/v1/functions": CALLERS,
        "/v1/{function}": CALLERS * (CALLS + 1),
        "/v1/calls": CALLERS * CALLS,
    }
    refused = [plain(span["attributes"]) for span in requests]
    assert sum(one["http.response.status_code"] == 422 for one in refused) == CALLERS
    assert all(one["user_agent.original"].startswith("matfn/") for one in refused)


def test_every_answer_has_its_stages(found: Exported) -> None:
    """Decoding, queue, device and encoding lie in each answered call, in order."""
    answered = [
        span for span in found.named("POST .*") if plain(span["attributes"])["http.response.status_code"] == 200
    ]
    assert len(answered) == 2 * CALLERS * CALLS
    for request in answered:
        stages = sorted(
            (span for span in found.spans if span.get("parentSpanId") == request["spanId"]),
            key=lambda span: (int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])),
        )
        assert [span["name"] for span in stages] == ["decode", "queue", "device", "encode"]
        moments = [int(span[name]) for span in stages for name in ("startTimeUnixNano", "endTimeUnixNano")]
        assert int(request["startTimeUnixNano"]) <= min(moments)
        assert max(moments) <= int(request["endTimeUnixNano"])


def test_batches_and_requests_are_linked(found: Exported) -> None:
    """Each batch is linked to the requests in it, and the device stage of each of these to the batch."""
    requests = {span["spanId"]: span for span in found.named(rf"POST .*|{re.escape(INFER)}")}
    batches = found.named("batch")
    devices = {span["parentSpanId"]: span for span in found.named("device")}

    assert batches
    linked = 0
    for batch in batches:
        facts = plain(batch["attributes"])
        assert "parentSpanId" not in batch
        assert facts["matfn.batch.size"] >= len(batch["links"]) >= 1
        for link in batch["links"]:
            assert requests[link["spanId"]]["traceId"] == link["traceId"]
            if link["spanId"] in devices:  # a request that was refused for its answer has been computed as well
                linked += batch["spanId"] in {back["spanId"] for back in devices[link["spanId"]]["links"]}
    assert linked >= 2 * CALLERS * CALLS


def test_calls_over_grpc_are_in_their_callers_trace(found: Exported) -> None:
    """A call over gRPC has its caller's trace, its stages and links to batches and back, as one over HTTP."""
    calls = {span["spanId"]: span for span in found.named(re.escape(INFER))}
    devices = {span["parentSpanId"]: span for span in found.named("device") if span["parentSpanId"] in calls}
    batches = {span["spanId"]: span for span in found.named("batch")}

    assert Counter(int(span["traceId"], 16) for span in calls.values()) == dict.fromkeys(GRPC_TRACES, 1)
    assert {span["parentSpanId"] for span in calls.values()} == {f"{7:016x}"}
    for name, call_ in calls.items():
        facts = plain(call_["attributes"])
        assert (facts["rpc.system.name"], facts["rpc.method"], facts["rpc.status_code"]) == ("grpc", INFER, "OK")
        own = {span["name"] for span in found.spans if span.get("parentSpanId") == name}
        assert own == {"decode", "queue", "device", "encode"}
        for link in devices[name]["links"]:
            assert name in {back["spanId"] for back in batches[link["spanId"]]["links"]}


def test_metrics_count_every_request(found: Exported) -> None:
    """The metrics that are exported at the end count every request by route and status, under the service's name."""
    metrics = {metric["name"]: metric for metric in found.metrics}
    points = metrics["http.server.request.duration"]["histogram"]["dataPoints"]
    counts = {
        (facts["http.route"], facts["http.response.status_code"]): int(point["count"])
        for point in points
        for facts in (plain(point["attributes"]),)
    }

    assert metrics["http.server.request.duration"]["unit"] == "s"
    assert counts == {
        ("/v1/functions", 200): CALLERS,
        ("/v1/{function}", 200): CALLERS * CALLS,
        ("/v1/{function}", 422): CALLERS,
        ("/v1/calls", 200): CALLERS * CALLS,
    }
    assert {"matfn.queue.duration", "matfn.device.duration", "matfn.batch.size", "matfn.calls"} <= set(metrics)
    resource = metrics["matfn.calls"]["resource"]
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("matfn", "test")


def test_log_lines_name_their_spans(found: Exported) -> None:
    """Every line of a request in the log has the trace of its caller and a span that was exported."""
    spans = {(span["traceId"], span["spanId"]) for span in found.spans}
    lines = [line for line in found.lines if line["event"] in {"request", "request failed"}]

    assert len(lines) == CALLERS * (2 * CALLS + 3) + len(GRPC_TRACES)
    assert all((line["trace_id"], line["span_id"]) in spans for line in lines)


def test_collector_that_is_gone_costs_nothing() -> None:
    """A server whose collector does not answer computes, and ends in time with exit code 0."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with patch.dict(os.environ, variables), running_server() as server:
            with matfn.Client(server.url) as client:
                np.testing.assert_allclose(client.inv_root(A, r=1), np.linalg.inv(A), rtol=1e-9)
            server.terminate()
            code = server.exit_code(20.0)

    assert code == 0
    assert [line for line in server.lines if line["event"] == "traces and metrics are lost"]
