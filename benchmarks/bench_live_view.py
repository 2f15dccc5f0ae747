"""What the page's live view costs a busy server: calls answered and CPU time while it is looked at, and while not.

A viewer asks for what the page asks for, /v1/status and /v1/batches, once a second over a connection that stays open.
Under one load without a pause, short periods with and without viewers alternate, and neighbours are compared: by the
requests that were answered, which on a shared machine vary with what others do, and by the CPU time of the server's
process a request, looks included, which varies less. The CPU time of one look is measured apart, with full records.

    python benchmarks/bench_live_view.py > benchmarks/results/live_view.md
"""

from __future__ import annotations

import json
import sys
import threading
import time
import timeit
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
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

PERIOD: Final = 2.0
PERIODS: Final = 41
CALLERS: Final = 16
LOOKS: Final = 100
VIEWERS: Final = (1, 10)
SHAPES: Final = ((4, 4), (64, 64))
_TICK: Final = 1.0


def load(server: ServerProcess, shape: tuple[int, ...]) -> Load:
    """So many callers of msign, each with a matrix of its own, for longer than all periods take."""
    requests = [_request(shape, seed) for seed in range(CALLERS)]
    return Load(server.address, "/v1/msign", tuple(requests), CALLERS, PERIOD * (PERIODS + 2))


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
        return len(batches) + len(self._got("/v1/status"))

    def _got(self, path: str) -> bytes:
        self._connection.request("GET", path, headers={"accept": "application/json"})
        return self._connection.getresponse().read()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


@contextmanager
def watching(server: ServerProcess, viewers: int) -> Iterator[threading.Event]:
    """So many viewers, each of which looks once a second while the event is set."""
    looking, over = threading.Event(), threading.Event()

    def watch() -> None:
        viewer = Viewer(server)
        while not over.wait(_TICK):
            if looking.is_set():
                viewer.look()
        viewer.close()

    threads = [threading.Thread(target=watch) for _ in range(viewers)]
    for thread in threads:
        thread.start()
    try:
        yield looking
    finally:
        over.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True, slots=True)
class Period:
    """Requests a second in a period, and the CPU time of the server's process for one."""

    rate: float
    cpu_us: float


def periods(server: ServerProcess, shape: tuple[int, ...], viewers: int) -> list[Period]:
    """Periods under load: the first without viewers, the next with them, and so on."""
    found = []
    with ThreadPoolExecutor(1) as pool, watching(server, viewers) as looking:
        loaded = pool.submit(measure, load(server, shape))
        before = _counted(server)
        while _counted(server)[1] < before[1] + CALLERS:  # the callers have to start
            time.sleep(0.1)
        for number in range(PERIODS):
            (looking.set if number % 2 else looking.clear)()
            started = _counted(server)
            time.sleep(PERIOD)
            seconds, requests, spent = (
                later - earlier for later, earlier in zip(_counted(server), started, strict=True)
            )
            found.append(Period(requests / seconds, 1e6 * spent / requests))
        if errors := loaded.result().errors:
            raise RuntimeError(f"{errors} errors")
    return found


def _counted(server: ServerProcess) -> tuple[float, int, float]:
    """The time, requests answered so far, and CPU seconds of the server's process."""
    lines = server.metrics().splitlines()
    requests = next(line for line in lines if line.startswith("matfn_request_seconds_count"))
    return time.perf_counter(), int(float(requests.split()[1])), _cpu_seconds(server)


def row(server: ServerProcess, shape: tuple[int, ...], viewers: int) -> str:
    """What viewers change: each period with them against the mean of its two neighbours without."""
    found = periods(server, shape, viewers)
    triples = [found[place - 1 : place + 2] for place in range(1, PERIODS - 1, 2)]
    rates = [2 * with_them.rate / (one.rate + other.rate) for one, with_them, other in triples]
    costs = [2 * with_them.cpu_us / (one.cpu_us + other.cpu_us) for one, with_them, other in triples]
    plain = [one for one, _, _ in triples]
    figures = [f"{median(one.rate for one in plain):.0f}", _change(rates)]
    figures += [f"{median(one.cpu_us for one in plain):.0f}", _change(costs)]
    return f"| {shape[0]} | {viewers} | {' | '.join(figures)} |"


def _change(ratios: list[float]) -> str:
    low, middle, high = (100 * (value - 1) for value in quantiles(ratios, n=4))
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


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
        f"{CALLERS} callers of msign, one float32 matrix a request, one worker; {PERIODS} periods of {PERIOD:g} s, "
        "every second one with viewers. Changes: median (quartiles) over the periods with viewers, in percent.\n"
    )
    print("| order | viewers | requests/s | change | server's CPU µs a request | change |")
    print("|---|---|---|---|---|---|")
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
