"""What it costs to carry a large body to the device and its answer back, over a unix socket.

A `qk_clip` of 64 MiB each way against a bare echo of as many bytes between two processes, 64 roots of order 256 against
LocalClient, and the budget of both by stage, as the service's own metrics and the answers' timing tell it. Every cell
runs `ROUNDS` times, alternating with the others; median and range are printed.

    python benchmarks/bench_carrying.py > benchmarks/results/carrying.md
"""

from __future__ import annotations

import statistics
import tempfile
import time
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
from unix_sockets import bare_echo, service

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
WARM = 3
"""Rounds that do not count."""
BYTES = 64 * 2**20
WEIGHT = (1, 64, 128, 1024)
"""Shape of each of two fp32 weights, 32 MiB."""
ROOTS = (64, 256, 256)
COLUMNS = {"qk_clip": "qk_clip, 64 MiB each way", "roots": "64 roots of order 256"}

Asked = tuple[float, matfn.Answer[Any]]


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


def measured(url: str) -> tuple[dict[str, list[float]], dict[str, list[dict[str, float]]], int]:
    """Milliseconds by cell, budgets by call, and how many answers tell more device time than their callers waited."""
    g = np.random.default_rng(0)
    weights = [g.standard_normal(WEIGHT, dtype=np.float32) for _ in range(2)]
    logits = g.uniform(50, 200, WEIGHT[:2]).astype(np.float32)
    factors = g.standard_normal((*ROOTS[:2], 2 * ROOTS[2]), dtype=np.float32)
    stack = factors @ factors.swapaxes(-1, -2) / ROOTS[2]
    cells: dict[str, list[float]] = {name: [] for name in ("echo", "qk_clip", "roots", "local roots")}
    budgets: dict[str, list[dict[str, float]]] = {name: [] for name in COLUMNS}
    exceeding = 0
    with matfn.Client(url) as client, matfn.LocalClient(device="cpu") as local, bare_echo(BYTES) as bare:
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
    kept = {name: values[WARM:] for name, values in cells.items()}
    return kept, {name: found[WARM:] for name, found in budgets.items()}, exceeding


def main() -> None:
    """Prints the tables."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "matfn") as url:
        cells, budgets, exceeding = measured(url)
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
    main()
