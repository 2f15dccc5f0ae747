"""What OpenTelemetry costs: the processor time that it takes in servers under load, of all that they and workers take.

Servers that export, and one that does not, are measured in turns in one run, in an order that changes, so that what
else the machine does meets all alike. In those that export every method of ours and of the library's exporters is
timed by its thread's own clock, so that the share does not depend on how busy the machine is. A receiver in this
process takes what they export and throws it away.

    python benchmarks/bench_tracing.py > benchmarks/results/tracing.md
"""

from __future__ import annotations

import mmap
import os
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from bench_metrics import cpu_seconds, requests_of
from load import Load, Request, measure
from matfn import wire
from matfn_service.server import serve
from matfn_service.settings import Settings
from processes import ServerProcess
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS: Final = 2.0
ROUNDS: Final = 5
CALLERS: Final = 16
LEDGER: Final = "MATFN_BENCH_LEDGER"
PLACES, METRICS = 4, 2  # numbers in a ledger, and where those of metrics begin


@dataclass(frozen=True, slots=True)
class Work:
    """What callers send: each a call of its own, of these functions and shapes in turn."""

    name: str
    calls: tuple[tuple[str, tuple[int, ...]], ...]

    def load(self, address: tuple[str, int]) -> Load:
        """The callers."""
        requests = tuple(self._request(seed) for seed in range(CALLERS))
        return Load(address, self._path, requests, CALLERS, SECONDS)

    @property
    def _path(self) -> str:
        """All callers of a load send to one path."""
        return f"/v1/{self.calls[0][0]}" if len(self.calls) == 1 else "/v1/calls"

    def _request(self, seed: int) -> Request:
        call = _call(*self.calls[seed % len(self.calls)], seed)
        alone = len(self.calls) == 1
        body = wire.encode_call(call, wire.Media.MSGPACK) if alone else wire.encode_calls([call], wire.Media.MSGPACK)
        return Request(wire.Media.MSGPACK, b"".join(body))


def _call(function: str, shape: tuple[int, ...], seed: int) -> wire.Call:
    g = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    a = g @ g.swapaxes(-1, -2) / shape[-1] + np.eye(shape[-1], dtype=np.float32)
    name, params = {"inv_root": ("a", {"r": 4}), "msign": ("m", {}), "eig_clip": ("a", {"lo": 0.0})}[function]
    return wire.Call(function, {name: wire.Tensor("float32", shape, a.tobytes())}, dict(params), {})


SMALL: Final = tuple(
    (function, (items, order, order))
    for function in ("inv_root", "msign", "eig_clip")
    for items, order in ((1, 256), (4, 128), (16, 64))
)
WORKS: Final = (
    Work(
        "inv_root 4 x 256, msign 512, eig_clip 16 x 128",
        (
            ("inv_root", (4, 256, 256)),
            ("msign", (512, 512)),
            ("eig_clip", (16, 128, 128)),
        ),
    ),
    Work("inv_root, msign, eig_clip: 256, 4 x 128, 16 x 64", SMALL),
    Work("msign of one matrix of order 4", (("msign", (4, 4)),)),
)


