"""The last batches, as someone sees them who watches the server: when, how long, of which calls, by which method.

Every batch is recorded, whether anyone looks or not: that takes microseconds, and a fixed number of records is kept.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from matfn_service.jobs import Job

__all__ = ["MOST_RECORDS", "BatchLog", "BatchRecord", "dtype_of", "shape_of"]

MOST_RECORDS: Final = 64
"""Batches that are remembered: a look a second tells all of them, up to so many a second."""
_MOST_CALLS: Final = 24  # of a batch, told one by one


@dataclass(slots=True)
class BatchRecord:
    """One batch.

    Attributes:
        number: its place among all batches, from 1.
        at: when it was launched, on the service's clock.
        calls: function and number of matrices of its first calls.
        more: how many calls it has besides.
        items: its matrices.
        shape: of its largest input, without the batch.
        dtype: of the inputs.
        method: that answers, if it meets the tolerance.
        precision: of the arithmetic.
        workers: among which it was dealt.
        fill: the load against the largest allowed.
        seconds: that it took; None while it runs.
    """

    number: int
    at: float
    calls: tuple[tuple[str, int], ...]
    more: int
    items: int
    shape: tuple[int, ...]
    dtype: str
    method: str
    precision: str
    workers: int
    fill: float
    seconds: float | None = None

    def told(self, started: float) -> dict[str, object]:
        """The batch as JSON has it, its launch counted from the start of the service."""
        return {
            "number": self.number,
            "at": self.at - started,
            "calls": self.calls,
            "more": self.more,
            "items": self.items,
            "shape": self.shape,
            "dtype": self.dtype,
            "method": self.method,
            "precision": self.precision,
            "workers": self.workers,
            "fill": self.fill,
            "seconds": self.seconds,
        }


@dataclass(slots=True)
class BatchLog:
    """The last batches, oldest first."""

    last: int = 0
    records: deque[BatchRecord] = field(default_factory=lambda: deque(maxlen=MOST_RECORDS))

    def launched(self, jobs: Sequence[Job], workers: int, fill: float, at: float) -> BatchRecord:
        """Records a batch that begins now; whoever launched it notes its seconds when it ends."""
        self.last += 1
        first = jobs[0]
        record = BatchRecord(
            number=self.last,
            at=at,
            calls=tuple((job.function, job.items) for job in islice(jobs, _MOST_CALLS)),
            more=max(0, len(jobs) - _MOST_CALLS),
            items=sum(job.items for job in jobs),
            shape=shape_of(first),
            dtype=dtype_of(first.program.dtype),
            method=first.program.method,
            precision=first.program.precision,
            workers=workers,
            fill=fill,
        )
        self.records.append(record)
        return record

    def after(self, number: int) -> list[BatchRecord]:
        """The batches that are remembered and come after this one."""
        return [record for record in self.records if record.number > number]


def shape_of(job: Job) -> tuple[int, ...]:
    """The shape of a job's largest input, without the batch."""
    shapes: list[tuple[int, ...]] = [tuple(tensor.shape[1:]) for tensor in job.batch.inputs.values()]
    return shapes[0] if len(shapes) == 1 else max(shapes, key=math.prod)


@lru_cache(maxsize=16)
def dtype_of(dtype: torch.dtype) -> str:
    """The name of a dtype, as the wire has it."""
    return str(dtype).removeprefix("torch.")
