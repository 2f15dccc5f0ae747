"""What concurrent callers of one service get: requests a second, latency and the batches that formed.

Closed-loop callers, each a thread of one client process beside the service on the same machine, so that both share its
cores. Every cell runs `ROUNDS` times, alternating with the others; median and spread are printed.

    python benchmarks/bench_callers.py > benchmarks/results/callers.md
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import matfn

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

from demo import service, wait_until_ready
from provenance import provenance

ROUNDS = 5
SECONDS = 2.0
CALLERS = (1, 8, 32)
ORDERS = (16, 64, 256)


@dataclass(frozen=True, slots=True)
class Round:
    """One closed-loop run."""

    rate: float
    p50: float
    p99: float
    batch: float


def matrices(order: int) -> Any:
    """Symmetric positive definite fp32 matrices of condition 1e3."""
    q, _ = np.linalg.qr(np.random.default_rng(order).standard_normal((order, order)))
    return ((q * np.geomspace(1, 1e-3, order)) @ q.T).astype(np.float32)


def run(client: matfn.Client, order: int, callers: int) -> Round:
    """Closed loop for a fixed time."""
    a = matrices(order)
    until = time.perf_counter() + SECONDS

    def caller(_: int) -> list[tuple[float, int]]:
        seen = []
        while (start := time.perf_counter()) < until:
            answer = client.with_info.inv_root(a, r=4)
            seen.append((time.perf_counter() - start, answer.timing.batch_size))
        return seen

    with ThreadPoolExecutor(callers) as pool:
        seen = [one for part in pool.map(caller, range(callers)) for one in part]
    times = sorted(1e3 * seconds for seconds, _ in seen)
    rate = len(seen) / SECONDS
    return Round(rate, times[len(times) // 2], times[int(0.99 * len(times))], statistics.mean(b for _, b in seen))


def spread(values: list[float], digits: int = 0) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def main() -> None:
    """Prints the table."""
    cells = [(order, callers) for order in ORDERS for callers in CALLERS]
    rounds: dict[tuple[int, int], list[Round]] = {cell: [] for cell in cells}
    with service() as (url, process), matfn.Client(url) as client:
        wait_until_ready(client, process)
        for cell in cells:
            run(client, *cell)
        for _ in range(ROUNDS):
            for cell in cells:
                rounds[cell].append(run(client, *cell))
    print(f"{provenance()}\n")
    print("`inv_root(a, r=4)`, one fp32 matrix a call, ", end="")
    print(f"service and callers on the same machine; median (range) of {ROUNDS} rounds of {SECONDS:g} s\n")
    print("| order | callers | calls/s | p50 ms | p99 ms | mean batch |")
    print("|---|---|---|---|---|---|")
    for (order, callers), found in rounds.items():
        columns = [
            spread([r.rate for r in found]),
            spread([r.p50 for r in found], 1),
            spread([r.p99 for r in found], 1),
            spread([r.batch for r in found], 1),
        ]
        print(f"| {order} | {callers} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
