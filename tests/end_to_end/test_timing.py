"""The timing of an answer is part of what its caller waited."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import matfn

if TYPE_CHECKING:
    from matfn.wire import Timing
    from processes import ServerProcess


def timed(client: matfn.Client, a: np.ndarray) -> tuple[float, Timing]:
    """Milliseconds that the caller waited, and the answer's timing."""
    started = time.perf_counter()
    answer = client.with_info.inv_root(a, r=4)
    return (time.perf_counter() - started) * 1e3, answer.timing


def positive(count: int, order: int) -> np.ndarray:
    """Positive definite fp32 matrices (count, order, order)."""
    g = np.random.default_rng(order).standard_normal((count, order, 2 * order), dtype=np.float32)
    return g @ g.swapaxes(-1, -2) / order


def test_a_call_divided_among_workers_computes_no_longer_than_it_takes(two_workers: ServerProcess) -> None:
    """Queue and device times add up to no more than the caller waited where two workers share the call."""
    with matfn.Client(two_workers.url) as client:
        for _ in range(3):
            waited, timing = timed(client, positive(64, 128))
            assert timing.device_ms > 0.0
            assert timing.queue_ms + timing.device_ms <= waited


def test_a_call_in_a_batch_with_others_computes_no_longer_than_it_takes(two_workers: ServerProcess) -> None:
    """Queue and device times add up to no more than each of many callers waited."""
    with matfn.Client(two_workers.url) as client, ThreadPoolExecutor(16) as callers:
        found = list(callers.map(partial(timed, client), [positive(1 + i % 3, 96) for i in range(128)]))

    assert max(timing.batch_size for _, timing in found) > 3
    assert all(0.0 < timing.queue_ms + timing.device_ms <= waited for waited, timing in found)
