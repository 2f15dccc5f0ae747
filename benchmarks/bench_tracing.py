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

from load import Load, Request, measure
from matfn import wire
from processes import ServerProcess
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS: Final = 2.0
ROUNDS: Final = 11
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
    for items, order in ((1, 256), (8, 128), (32, 64))
)
WORKS: Final = (
    Work("mixed: inv_root, msign and eig_clip of 256, 8 x 128 and 32 x 64", MIXED),
    Work("msign of one matrix of order 64", (("msign", (64, 64)),)),
    Work("msign of one matrix of order 4", (("msign", (4, 4)),)),
)


class _Receiver(BaseHTTPRequestHandler):
    """Takes what is exported."""

    protocol_version = "HTTP/1.1"
    taken: Final[list[int]] = []

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
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


def rates(servers: dict[str, ServerProcess], work: Work) -> dict[str, list[float]]:
    """Requests a second of each server, by round."""
    found: dict[str, list[float]] = {name: [] for name in servers}
    for server in servers.values():
        measure(work.load(server.address))  # prices settle
    for turn in range(ROUNDS):
        names = list(servers)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            measured = measure(work.load(servers[name].address))
            if measured.errors:
                raise RuntimeError(f"{measured.errors} errors")
            found[name].append(measured.rate)
    return found


def row(work: Work, found: dict[str, list[float]]) -> Iterator[str]:
    """A line for each server."""
    base = found["no export"]
    for name, measured in found.items():
        costs = sorted(100.0 * (1.0 - one / other) for one, other in zip(measured, base, strict=True))
        low, high = costs[len(costs) // 4], costs[-1 - len(costs) // 4]
        cost = "" if name == "no export" else f"{statistics.median(costs):.1f} ({low:.1f} to {high:.1f})"
        yield f"| {work.name} | {name} | {statistics.median(measured):.0f} | {cost} |"


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(
        f"{CALLERS} callers, one worker, {ROUNDS} rounds of {SECONDS:g} s for each server, in turns. Cost: by how much"
        " fewer requests a round had than the same round without export, median and quartiles.\n"
    )
    print("| requests | exported | requests/s, median | cost, % |\n|---|---|---|---|")
    with receiver() as endpoint, ExitStack() as stack:
        servers = {
            name: stack.enter_context(exporting(environment)) for name, environment in variants(endpoint).items()
        }
        for work in WORKS:
            for line in row(work, rates(servers, work)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
