"""Which part of the service's memory is for what, where settings do not say."""

from __future__ import annotations

import os
from typing import Final

__all__ = [
    "default_batch_bytes",
    "default_message_bytes",
    "default_queue_bytes",
    "default_request_bytes",
    "default_shared_bytes",
    "fronts_bytes",
    "held_bytes",
    "kept_bytes",
    "resting_bytes",
    "worker_bytes",
]

_MIB: Final = 2**20
_GIB: Final = 2**30
_PROCESS_BYTES: Final = 300 * 10**6  # a process that has loaded the kernels, before it computes
_BATCH_COPIES: Final = 3  # of a batch in a worker that computes it
_BATCHES_SHARE: Final = 1 / 4  # of what the processes leave
_HELD_SHARE: Final = 1 / 2  # of the rest: freed pages may stay with malloc while others are taken from the system
_KEPT_SHARE: Final = 1 / 4
_LEAST_SHARE: Final = 1 / 8  # of all memory, where processes alone would take it


def resting_bytes(workers: int | None) -> int:
    """Bytes of the service and its workers before they compute."""
    return (1 + _number(workers)) * _PROCESS_BYTES


def fronts_bytes(fronts: int) -> int:
    """Bytes of the processes that hold connections beside the service itself."""
    return (fronts - 1) * _PROCESS_BYTES


def _number(workers: int | None) -> int:
    """The number of workers: one a core where it is not set."""
    return workers or len(os.sched_getaffinity(0))


def default_batch_bytes(memory: int, workers: int | None) -> int:
    """Bytes of a batch: 256 MiB, less where the workers' batches would take too much of the memory."""
    left = max(memory - resting_bytes(workers), memory * _LEAST_SHARE)
    return min(256 * _MIB, int(left * _BATCHES_SHARE) // (_BATCH_COPIES * _number(workers)))


def held_bytes(memory: int, workers: int | None, batch_bytes: int) -> int:
    """Bytes that all requests together may be charged."""
    left = memory - resting_bytes(workers) - _number(workers) * worker_bytes(batch_bytes)
    return int(max(left * _HELD_SHARE, memory * _LEAST_SHARE))


def worker_bytes(batch_bytes: int) -> int:
    """Bytes that a worker has for what it computes."""
    return _BATCH_COPIES * batch_bytes


def kept_bytes(held: int) -> int:
    """Bytes of memory for large bodies and answers that are kept for the next ones."""
    return min(256 * _MIB, int(held * _KEPT_SHARE))


def default_shared_bytes(request_bytes: int, held: int) -> int:
    """Bytes that are shared with clients: four bodies, less where that is more than half of what requests may have."""
    return min(4 * request_bytes, held // 2)


def default_queue_bytes(held: int) -> int:
    """Bytes of all calls that wait or run: 4 GiB, less where there is less."""
    return min(4 * _GIB, held)


def default_message_bytes(request_bytes: int) -> int:
    """Bytes of a message over gRPC: an eighth of a body, for many may arrive slowly, or 4 MiB as in gRPC."""
    return min(request_bytes, 64 * _MIB, max(4 * _MIB, request_bytes // 8))


def default_request_bytes(queue_bytes: int) -> int:
    """Bytes of a body: 576 MiB, less where the queue would not hold a call of this size with its outputs."""
    return max(1024, min(576 * _MIB, queue_bytes // 3))
