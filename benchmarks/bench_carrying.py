"""What it costs to carry a large body to the device and its answer back, over a unix socket.

A `qk_clip` of 64 MiB each way against a bare echo of as many bytes between two processes, 64 roots of order 256 against
LocalClient, and the budget of both by stage, as the service's own metrics and the answers' timing tell it. Every cell
runs `ROUNDS` times, alternating with the others; median and range are printed.

    python benchmarks/bench_carrying.py > benchmarks/results/carrying.md
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

import matfn
from matfn.endpoint import Endpoint
from matfn.http1 import Request
from matfn.transport import SocketTransport
from matfn_service.statistics import STAGES
from provenance import provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

from demo import wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 15
WARM = 3
"""Rounds that do not count."""
BYTES = 64 * 2**20
WEIGHT = (1, 64, 128, 1024)
"""Shape of each of two fp32 weights, 32 MiB."""
ROOTS = (64, 256, 256)
COLUMNS = {"qk_clip": "qk_clip, 64 MiB each way", "roots": "64 roots of order 256"}

Asked = tuple[float, matfn.Answer[Any]]


class Echo:
    """A process that sends back what it has received, and kept memory for what is sent and comes back."""

    def __init__(self, path: str) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, path])  # noqa: S603 - our own command
        self._socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self._socket.connect(path)
            except OSError:
                time.sleep(0.05)
            else:
                break
        self._sent, self._back = memoryview(bytearray(os.urandom(BYTES))), memoryview(bytearray(BYTES))

    def __call__(self) -> None:
        """Sends and receives once."""
        self._socket.sendall(self._sent)
        receive(self._socket, self._back)

    def close(self) -> None:
        """Ends the process."""
        self._socket.close()
        self._process.wait()


def echo(path: str) -> None:
    """Sends back whatever one connection sends, once it is whole."""
    buffer = memoryview(bytearray(BYTES))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        connection, _ = listener.accept()
    with connection:
        while receive(connection, buffer):
            connection.sendall(buffer)


def receive(connection: socket.socket, buffer: memoryview) -> bool:
    """Fills the buffer; False if the connection ends before."""
    filled = 0
    while filled < len(buffer):
        count = connection.recv_into(buffer[filled:])
        if not count:
            return False
        filled += count
    return True


@contextmanager
def service(path: str) -> Iterator[str]:
    """The real service on a unix socket, stopped with SIGTERM at the end."""
    command = [str(Path(sys.executable).with_name("matfn")), "serve", "--uds", path]
    process = subprocess.Popen(command, env={**os.environ, "MATFN_LOG_LEVEL": "warning"})  # noqa: S603 - our own command
    try:
        with matfn.Client(f"unix://{path}") as client:
            wait_until_ready(client, process)
        yield f"unix://{path}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of one run, and what it returned."""
    started = time.perf_counter()
    value = work()
    return (time.perf_counter() - started) * 1e3, value


def sums(url: str) -> dict[str, float]:
    """Milliseconds of each stage so far, and of whole requests, as the service counts them."""
    transport = SocketTransport(Endpoint.parse(url))
    text = bytes(transport.send(Request("GET", "/metrics"), 30.0).body).decode()
    transport.close()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in {"matfn_wire_seconds_sum", "matfn_request_seconds_sum"}:
                found[sample.labels.get("stage", "request")] = sample.value * 1e3
    return found


def asked(url: str, ask: Callable[[], matfn.Answer[Any]]) -> tuple[Asked, dict[str, float]]:
    """One call, with its budget."""
    before = sums(url)
    milliseconds, answer = timed(ask)
    spent = {stage: after - before[stage] for stage, after in sums(url).items()}
    waited, computed = answer.timing.queue_ms, answer.timing.device_ms
    outside = {"queue": waited, "compute": computed, "caller": milliseconds - spent.pop("request")}
    return (milliseconds, answer), spent | outside


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f})"


def ratio(values: list[float], base: list[float]) -> str:
    """The quotient of the medians."""
    return f"{statistics.median(values) / statistics.median(base):.2f}"


def measured(url: str, path: str) -> tuple[dict[str, list[float]], dict[str, list[dict[str, float]]], int]:
    """Milliseconds by cell, budgets by call, and how many answers tell more device time than their callers waited."""
    g = np.random.default_rng(0)
    weights = [g.standard_normal(WEIGHT, dtype=np.float32) for _ in range(2)]
    logits = g.uniform(50, 200, WEIGHT[:2]).astype(np.float32)
    factors = g.standard_normal((*ROOTS[:2], 2 * ROOTS[2]), dtype=np.float32)
    stack = factors @ factors.swapaxes(-1, -2) / ROOTS[2]
    bare = Echo(path)
    cells: dict[str, list[float]] = {name: [] for name in ("echo", "qk_clip", "roots", "local roots")}
    budgets: dict[str, list[dict[str, float]]] = {name: [] for name in COLUMNS}
    exceeding = 0
    with matfn.Client(url) as client, matfn.LocalClient(device="cpu") as local:
        calls = {
            "qk_clip": partial(client.with_info.qk_clip, *weights, logits),
            "roots": partial(client.with_info.inv_root, stack, r=4),
        }
        for _ in range(WARM + ROUNDS):
            cells["echo"].append(timed(bare)[0])
            for name, call in calls.items():
                (milliseconds, answer), budget = asked(url, call)
                cells[name].append(milliseconds)
                budgets[name].append(budget)
                exceeding += answer.timing.queue_ms + answer.timing.device_ms > milliseconds
            cells["local roots"].append(timed(partial(local.inv_root, stack, r=4))[0])
    bare.close()
    kept = {name: values[WARM:] for name, values in cells.items()}
    return kept, {name: found[WARM:] for name, found in budgets.items()}, exceeding


def main() -> None:
    """Prints the tables."""
    with tempfile.TemporaryDirectory() as folder, service(str(Path(folder) / "matfn")) as url:
        cells, budgets, exceeding = measured(url, str(Path(folder) / "echo"))
    print(f"{provenance()}\n")
    print(f"Milliseconds over a unix socket; median (range) of {ROUNDS} alternating rounds.\n")
    print("| | ms | times |\n|---|---|---|")
    print(f"| bare echo of 64 MiB | {spread(cells['echo'])} | |")
    print(
        f"| qk_clip, 64 MiB each way | {spread(cells['qk_clip'])} | {ratio(cells['qk_clip'], cells['echo'])} echoes |"
    )
    print(f"| 64 roots of order 256, LocalClient | {spread(cells['local roots'])} | |")
    over = ratio(cells["roots"], cells["local roots"])
    print(f"| 64 roots of order 256, HTTP | {spread(cells['roots'])} | {over} LocalClients |")
    print("\nThe budget by stage. `caller` is what the caller waits outside of the server; the answer is written")
    print("while the caller receives it. `copy` adds up over the batches of a call.\n")
    print(f"| stage | {' | '.join(COLUMNS.values())} |\n|---|---|---|")
    order = [*STAGES[: STAGES.index("copy")], "queue", "copy", "compute", *STAGES[STAGES.index("copy") + 1 :], "caller"]
    for stage in order:
        print(f"| {stage} | {' | '.join(spread([one[stage] for one in budgets[name]]) for name in COLUMNS)} |")
    print(f"\nAnswers whose queue and device times exceed what their callers waited: {exceeding}.")


if __name__ == "__main__":
    echo(sys.argv[1]) if sys.argv[1:] else main()
