"""Traces of a server with fronts: requests of every process are linked to the batches, which are the server's."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest

from connections import fronts_of, owner_of
from matfn import wire
from otlp_receiver import exported, plain, receiver
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)

PROCESSES, CALLS = 3, 8
MOST_TRIES = 400
NANOSECONDS = 1e9
STAGES = ["decode", "queue", "device", "encode"]
A = np.diag([1.0, 2.0, 3.0])
BODY = b"".join(
    wire.encode_calls(
        [wire.Call("msign", {"m": wire.Tensor("float64", (n, n), np.eye(n).tobytes())}, {}, {}) for n in (3, 3, 5)],
        wire.Media.MSGPACK,
    )
)


@dataclass(frozen=True)
class Exported:
    """What the processes have exported."""

    spans: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    code: int

    def named(self, *names: str) -> list[dict[str, Any]]:
        """The spans of these names."""
        return [span for span in self.spans if span["name"] in names]


@contextmanager
def one_of_each(server: ServerProcess) -> Iterator[list[HTTPConnection]]:
    """A connection to every process of the server."""
    found: dict[int, HTTPConnection] = {}
    with ExitStack() as opened:
        for _ in range(MOST_TRIES):
            connection = opened.enter_context(closing(HTTPConnection(*server.address, timeout=30)))
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            found.setdefault(owner_of(connection, [server.process.pid, *fronts_of(server)]), connection)
            if len(found) == PROCESSES:
                yield [*found.values()]
                return
        raise AssertionError(f"{MOST_TRIES} connections went to {len(found)} of {PROCESSES} processes")


def call(connection: HTTPConnection, caller: int) -> list[str]:
    """The span of each answer of some requests, all of one caller's trace."""
    headers = {"Content-Type": wire.Media.MSGPACK.value, "traceparent": f"00-{caller + 1:032x}-{7:016x}-01"}
    told = []
    for _ in range(CALLS):
        connection.request("POST", "/v1/calls", BODY, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        told.append(str(answer.getheader("traceparent")))
    return told


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """What a server with fronts exported of calls to each of its processes at once."""
    folder = tmp_path_factory.mktemp("otlp")
    with (
        receiver(folder) as url,
        patch.dict(os.environ, {"OTEL_EXPORTER_OTLP_ENDPOINT": url}),
        running_server(fronts=str(PROCESSES)) as server,
    ):
        server.wait_for("front listening", times=PROCESSES - 1)
        with one_of_each(server) as connections, ThreadPoolExecutor(PROCESSES) as threads:
            told = [span for one in threads.map(call, connections, range(PROCESSES)) for span in one]
        server.terminate()
        code = server.exit_code()
    spans = exported(folder, "traces")
    ids = {f"00-{span['traceId']}-{span['spanId']}-01" for span in spans}
    assert set(told) <= ids
    return Exported(spans, exported(folder, "metrics"), code)


def test_every_process_continues_its_callers_trace(found: Exported) -> None:
    """Requests are spans of the process that took them, in the trace of their caller."""
    requests = found.named("POST /v1/calls")

    assert found.code == 0
    assert len({span["resource"]["service.instance.id"] for span in requests}) == PROCESSES
    assert {span["parentSpanId"] for span in requests} == {f"{7:016x}"}
    assert Counter(span["traceId"] for span in requests) == {f"{caller + 1:032x}": CALLS for caller in range(PROCESSES)}


def test_batches_and_requests_of_all_processes_are_linked(found: Exported) -> None:
    """Batches are the server's; each is linked to the requests in it, whose device stage is linked back, once each."""
    batches = {span["spanId"]: span for span in found.named("batch")}
    requests = {span["spanId"]: span for span in found.named("POST /v1/calls")}
    forth = {(one, link["spanId"]) for one, batch in batches.items() for link in batch["links"]}
    back = Counter((link["spanId"], span["parentSpanId"]) for span in found.named("device") for link in span["links"])

    assert len({batch["resource"]["service.instance.id"] for batch in batches.values()}) == 1
    assert set(back) == forth
    assert set(back.values()) == {1}
    assert {request for _, request in forth} == set(requests)
    assert all(
        requests[link["spanId"]]["traceId"] == link["traceId"] for batch in batches.values() for link in batch["links"]
    )


def test_stages_of_a_front_are_when_the_server_computed(found: Exported) -> None:
    """The stages of each request follow each other in it, and its device stage ends with the last of its batches."""
    batches = {span["spanId"]: span for span in found.named("batch")}
    for request in found.named("POST /v1/calls"):
        own = [span for span in found.spans if span.get("parentSpanId") == request["spanId"]]
        stages = [one for name in STAGES for one in own if one["name"] == name]
        assert [stage["name"] for stage in stages] == STAGES
        moments = [int(span[at]) for span in stages for at in ("startTimeUnixNano", "endTimeUnixNano")]
        assert int(request["startTimeUnixNano"]) == moments[0]
        assert moments[1] == moments[2]  # the queue takes what has been decoded
        assert moments[0] <= moments[1] <= moments[3]
        assert moments[4] <= moments[5] <= moments[6] <= moments[7] <= int(request["endTimeUnixNano"])
        ended = max(int(batches[link["spanId"]]["endTimeUnixNano"]) for link in stages[2]["links"])
        assert abs(ended - moments[5]) < NANOSECONDS / 2  # processes look at the time of day at different moments


def test_each_count_is_exported_by_one_process(found: Exported) -> None:
    """Every process counts the requests that it took; calls of all are counted by the server."""
    durations = [metric for metric in found.metrics if metric["name"] == "http.server.request.duration"]
    points = [point for metric in durations for point in metric["histogram"]["dataPoints"]]
    routes: Counter[str] = Counter()
    for point in points:
        routes[plain(point["attributes"]).get("http.route", "")] += int(point["count"])
    calls = [metric for metric in found.metrics if metric["name"] == "matfn.calls"]

    assert routes["/v1/calls"] == PROCESSES * CALLS
    assert len(durations) == PROCESSES
    assert len(calls) == 1
    assert sum(int(point["asInt"]) for point in calls[0]["sum"]["dataPoints"]) == PROCESSES * CALLS * 3
