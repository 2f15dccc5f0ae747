"""The statistics as Prometheus reads them, at GET /metrics.

Nothing is counted here: at each scrape the plain sums of `matfn_service.statistics` and the state of queue and workers
are written down, so that a call pays for additions only. docs/operations.md says what each metric means.
"""

from __future__ import annotations

import platform
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import torch
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from matfn_service.histogram import Histogram
from matfn_service.ledger import Kind
from matfn_service.pulse import Loss
from matfn_service.service import State
from matfn_service.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from matfn_service.fronts.supervisor import Supervisor
    from matfn_service.ledger import Charges
    from matfn_service.service import Service
    from matfn_service.statistics import Statistics

__all__ = ["Metrics"]

_FORMER_NAMES: Final = {  # of metrics that are exported under both for one version
    "matfn_workers": "matfn_lanes",
    "matfn_workers_alive": "matfn_lanes_alive",
    "matfn_workers_lost": "matfn_lanes_lost",
    "matfn_worker_seconds": "matfn_lane_seconds",
}
_BATCH_SIZES: Final = tuple(float(2**exponent) for exponent in range(15))


class Metrics(Collector):
    """The metrics of one service, in a registry of their own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the format that an Accept header prefers, and that format's Content-Type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every metric of the service at this moment."""
        statistics = self._service.statistics
        yield from _calls(self._service)
        yield from _stages(statistics)
        yield from _batches(statistics)
        yield from _faults(statistics)
        yield from _queue(self._service)
        yield from _memory(self._service.charges)
        yield from _keys(self._service)
        for metric in _device(self._service):
            yield metric
            yield from _deprecated(metric)
        yield from _fronts(self._service.fronts)
        yield _state(self._service.state)
        yield InfoMetricFamily("matfn_build", "What runs, and on what.", _build(self._service.executor.device))


def _calls(service: Service) -> Iterator[Metric]:
    statistics = service.statistics
    yield _counters(
        "matfn_calls", "Calls, by what they got: ok or a code.", ("function", "code"), statistics.calls.items()
    )
    yield _counters(
        "matfn_matrices",
        "Matrices computed, by the outcome and code of their certificate.",
        ("function", "outcome", "code"),
        statistics.matrices.items(),
    )
    yield _counters(
        "matfn_escalations",
        "Matrices whose answer is from a later method than the first.",
        ("function",),
        [((function,), number) for function, number in statistics.escalations.items()],
    )
    yield _counters(
        "matfn_fallbacks",
        "Methods tried before the one that such an answer is from.",
        ("function", "method"),
        statistics.fallbacks.items(),
    )
    drops = [
        (("deadline",), statistics.dropped_deadline),
        (("disconnected",), statistics.dropped_disconnected),
        (("busy",), statistics.dropped_busy + service.ledger.refused),
        (("unread",), statistics.dropped_unread),
    ]
    yield _counters("matfn_drops", "Calls given up, by reason; connections for unread.", ("reason",), drops)
    yield CounterMetricFamily("matfn_received_bytes", "Request bodies.", statistics.bytes_received)
    yield CounterMetricFamily("matfn_sent_bytes", "Answers' bodies.", statistics.bytes_sent)


def _stages(statistics: Statistics) -> Iterator[Metric]:
    yield _histogram("matfn_request_seconds", "From a request's head to its answer.", statistics.request_seconds)
    wire = HistogramMetricFamily("matfn_wire_seconds", "Reading of requests, making of answers.", labels=["stage"])
    for stage, histogram in statistics.stage_seconds.items():
        wire.add_metric([stage], *_read_out(histogram))
    yield wire
    yield _histogram("matfn_queue_wait_seconds", "Waiting of jobs for a worker.", statistics.queue_seconds)
    yield _histogram("matfn_loop_lag_seconds", "Lateness of the event loop.", statistics.loop_lag_seconds)
    yield _histogram("matfn_device_seconds", "Time of batches on the device.", statistics.device_seconds)


def _batches(statistics: Statistics) -> Iterator[Metric]:
    sizes = Histogram(_BATCH_SIZES)
    for size, number in statistics.batch_sizes.items():
        sizes.count(size, number)
    yield _histogram("matfn_batch_matrices", "Matrices in a batch.", sizes)
    yield _histogram("matfn_batch_fill_ratio", "Batches against the largest allowed.", statistics.batch_fill)
    yield _histogram("matfn_cost_ratio", "Seconds a batch took for each that was predicted.", statistics.cost_ratio)


def _faults(statistics: Statistics) -> Iterator[Metric]:
    yield CounterMetricFamily("matfn_bisections", "Batches cut in two after a kernel raised.", statistics.bisections)
    yield CounterMetricFamily("matfn_halvings", "Batches cut in two for want of memory.", statistics.halvings)
    yield CounterMetricFamily("matfn_isolated_failures", "Parts of one call that failed alone.", statistics.isolated)