class _Receiver(BaseHTTPRequestHandler):
    """Takes what is exported."""

    protocol_version = "HTTP/1.1"
    taken: Final[list[int]] = []

    def do_POST(self) -> None:
        """Counts the bytes and answers with nothing, which says that all were taken."""
        self.taken.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def receiver() -> Iterator[str]:
    """The URL of a receiver."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def variants(endpoint: str) -> dict[str, dict[str, str]]:
    """Environments by name; the first is the one without export."""
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "10000"}
    ratio = {**on, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
    return {
        "no export": {},
        "metrics alone": {**on, "OTEL_TRACES_EXPORTER": "none"},
        "1 trace in 20": {**ratio, "OTEL_TRACES_SAMPLER_ARG": "0.05"},
        "every trace": on,
    }


def timed(method: Callable[..., Any], ledger: memoryview, place: int = 0) -> Callable[..., Any]:
    """The same method, which adds the processor time of its thread to a place in the ledger, and itself to the next."""

    @wraps(method)
    def timing(*arguments: Any, **named: Any) -> Any:
        started = time.thread_time()
        try:
            return method(*arguments, **named)
        finally:
            ledger[place] += time.thread_time() - started
            ledger[place + 1] += 1

    return timing


def ledger_in(file: BinaryIO) -> memoryview:
    """Numbers that both processes see."""
    return memoryview(mmap.mmap(file.fileno(), 8 * PLACES)).cast("d")


def serve_timed() -> int:
    """The server, with all that exports under the clock."""
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    from matfn_service.telemetry import OpenTelemetry, RequestTrace, SpanExporter

    with Path(os.environ[LEDGER]).open("r+b") as file:
        ledger = ledger_in(file)
    for owner, name in (
        (OpenTelemetry, "begin"),
        (OpenTelemetry, "end"),
        (RequestTrace, "record_batch"),
        (SpanExporter, "export"),
    ):
        setattr(owner, name, timed(getattr(owner, name), ledger))
    PeriodicExportingMetricReader.collect = timed(PeriodicExportingMetricReader.collect, ledger, METRICS)  # type: ignore[method-assign]
    RequestTrace.headers = property(timed(RequestTrace.headers.fget, ledger))  # type: ignore[method-assign]
    return serve(Settings())


@dataclass(frozen=True, slots=True)
class Measured:
    """A server, and its ledger: the seconds that exporting spans has taken in it, and exports of metrics."""

    server: ServerProcess
    ledger: memoryview


@contextmanager
def exporting(environment: dict[str, str]) -> Iterator[Measured]:
    """A server with these variables; one without any does not export."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(8 * PLACES)
        with patch.dict(os.environ, {**environment, LEDGER: file.name} if environment else {}):
            server = ServerProcess(*([Path(__file__)] if environment else [])).started()
        try:
            yield Measured(server, ledger_in(file.file))
        finally:
            server.stop()


@dataclass(frozen=True, slots=True)
class Round:
    """What one server did in one round: requests a second, and CPU microseconds a request, by use."""

    rate: float
    own: float
    all: float
    exporting: float

    @property
    def share(self) -> float:
        """What exporting adds to the rest, in percent."""
        return 100.0 * self.exporting / (self.all - self.exporting)


def measured(one: Measured, work: Work) -> Round:
    """One round of a server."""
    server = one.server
    before, answered, spent = cpu_seconds(server), requests_of(server), one.ledger[0]
    found = measure(work.load(server.address))
    if found.errors:
        raise RuntimeError(f"{found.errors} errors")
    after, number = cpu_seconds(server), max(1, requests_of(server) - answered)
    own, workers = (1e6 * (later - earlier) / number for later, earlier in zip(after, before, strict=True))
    return Round(found.rate, own, own + workers, 1e6 * (one.ledger[0] - spent) / number)


def rounds(servers: dict[str, Measured], work: Work) -> dict[str, list[Round]]:
    """The rounds of each server."""
    found: dict[str, list[Round]] = {name: [] for name in servers}
    for one in servers.values():
        measure(work.load(one.server.address))  # prices settle
    names = list(servers)
    for turn in range(ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(measured(servers[name], work))
    return found


def line(work: Work, name: str, found: list[Round]) -> str:
    """The line of a server; spans go out every five seconds, so that rounds are told together."""
    rate = statistics.median(one.rate for one in found)
    own, both, spent = (fmean(getattr(one, field) for one in found) for field in ("own", "all", "exporting"))
    low, high = min(one.share for one in found), max(one.share for one in found)
    share = f"{100.0 * spent / (both - spent):.2f} ({low:.2f} to {high:.2f})"
    return f"| {work.name} | {name} | {rate:.0f} | {own:.0f} | {both:.0f} | {spent:.1f} | {share} |"


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(
        f"{CALLERS} callers, one worker, {ROUNDS} rounds of {SECONDS:g} s for each server, in turns. Requests a"
        " second are the median, times the mean of all rounds, the last column also has the least and the largest of a"
        " round.\n"
    )
    print("| requests | exported | requests/s | server, CPU µs | with worker | exporting, CPU µs | adds, % |")
    print("|---|---|---|---|---|---|---|")
    with receiver() as endpoint, ExitStack() as stack:
        servers = {
            name: stack.enter_context(exporting(environment)) for name, environment in variants(endpoint).items()
        }
        for work in WORKS:
            for name, found in rounds(servers, work).items():
                print(line(work, name, found), flush=True)
        ledger = servers["every trace"].ledger
        milliseconds = 1e3 * ledger[METRICS] / max(1.0, ledger[METRICS + 1])
    print(
        f"\nAn export of the metrics, once a minute by default, takes {milliseconds:.1f} ms of processor time besides."
    )


if __name__ == "__main__":
    if LEDGER in os.environ:
        sys.exit(serve_timed())
    main()
