"""When a triangle pays: CPU time of making and undoing one, and the link on which the bytes that it saves take as long.

CPU time of one thread; median of `ROUNDS`.

    python benchmarks/bench_triangles.py > benchmarks/results/triangles.md
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from matfn import wire
from matfn.triangles import in_triangle, whole
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
BATCHES = ((1, 64), (1, 128), (1, 512), (64, 64), (1, 2048), (1024, 64))


def tensor_of(matrices: Any) -> wire.Tensor:
    """The matrices, whole."""
    return wire.Tensor("float32", matrices.shape, matrices.reshape(-1).view(np.uint8).data)


def cpu_ms(work: Callable[[], object]) -> float:
    """Median CPU time after one run to warm up."""
    work()
    spent = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        spent.append((time.process_time() - started) * 1e3)
    return statistics.median(spent)


def main() -> None:
    """Prints the table."""
    print(f"{provenance()}\n")
    print(f"float32, CPU ms, median of {ROUNDS}\n")
    print("| matrices | MiB whole | make | undo | find asymmetric | pays below Gbit/s |\n|---|---|---|---|---|---|")
    for items, order in BATCHES:
        g = np.random.default_rng(0).standard_normal((items, order, order)).astype(np.float32)
        given, other = tensor_of(g + g.swapaxes(1, 2)), tensor_of(g)
        part = in_triangle(given)
        make, undo, look = (
            cpu_ms(work)
            for work in (lambda: in_triangle(given), lambda: whole(part), lambda: in_triangle(other))  # noqa: B023 - called before the next round
        )
        pays = (given.nbytes - part.nbytes) * 8 / (make + undo) / 1e6
        size = f"{given.nbytes / 2**20:.3g}"
        print(f"| {items} of order {order} | {size} | {make:.3f} | {undo:.3f} | {look:.3f} | {pays:.1f} |")


if __name__ == "__main__":
    main()
