"""A mixed load of traced callers, exported through a real collector of OpenTelemetry: Rotel, a program of its own.

The collector decodes what the server sends, batches it, and sends it on; a receiver behind it writes files.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import grpc
import numpy as np
import pytest
import torch
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

import matfn
from inference_calls import Example, body_of, octets, written
from inference_proto import ROOT, request_of
from otlp_receiver import exported, plain, receiver
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)

CALLERS, ROUNDS = 8, 5
INFER = f"{ROOT[1:]}ModelInfer"
STAGES = ["decode", "queue", "device", "encode"]
A = np.diag([1.0, 2.0, 3.0])
EXAMPLE = Example("root", "float64", {"a": torch.eye(3, dtype=torch.float64)}, {"r": 2})
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Collected:
    """What came out of the collector, and what it and the server have logged."""

    spans: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    log: str
    code: int

    def named(self, pattern: str) -> list[dict[str, Any]]:
        """The spans whose names match."""
        return [span for span in self.spans if re.fullmatch(pattern, span["name"])]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The spans of computing requests, over HTTP and gRPC."""
        return self.named(rf"POST .*|{re.escape(INFER)}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def collector(folder: Path, onward: str) -> Iterator[str]:
    """The URL of a collector that sends on; it writes its log into the folder, and all that it has at its end."""
    ports = free_port(), free_port()
    url, other = (f"127.0.0.1:{port}" for port in ports)
    arguments = {
        "otlp-http-endpoint": url,
        "otlp-grpc-endpoint": other,
        "pid-file": str(folder / "pid"),
        "exporter": "otlp",
        "otlp-exporter-protocol": "http",
        "otlp-exporter-endpoint": onward,
    }
    words = [word for name, value in arguments.items() for word in (f"--{name}", value)]
    with (folder / "collector.log").open("w") as log:
        process = subprocess.Popen([str(files("rotel") / "rotel-agent"), "start", *words], stdout=log, stderr=log)
        try:
            while process.poll() is None and not listens(ports[0]):
                pass
            yield f"http://{url}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def trace_of(caller: int) -> int:
    """The trace of each caller."""
    return (caller + 1) << 64


def call(server: ServerProcess, channel: grpc.Channel, caller: int) -> None:
    """Calls of /v1, /v2 and gRPC in one trace: alone, together, and refused."""
    span = SpanContext(trace_of(caller), 7, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    parent = f"00-{trace_of(caller):032x}-{7:016x}-01"
    body = body_of(
        {"inputs": [written(name, x) for name, x in EXAMPLE.inputs.items()], "parameters": dict(EXAMPLE.keywords)},
        [octets(x) for x in EXAMPLE.inputs.values()],
    )
    infer, message = channel.unary_unary(f"{ROOT}ModelInfer"), request_of(EXAMPLE).SerializeToString()
    with use_span(NonRecordingSpan(span)), matfn.Client(server.url) as client:
        for _ in range(ROUNDS):
            client.inv_root(A, r=4)
            client.map([matfn.call.msign(A), matfn.call.eig_clip(A, lo=0.0), matfn.call.log(A)])
            post(server, "/v2/models/root/infer", body.content, {**body.headers, "traceparent": parent})
            infer(message, metadata=[("traceparent", parent)])
        with pytest.raises(matfn.NotPositive):
            client.inv_root(-A, r=4)


def post(server: ServerProcess, path: str, content: bytes, headers: dict[str, str]) -> None:
    """A request that has an answer."""
    connection = HTTPConnection(*server.address, timeout=30)
    try:
        connection.request("POST", path, content, headers)
        assert connection.getresponse().status == 200
    finally:
        connection.close()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """What a server exported of a mixed load, as it came through the collector."""
    folder = tmp_path_factory.mktemp("collector")
    with receiver(folder) as onward, collector(folder, onward) as url:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
        with patch.dict(os.environ, variables), running_server(grpc_port="0") as server:
            address = str(server.wait_for("listening for gRPC")["address"])
            with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(CALLERS) as threads:
                list(threads.map(lambda caller: call(server, channel, caller), range(CALLERS)))
            server.terminate()
            code = server.exit_code()
    log = ANSI.sub("", (folder / "collector.log").read_text())
    return Collected(exported(folder, "traces"), exported(folder, "metrics"), log, code)


def test_collector_takes_everything(found: Collected) -> None:
    """The collector's log has neither errors nor warnings, and no span comes twice."""
    assert found.code == 0
    assert "Starting Rotel" in found.log
    assert not re.search("ERROR|WARN", found.log), found.log
    assert set(Counter((span["traceId"], span["spanId"]) for span in found.spans).values()) == {1}


def test_every_request_is_in_its_callers_trace(found: Collected) -> None:
    """Each caller's trace has its requests over all protocols, children of its own span."""
    assert Counter(int(span["traceId"], 16) for span in found.requests) == {
        trace_of(caller): 4 * ROUNDS + 1 for caller in range(CALLERS)
    }
    assert {span["parentSpanId"] for span in found.requests} == {f"{7:016x}"}
    assert {span["kind"] for span in found.requests} == {"SPAN_KIND_SERVER"}
    assert Counter(span["name"] for span in found.requests) == {
        "POST /v1/{function}": CALLERS * (ROUNDS + 1),
        "POST /v1/calls": CALLERS * ROUNDS,
        "POST /v2/models/{function}/infer": CALLERS * ROUNDS,
        INFER: CALLERS * ROUNDS,
    }
    statuses = Counter(
        facts.get("http.response.status_code", facts.get("rpc.status_code"))
        for facts in (plain(span["attributes"]) for span in found.requests)
    )
    assert statuses == {200: 3 * CALLERS * ROUNDS, "OK": CALLERS * ROUNDS, 422: CALLERS}


def test_every_answer_has_its_stages(found: Collected) -> None:
    """Decoding, queue, device and encoding lie in each answered call, in order."""
    children: dict[str, list[dict[str, Any]]] = {}
    for span in found.spans:
        children.setdefault(span.get("parentSpanId", ""), []).append(span)
    for request in found.requests:
        own = children.get(request["spanId"], [])
        if plain(request["attributes"]).get("http.response.status_code") == 422:
            continue
        stages = [one for name in STAGES for one in own if one["name"] == name]
        assert [stage["name"] for stage in stages] == STAGES
        moments = [int(span[at]) for span in stages for at in ("startTimeUnixNano", "endTimeUnixNano")]
        assert int(request["startTimeUnixNano"]) <= min(moments)
        assert max(moments) <= int(request["endTimeUnixNano"])


def test_batches_and_requests_are_linked(found: Collected) -> None:
    """Each batch is linked to the requests in it, all of them, and the device stage of each of these to its batches."""
    forth = {(span["spanId"], link["spanId"]) for span in found.named("batch") for link in span["links"]}
    back = {(link["spanId"], span["parentSpanId"]) for span in found.named("device") for link in span["links"]}

    assert forth == back
    assert {request for _, request in forth} == {span["spanId"] for span in found.requests}
    assert {batch for batch, _ in forth} == {span["spanId"] for span in found.named("batch")}
    assert all("parentSpanId" not in span for span in found.named("batch"))


def test_metrics_and_resource_pass(found: Collected) -> None:
    """Counts of requests by protocol, histograms and the process's attributes are what the server has sent."""
    metrics = {metric["name"]: metric for metric in found.metrics}
    http = metrics["http.server.request.duration"]["histogram"]["dataPoints"]
    rpc = metrics["rpc.server.call.duration"]["histogram"]["dataPoints"]
    by_status = Counter[int]()
    for point in http:
        by_status[plain(point["attributes"])["http.response.status_code"]] += int(point["count"])

    assert by_status == {200: 3 * CALLERS * ROUNDS + CALLERS, 422: CALLERS}  # and the question for the limits
    assert [(plain(point["attributes"]), int(point["count"])) for point in rpc] == [
        ({"rpc.system.name": "grpc", "rpc.method": INFER, "rpc.status_code": "OK"}, CALLERS * ROUNDS)
    ]
    assert {"matfn.queue.duration", "matfn.device.duration", "matfn.batch.size", "matfn.calls"} <= set(metrics)
    for entry in (*found.spans, *found.metrics):
        facts = entry["resource"]
        assert (facts["service.name"], facts["deployment.environment.name"]) == ("matfn", "test")
