"""What this machine's cores can do without a server: certified polar factors on one single-threaded worker a core.

    python benchmarks/servers/bound.py ORDER BATCH SECONDS

prints matrices a second. The workers are threads of one process, as the service's lanes are.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from workloads import msign


def _work(batch: np.ndarray, until: float) -> int:
    done = 0
    while time.perf_counter() < until:
        msign(batch)
        done += len(batch)
    return done


def main(order: int, size: int, seconds: float) -> None:
    """Computes for so long and prints the rate."""
    batch = np.random.default_rng(0).standard_normal((size, order, order)).astype(np.float32)
    msign(batch)
    workers = len(os.sched_getaffinity(0))
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        done = sum(pool.map(_work, [batch] * workers, [began + seconds] * workers))
    print(done / (time.perf_counter() - began))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