def _queue(service: Service) -> Iterator[Metric]:
    queue = service.queue
    yield GaugeMetricFamily("matfn_queue_jobs", "Jobs that wait.", len(queue))
    yield GaugeMetricFamily("matfn_queue_seconds", "Predicted device time of what waits.", queue.seconds)
    yield GaugeMetricFamily("matfn_queue_bound_seconds", "Most of it that may wait.", queue.bound.seconds)
    yield GaugeMetricFamily("matfn_queue_bytes", "Inputs and outputs of what waits.", queue.bytes)
    yield GaugeMetricFamily("matfn_held_bytes", "Inputs and outputs of what waits or runs.", service.batcher.held_bytes)
    yield GaugeMetricFamily("matfn_held_bound_bytes", "Most of them that may be held.", queue.bound.bytes)


def _memory(processes: Sequence[Charges]) -> Iterator[Metric]:
    charged = GaugeMetricFamily("matfn_charged_bytes", "Memory that requests are charged, by use.", labels=["use"])
    for kind in Kind:
        charged.add_metric([kind.value], float(sum(one.held[kind] for one in processes)))
    yield charged
    bound = sum(one.bound for one in processes)
    yield GaugeMetricFamily("matfn_charged_bound_bytes", "Most of it for all requests.", bound)


def _keys(service: Service) -> Iterator[Metric]:
    seconds = service.statistics.tenant_seconds
    in_flight = GaugeMetricFamily("matfn_key_requests", "Requests in flight, by the key's name.", labels=["key"])
    held = GaugeMetricFamily("matfn_key_bytes", "Inputs and outputs of a key's calls in flight.", labels=["key"])
    spent = CounterMetricFamily("matfn_key_seconds", "Time that workers computed for a key.", labels=["key"])
    refused = CounterMetricFamily("matfn_key_refusals", "Calls that a limit of their key refused.", labels=["key"])
    for use in service.allowances:
        name = use.tenant.name
        in_flight.add_metric([name], use.requests)
        held.add_metric([name], use.bytes)
        spent.add_metric([name], seconds[name])
        refused.add_metric([name], use.refused)
    yield from (in_flight, held, spent, refused)


def _device(service: Service) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
    executor = service.executor
    yield GaugeMetricFamily("matfn_workers", "Shares that the device computes side by side.", executor.workers)
    yield GaugeMetricFamily("matfn_workers_alive", "Workers that can compute.", executor.alive)
    yield _losses("matfn_workers_lost", "Workers that were lost and replaced.", executor.losses)
    counted = service.statistics
    yield CounterMetricFamily("matfn_worker_seconds", "Time that workers computed.", counted.worker_seconds)
    yield CounterMetricFamily("matfn_predicted_seconds", "The same as it was predicted.", counted.predicted_seconds)
    yield CounterMetricFamily("matfn_priced_seconds", "The same by the profile alone.", counted.priced_seconds)
    yield GaugeMetricFamily("matfn_corrections", "Programs with a corrected price.", service.batcher.corrected)


def _fronts(others: Supervisor | None) -> Iterator[Metric]:
    """Processes that hold connections, the service's own among them."""
    wanted, alive, losses = (0, 0, {}) if others is None else (others.wanted, others.alive, others.losses)
    yield GaugeMetricFamily("matfn_fronts", "Processes that hold connections.", 1 + wanted)
    yield GaugeMetricFamily("matfn_fronts_alive", "Those of them that run.", 1 + alive)
    yield _losses("matfn_fronts_lost", "Those of them that were lost and replaced.", losses)


def _losses(name: str, text: str, losses: Mapping[Loss, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=("reason",))
    for loss in Loss:
        family.add_metric((loss,), losses.get(loss, 0))
    return family


def _deprecated(metric: CounterMetricFamily | GaugeMetricFamily) -> Iterator[Metric]:
    """The metric under its former name, if it had one."""
    former = _FORMER_NAMES.get(metric.name)
    if former is not None:
        samples = metric.samples
        yield type(metric)(former, f"Deprecated name of {samples[0].name}.", sum(one.value for one in samples))


def _state(now: State) -> Metric:
    family = GaugeMetricFamily("matfn_state", "1 for the state that the service is in.", labels=["state"])
    for state in State:
        family.add_metric([state.value], float(state is now))
    return family


def _build(device: str) -> dict[str, str]:
    python = platform.python_version()
    return {"version": VERSION, "python": python, "torch": torch.__version__, "device": device}


def _counters(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets, total = _read_out(histogram)
    return HistogramMetricFamily(name, text, buckets, total)


def _read_out(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Cumulated counts by upper bound, and the sum."""
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.sum
