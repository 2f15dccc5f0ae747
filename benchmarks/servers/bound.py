"""What this machine's cores can do without a server: certified polar factors in one process a core.

    python benchmarks/servers/bound.py ORDER BATCH SECONDS

prints matrices a second.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from workloads import msign


def _work(batch: np.ndarray, seconds: float) -> float:
    msign(batch)
    done, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        msign(batch)
        done += len(batch)
    return done / (time.perf_counter() - began)


def main(order: int, size: int, seconds: float) -> None:
    """Computes for so long and prints the rate."""
    batch = np.random.default_rng(0).standard_normal((size, order, order)).astype(np.float32)
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers) as pool:
        print(sum(pool.map(_work, [batch] * workers, [seconds] * workers)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
