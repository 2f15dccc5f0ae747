"""Jobs, which are computed, and tickets, by which callers wait for them."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from matfn_kernels import batch_key

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from matfn_kernels import Batch, Program
    from matfn_service.encoding import Encoded
    from matfn_service.tracing import SpanReference, Trace

__all__ = ["Job", "Served", "Ticket", "by_tenant"]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Matrices of one call that may share a batch with others of the same key.

    Attributes:
        program: method, schedule and precision, fixed from the call alone.
        batch: the matrices.
        function: the call's function, for statistics.
        seconds: predicted device time of all matrices.
        bytes: size of all inputs and outputs.
        priority: 0 to 9, higher goes first.
        arrived: when it came to the queue, on the service's clock.
        deadline: when the answer is worthless, on the same clock.
        is_piece: whether it is one of several jobs that its call was divided into.
        answer_bytes: size of the outputs of a matrix.
        tenant: name of the caller's API key; empty on a server without keys.
        correction: the factor, found from earlier batches, in `seconds`.
        trace: of its request, if that is recorded.
        key: that all jobs of a batch share: the program, or the decomposition that programs share; None takes that of
            the program, whose hash takes microseconds.
    """

    program: Program
    batch: Batch
    function: str
    seconds: float
    bytes: int
    priority: int
    arrived: float
    deadline: float = math.inf
    is_piece: bool = False
    answer_bytes: int = 0
    tenant: str = ""
    correction: float = 1.0
    trace: Trace | None = None
    key: Hashable = None

    def __post_init__(self) -> None:
        if self.key is None:
            object.__setattr__(self, "key", batch_key(self.program))

    @property
    def priced(self) -> float:
        """Device seconds as the profile predicts them, without a correction."""
        return self.seconds / self.correction

    @property
    def items(self) -> int:
        """Number of matrices."""
        return self.batch.items

    def divided(self, pieces: int) -> tuple[Job, ...]:
        """Divides the job into up to `pieces` jobs of nearly equal numbers of matrices, in order."""
        total = self.batch.items
        bounds = [total * piece // pieces for piece in range(pieces + 1)]
        spans = [(start, stop) for start, stop in pairwise(bounds) if stop > start]
        return tuple(self._rows(start, stop) for start, stop in spans) if len(spans) > 1 else (self,)

    def corrected(self, factor: float) -> Job:
        """The job with its price times this factor."""
        return replace(self, seconds=self.priced * factor, correction=factor)

    def cut(self, rows: int) -> tuple[Job, Job]:
        """The first rows, and the rest."""
        return self._rows(0, rows), self._rows(rows, self.batch.items)

    def _rows(self, start: int, stop: int) -> Job:
        share = (stop - start) / self.batch.items
        return replace(
            self,
            batch=self.batch.rows(start, stop),
            seconds=self.seconds * share,
            bytes=math.ceil(self.bytes * share),
            is_piece=True,
        )


@dataclass(frozen=True, slots=True)
class Served:
    """Answers to one job or ticket.

    Attributes:
        evaluations: the answers, in order of the matrices, in as many pieces as they were computed in.
        queue_seconds: from arrival to launch.
        spans: when the device computed its batches, from and to, on the service's clock.
        batch_size: all matrices in the batch.
        fill: the batch against the largest allowed, the larger of its shares of the time and of the bytes.
        batches: the spans of the batches, where these are recorded.
    """

    evaluations: tuple[Encoded, ...]
    queue_seconds: float
    spans: tuple[tuple[float, float], ...]
    batch_size: int
    fill: float
    batches: tuple[SpanReference, ...] = ()

    @property
    def ended(self) -> float:
        """When the last batch came back."""
        return max(stop for _, stop in self.spans)

    @property
    def device_seconds(self) -> float:
        """Time in which the device computed, that of batches side by side counted once."""
        total, end = 0.0, -math.inf
        for start, stop in sorted(self.spans):
            total += max(0.0, stop - max(start, end))
            end = max(end, stop)
        return total


@dataclass(slots=True, eq=False)
class Ticket:
    """A caller's claim to the answers of its jobs; `future` gets one Served or one exception, once."""

    jobs: tuple[Job, ...]
    future: asyncio.Future[Served]
    timer: asyncio.TimerHandle | None = None
    _served: dict[Job, Served] = field(default_factory=dict)

    @property
    def deadline(self) -> float:
        """When the answer is worthless."""
        return self.jobs[0].deadline

    async def ended(self) -> None:
        """Waits until the ticket has an answer, an error, or is abandoned."""
        try:
            await self.future
        except Exception:  # noqa: BLE001 - the caller gets it from the future
            return
        except asyncio.CancelledError:
            if not self.future.cancelled():
                raise

    def divide(self, job: Job, pieces: Sequence[Job]) -> None:
        """Waits for the pieces of a job in its place."""
        at = self.jobs.index(job)
        self.jobs = (*self.jobs[:at], *pieces, *self.jobs[at + 1 :])

    def deliver(self, job: Job, served: Served) -> bool:
        """Takes the answer to one job; returns whether it was the last one missing."""
        self._served[job] = served
        if len(self._served) < len(self.jobs) or self.future.done():
            return False
        self._close()
        self.future.set_result(_combined([self._served[job] for job in self.jobs]))
        return True

    def fail(self, error: Exception) -> bool:
        """Ends the wait with an error; returns False if it had ended before."""
        if self.future.done():
            return False
        self._close()
        self.future.set_exception(error)
        self.future.exception()  # marked as retrieved, so that asyncio does not log it if the caller hangs up now
        return True

    def abandon(self) -> None:
        """Ends the wait without an answer, for a caller that has hung up."""
        self._close()
        self.future.cancel()

    def _close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


def _combined(pieces: Sequence[Served]) -> Served:
    if len(pieces) == 1:
        return pieces[0]
    return Served(
        evaluations=tuple(evaluation for piece in pieces for evaluation in piece.evaluations),
        queue_seconds=min(piece.queue_seconds for piece in pieces),
        spans=tuple(span for piece in pieces for span in piece.spans),
        batch_size=max(piece.batch_size for piece in pieces),
        fill=max(piece.fill for piece in pieces),
        batches=tuple(batch for piece in pieces for batch in piece.batches),
    )


def by_tenant(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """The jobs of each tenant."""
    owned: dict[str, list[Job]] = {}
    for job in jobs:
        owned.setdefault(job.tenant, []).append(job)
    return owned
