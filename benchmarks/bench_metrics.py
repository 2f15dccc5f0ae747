"""What counting for /v1/status and /metrics costs: the time it takes in a server under load, of all its CPU time.

Every method of `Statistics` that counts is timed in the server itself, by the clock on the wall, since reading a
thread's own takes longer than what it would measure. Where the machine is shared, the figure is therefore too high. A
few reads of the clock between the methods are not in it.

    python benchmarks/bench_metrics.py > benchmarks/results/metrics.md
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from load import Load, Request, measure
from matfn import wire
from matfn_service.server import serve
from matfn_service.settings import Settings
from matfn_service.statistics import Statistics
from processes import ServerProcess, running_server
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS: Final = 5.0
CALLERS: Final = 32
SCRAPES: Final = 200
LEDGER: Final = "MATFN_BENCH_LEDGER"


@dataclass(frozen=True, slots=True)
class Work:
    """What each caller sends: calls of one function, alone or many in a request."""

    name: str
    shape: tuple[int, ...]
    calls: int = 1

    def load(self, address: tuple[str, int]) -> Load:
        """So many callers, each with matrices of its own."""
        path = "/v1/msign" if self.calls == 1 else "/v1/calls"
        return Load(address, path, tuple(self._request(seed) for seed in range(CALLERS)), CALLERS, SECONDS)

    def _request(self, seed: int) -> Request:
        m = np.random.default_rng(seed).standard_normal(self.shape).astype(np.float32)
        call = wire.Call("msign", {"m": wire.Tensor("float32", m.shape, m.tobytes())}, {}, {})
        one, many = wire.encode_call, wire.encode_calls
        body = one(call, wire.Media.MSGPACK) if self.calls == 1 else many([call] * self.calls, wire.Media.MSGPACK)
        return Request(wire.Media.MSGPACK, b"".join(body))


WORKS: Final = (
    Work("one matrix of order 4", (4, 4)),
    Work("one matrix of order 64", (64, 64)),
    Work("256 matrices of order 4", (256, 4, 4)),
    Work("64 calls of order 4", (4, 4), calls=64),
)


def timed(method: Callable[..., None], ledger: memoryview) -> Callable[..., None]:
    """The same method, which adds the time it takes to the ledger."""

    @wraps(method)
    def timing(*arguments: Any) -> None:
        started = time.perf_counter()
        method(*arguments)
        spent = time.perf_counter() - started
        ledger[0] += spent

    return timing


def ledger_in(file: BinaryIO) -> memoryview:
    """One number, which both processes see."""
    return memoryview(mmap.mmap(file.fileno(), 8)).cast("d")


def serve_timed() -> int:
    """The server, with what counts under the clock."""
    with Path(os.environ[LEDGER]).open("r+b") as file:
        ledger = ledger_in(file)
    for name in [name for name in vars(Statistics) if name.startswith("count_")]:
        setattr(Statistics, name, timed(getattr(Statistics, name), ledger))
    return serve(Settings())


@contextmanager
def running() -> Iterator[tuple[ServerProcess, memoryview]]:
    """A server with one worker, and its ledger."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(8)
        os.environ[LEDGER] = file.name
        with running_server(Path(__file__)) as server:
            yield server, ledger_in(file.file)


def cpu_seconds(server: ServerProcess) -> tuple[float, float]:
    """CPU time so far: of the server's process, and of its workers."""
    own = Path(f"/proc/{server.process.pid}")
    children = (own / f"task/{server.process.pid}/children").read_text().split()
    return _of(own), sum(_of(Path("/proc") / child) for child in children)


def _of(process: Path) -> float:
    return sum(int(task.read_text().split()[0]) for task in process.glob("task/*/schedstat")) / 1e9


def requests_of(server: ServerProcess) -> int:
    """Requests that the server has answered."""
    line = next(line for line in server.metrics().splitlines() if line.startswith("matfn_request_seconds_count"))
    return int(float(line.split()[1]))


def row(work: Work) -> str:
    """What one load costs."""
    with running() as (server, ledger):
        before, counted, answered = cpu_seconds(server), ledger[0], requests_of(server)
        errors = measure(work.load(server.address)).errors
        after, counting = cpu_seconds(server), ledger[0] - counted
        number = requests_of(server) - answered
    if errors:
        raise RuntimeError(f"{errors} errors")
    own, workers = (later - earlier for later, earlier in zip(after, before, strict=True))
    figures = [f"{1e6 * seconds / number:.0f}" for seconds in (own, workers)]
    shares = [f"{100 * counting / (own + more):.2f}" for more in (0.0, workers)]
    return f"| {work.name} | {number} | {' | '.join(figures)} | {1e6 * counting / number:.1f} | {' | '.join(shares)} |"


def scrape_ms() -> float:
    """CPU ms of one scrape."""
    with running() as (server, _):
        connection = HTTPConnection(*server.address)
        before = cpu_seconds(server)[0]
        for _ in range(SCRAPES):
            connection.request("GET", "/metrics")
            connection.getresponse().read()
        spent = cpu_seconds(server)[0] - before
        connection.close()
    return 1e3 * spent / SCRAPES


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(f"{CALLERS} callers of msign for {SECONDS:g} s, one worker.\n")
    print("| request | requests | server µs | worker µs | counting µs | % of the server's | % of both |")
    print("|---|---|---|---|---|---|---|")
    for work in WORKS:
        print(row(work))
    print(f"\nA scrape takes the server {scrape_ms():.2f} ms of CPU time, mean of {SCRAPES}.")


if __name__ == "__main__":
    if LEDGER in os.environ:
        sys.exit(serve_timed())
    main()
