"""Counters since the start: plain sums, kept on the event loop, shown by /v1/status and /metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from matfn_kernels import ENTRIES
from matfn_service.batch_log import BatchLog
from matfn_service.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matfn_kernels import Outcome
    from matfn_service.encoding import Status

__all__ = ["ANSWERED", "NO_FUNCTION", "STAGES", "FunctionStatistics", "Statistics"]

ANSWERED: Final = "ok"
NO_FUNCTION: Final = "none"  # for unknown names, so that the counters stay bounded
STAGES: Final = ("read", "plan", "check", "copy", "join", "encode", "write")
"""Stages of a call besides waiting and computing, in order."""

_COUNTED_OF: Final = attrgetter("outcome", "code", "fallback")
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SHARES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_RATIOS: Final = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


@dataclass(slots=True)
class FunctionStatistics:
    """Batches in which a function took part, and its matrices in them."""

    batches: int = 0
    matrices: int = 0


@dataclass(slots=True)
class Statistics:
    """Running sums of requests, calls, batches and matrices.

    Attributes:
        calls: calls by function and by what they got: an answer, or a problem of this code.
        matrices: matrices that were computed, by function, outcome and code.
        escalations: matrices whose answer is from a later method than the first, by function.
        fallbacks: the methods that were tried on them before, by function and method.
        dropped_disconnected: calls dropped before the device saw them because the caller had hung up.
        dropped_deadline: calls whose deadline came while they waited or ran.
        dropped_busy: calls that found no room in the queue.
        dropped_unread: connections closed because their answers were not read.
        bisections: batches cut in two to find the matrix that made a kernel raise.
        halvings: batches cut in two because the device was out of memory.
        isolated: parts of one call that failed alone, after such cuts.
        bytes_received: bodies of requests that compute.
        bytes_sent: their answers.
        worker_seconds: time that workers computed.
        predicted_seconds: predicted time of the same work, as corrected by earlier batches.
        priced_seconds: predicted time of the same work by the profile alone.
        tenant_seconds: time that workers computed, by tenant.
        batch_sizes: number of batches by their number of matrices.
        functions: batches and matrices by function.
        request_seconds: requests, from the head's arrival until the answer has been handed over.
        stage_seconds: by stage, parts of it, and for `copy` the copies of a batch to its worker and back.
        queue_seconds: jobs, from arrival in the queue to launch.
        device_seconds: batches, on the device.
        batch_fill: batches, by the share of the largest allowed one that they take.
        cost_ratio: batches, measured seconds for a predicted one.
        loop_lag_seconds: by how much the event loop was late, at each look of the watchdog.
        log: the last batches.
    """

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    matrices: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    escalations: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped_disconnected: int = 0
    dropped_deadline: int = 0
    dropped_busy: int = 0
    dropped_unread: int = 0
    bisections: int = 0
    halvings: int = 0
    isolated: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    worker_seconds: float = 0.0
    predicted_seconds: float = 0.0
    priced_seconds: float = 0.0
    tenant_seconds: defaultdict[str, float] = field(default_factory=partial(defaultdict, float))
    batch_sizes: Counter[int] = field(default_factory=Counter)
    functions: dict[str, FunctionStatistics] = field(default_factory=dict)
    request_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))
    stage_seconds: dict[str, Histogram] = field(
        default_factory=lambda: {stage: Histogram(_SECONDS) for stage in STAGES}
    )
    queue_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))
    device_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))
    batch_fill: Histogram = field(default_factory=partial(Histogram, _SHARES))
    cost_ratio: Histogram = field(default_factory=partial(Histogram, _RATIOS))
    loop_lag_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))
    log: BatchLog = field(default_factory=BatchLog)

    @property
    def answered(self) -> int:
        """Calls that got an answer."""
        return sum(number for (_, code), number in self.calls.items() if code == ANSWERED)

    @property
    def failed(self) -> Counter[str]:
        """Calls that got a problem, by its code."""
        failed: Counter[str] = Counter()
        for (_, code), number in self.calls.items():
            if code != ANSWERED:
                failed[code] += number
        return failed

    def add_edge(self, other: Statistics) -> None:
        """Counts what another process has counted of requests and connections."""
        self.calls += other.calls
        self.bytes_received += other.bytes_received
        self.bytes_sent += other.bytes_sent
        self.dropped_unread += other.dropped_unread
        for own, more in zip(self._of_edge, other._of_edge, strict=True):
            own.add(more)

    def taken_edge(self) -> Statistics:
        """Counts of requests and connections, which are forgotten here."""
        taken = Statistics()
        taken.add_edge(self)
        self.calls.clear()
        self.bytes_received = self.bytes_sent = self.dropped_unread = 0
        for histogram in self._of_edge:
            histogram.clear()
        return taken

    @property
    def _of_edge(self) -> list[Histogram]:
        return [self.request_seconds, self.loop_lag_seconds, *self.stage_seconds.values()]

    def count_call(self, function: str, code: str = ANSWERED, times: int = 1) -> None:
        """Counts a call, or several alike, by function and code."""
        self.calls[function if function in ENTRIES else NO_FUNCTION, code] += times

    def count_stage(self, stage: str, seconds: float) -> None:
        """Counts the time of one of `STAGES`."""
        self.stage_seconds[stage].count(seconds)

    def count_unread(self) -> None:
        """Counts a connection that was closed because its answers were not read."""
        self.dropped_unread += 1

    def count_sent(self, size: int, seconds: float) -> None:
        """Counts the answer to one request and the time since that began."""
        self.bytes_sent += size
        self.request_seconds.count(seconds)

    def count_batch(self, matrices: Mapping[str, int], waits: Iterable[float], fill: float) -> None:
        """Counts one batch with so many matrices of each function, whose jobs have waited so long."""
        self.batch_sizes[sum(matrices.values())] += 1
        for function, number in matrices.items():
            entry = self.functions.setdefault(function, FunctionStatistics())
            entry.batches += 1
            entry.matrices += number
        for wait in waits:
            self.queue_seconds.count(wait)
        self.batch_fill.count(fill)

    def count_run(self, priced: float, predicted: float, on_device: float, on_workers: float, copying: float) -> None:
        """Counts the seconds of one batch.

        Args:
            priced: predicted by the profile.
            predicted: the same, corrected.
            on_device: that it took.
            on_workers: their sum over its workers.
            copying: that its copies took.
        """
        self.count_stage("copy", copying)
        self.device_seconds.count(on_device)
        self.worker_seconds += on_workers
        self.predicted_seconds += predicted
        self.priced_seconds += priced
        if predicted > 0.0:
            self.cost_ratio.count(on_workers / predicted)

    def count_outcomes(self, function: str, statuses: Sequence[Status]) -> None:
        """Counts the outcomes of matrices of one function."""
        for (outcome, code, fallback), number in _counted(statuses).items():
            self.matrices[function, outcome, code or "none"] += number
            if fallback is not None:
                self.escalations[function] += number
                for method in fallback.split(", "):
                    self.fallbacks[function, method] += number


def _counted(statuses: Sequence[Status]) -> Mapping[tuple[Outcome, str | None, str | None], int]:
    """Number of matrices by what is counted of a status; fast where all have one, as nearly always.

    Hints are left out: those of flawed matrices all differ.
    """
    if len(set(map(id, statuses))) == 1:
        return {_COUNTED_OF(statuses[0]): len(statuses)}
    return Counter(map(_COUNTED_OF, statuses))
