"""What OpenTelemetry costs: throughput of servers that export, against one that does not, in turns in one run.

All servers run from the beginning to the end; each round measures each of them once, in an order that changes, so that
what else the machine does meets all alike. A receiver in this process takes what they export and throws it away.

    python benchmarks/bench_tracing.py > benchmarks/results/tracing.md
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from bench_metrics import cpu_seconds, requests_of
from load import Load, Request, measure
from matfn import wire
from processes import ServerProcess
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS: Final = 2.0
ROUNDS: Final = 9
CALLERS: Final = 16


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


MIXED: Final = tuple(
    (function, (items, order, order))
    for function in ("inv_root", "msign", "eig_clip")
    for items, order in ((1, 256), (4, 128), (16, 64))
)
WORKS: Final = (
    Work("mixed: inv_root, msign and eig_clip of 256, 4 x 128 and 16 x 64", MIXED),
    Work("msign of one matrix of order 64", (("msign", (64, 64)),)),
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
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    ratio = {**on, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
    return {
        "no export": {},
        "metrics alone": {**on, "OTEL_TRACES_EXPORTER": "none"},
        "1 trace in 100": {**ratio, "OTEL_TRACES_SAMPLER_ARG": "0.01"},
        "1 trace in 20": {**ratio, "OTEL_TRACES_SAMPLER_ARG": "0.05"},
        "every trace": on,
    }


@contextmanager
def exporting(environment: dict[str, str]) -> Iterator[ServerProcess]:
    """A server with these variables."""
    with patch.dict(os.environ, environment):
        server = ServerProcess().started()
    try:
        yield server
    finally:
        server.stop()


@dataclass(frozen=True, slots=True)
class Round:
    """What one server did in one round: requests a second, and CPU microseconds a request, the workers' among them."""

    rate: float
    own: float
    all: float


def measured(server: ServerProcess, load: Load) -> Round:
    """One round of a server."""
    before, answered = cpu_seconds(server), requests_of(server)
    found = measure(load)
    if found.errors:
        raise RuntimeError(f"{found.errors} errors")
    after, number = cpu_seconds(server), max(1, requests_of(server) - answered)
    own, workers = (1e6 * (later - earlier) / number for later, earlier in zip(after, before, strict=True))
    return Round(found.rate, own, own + workers)


def rounds(servers: dict[str, ServerProcess], work: Work) -> dict[str, list[Round]]:
    """The rounds of each server."""
    found: dict[str, list[Round]] = {name: [] for name in servers}
    for server in servers.values():
        measure(work.load(server.address))  # prices settle
    names = list(servers)
    for turn in range(ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(measured(servers[name], work.load(servers[name].address)))
    return found


def costs(of: Sequence[float], base: Sequence[float]) -> str:
    """By how many percent the figures of rounds exceed those of the same rounds without export."""
    more = sorted(100.0 * (one / other - 1.0) for one, other in zip(of, base, strict=True))
    return f"{statistics.median(more):.1f} ({more[len(more) // 4]:.1f} to {more[-1 - len(more) // 4]:.1f})"


def lines(work: Work, found: dict[str, list[Round]]) -> Iterator[str]:
    """A line for each server."""
    base = found["no export"]
    for name, own in found.items():
        rate, alone, both = (statistics.median(getattr(one, field) for one in own) for field in ("rate", "own", "all"))
        cost = "" if own is base else costs([one.all for one in own], [one.all for one in base])
        yield f"| {work.name} | {name} | {rate:.0f} | {alone:.0f} | {both:.0f} | {cost} |"


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(
        f"{CALLERS} callers, one worker, {ROUNDS} rounds of {SECONDS:g} s for each server, in turns. Medians; of the"
        " cost with quartiles: how much more processor time of server and worker a request took than in the same round"
        " without export. Requests a second are of a machine that other programs use too.\n"
    )
    print("| requests | exported | requests/s | server, CPU µs | with worker, CPU µs | cost, % |")
    print("|---|---|---|---|---|---|")
    with receiver() as endpoint, ExitStack() as stack:
        servers = {
            name: stack.enter_context(exporting(environment)) for name, environment in variants(endpoint).items()
        }
        for work in WORKS:
            for line in lines(work, rounds(servers, work)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
