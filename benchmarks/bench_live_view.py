"""What the page's live view costs a busy server: callers' throughput while it is looked at, against while it is not.

A viewer asks for what the page asks for, /v1/status, /metrics and /v1/batches, once a second over connections that
stay open. Periods with and without viewers alternate in one run, in an order that turns around from pair to pair, and
the ratio of each pair is taken. The CPU time that the server takes for one look is measured apart, on an idle server
with full records: on a shared machine it is the steadier figure.

    python benchmarks/bench_live_view.py > benchmarks/results/live_view.md
"""

from __future__ import annotations

import json
import sys
import threading
import timeit
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from load import Load, Request, measure
from matfn import wire
from matfn_service.batch_log import MOST_RECORDS, BatchLog
from processes import ServerProcess, running_server
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS: Final = 4.0
PAIRS: Final = 12
CALLERS: Final = 16
LOOKS: Final = 100
VIEWERS: Final = (1, 10)
SHAPES: Final = ((4, 4), (64, 64))
_TICK: Final = 1.0


def load(server: ServerProcess, shape: tuple[int, ...]) -> Load:
    """So many callers of msign, each with a matrix of its own."""
    requests = [_request(shape, seed) for seed in range(CALLERS)]
    return Load(server.address, "/v1/msign", tuple(requests), CALLERS, SECONDS)


def _request(shape: tuple[int, ...], seed: int) -> Request:
    m = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    call = wire.Call("msign", {"m": wire.Tensor("float32", m.shape, m.tobytes())}, {}, {})
    return Request(wire.Media.MSGPACK, b"".join(wire.encode_call(call, wire.Media.MSGPACK)))


class Viewer:
    """One page whose live tab is open."""

    def __init__(self, server: ServerProcess) -> None:
        self._connection = HTTPConnection(*server.address)
        self._after = 0

    def look(self) -> int:
        """Asks for everything once, and returns the octets that came."""
        batches = self._got(f"/v1/batches?after={self._after}")
        self._after = json.loads(batches)["last"]
        return len(batches) + len(self._got("/v1/status")) + len(self._got("/metrics"))

    def _got(self, path: str) -> bytes:
        self._connection.request("GET", path, headers={"accept": "text/plain"})
        return self._connection.getresponse().read()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


@contextmanager
def watched(server: ServerProcess, viewers: int) -> Iterator[None]:
    """Within the block so many viewers look once a second."""
    stop = threading.Event()

    def watch() -> None:
        viewer = Viewer(server)
        while not stop.wait(_TICK):
            viewer.look()
        viewer.close()

    threads = [threading.Thread(target=watch) for _ in range(viewers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def rate(server: ServerProcess, shape: tuple[int, ...], viewers: int) -> float:
    """Requests answered a second in one period."""
    with watched(server, viewers):
        measured = measure(load(server, shape))
    if measured.errors:
        raise RuntimeError(f"{measured.errors} errors")
    return measured.rate


def row(server: ServerProcess, shape: tuple[int, ...], viewers: int) -> str:
    """Throughput with viewers over that without, in pairs side by side."""
    ratios, plain = [], []
    for pair in range(PAIRS):
        order = (0, viewers) if pair % 2 else (viewers, 0)
        found = {count: rate(server, shape, count) for count in order}
        ratios.append(found[viewers] / found[0])
        plain.append(found[0])
    low, middle, high = quantiles(ratios, n=4)
    spread = f"{100 * (low - 1):+.1f} to {100 * (high - 1):+.1f}"
    return f"| {shape[0]} | {viewers} | {median(plain):.0f} | {100 * (middle - 1):+.1f} | {spread} |"


def look_ms(server: ServerProcess) -> tuple[float, int]:
    """CPU ms of the server's process for one look after a busy second, and the octets of its answers."""
    viewer, spent, octets = Viewer(server), 0.0, 0
    for _ in range(LOOKS):
        viewer._after = 0  # noqa: SLF001 - as after a second in which all records are new
        before = _cpu_seconds(server)
        octets += viewer.look()
        spent += _cpu_seconds(server) - before
    viewer.close()
    return 1e3 * spent / LOOKS, octets // LOOKS


def _cpu_seconds(server: ServerProcess) -> float:
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def record_us(calls: int) -> float:
    """Microseconds in which a batch of so many calls is recorded, looked at or not."""
    program = SimpleNamespace(dtype=torch.float32, method="gram", precision="fp64")
    batch = SimpleNamespace(inputs={"m": torch.zeros(1, 64, 64)})
    jobs: list[Any] = [SimpleNamespace(function="msign", items=1, program=program, batch=batch)] * calls
    log = BatchLog()
    number = 2000
    return 1e6 * min(timeit.repeat(lambda: log.launched(jobs, 1, 0.1, 0.0), number=number, repeat=5)) / number


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(
        f"{CALLERS} callers of msign, one float32 matrix a request, one worker; {PAIRS} pairs of {SECONDS:g} s "
        "with and without viewers, in turn. Change of the requests answered: median of the pairs, and their quartiles.\n"
    )
    print("| order | viewers | requests/s without | change, % | quartiles, % |")
    print("|---|---|---|---|---|")
    with running_server() as server:
        for shape in SHAPES:
            for viewers in VIEWERS:
                print(row(server, shape, viewers), flush=True)
        spent, octets = look_ms(server)
    print(
        f"\nOne look takes the server {spent:.2f} ms of CPU time and {octets / 1024:.0f} KiB where all {MOST_RECORDS} "
        f"records are new, mean of {LOOKS}: {spent / 10:.2f} % of a second. To record a batch takes "
        f"{record_us(1):.1f} µs with one call and {record_us(64):.1f} µs with 64, whether anyone looks or not."
    )


if __name__ == "__main__":
    main()
