"""The statistics as OpenTelemetry's metrics: at each export the plain sums are written down, as for Prometheus.

Names and units are those of the semantic conventions for HTTP, and `matfn.*` for queue and batches. Only requests by
method, route and status are counted here, since nothing else counts them.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData

from matfn_service.conventions import HTTP_LABELS, RPC_LABELS
from matfn_service.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from matfn_service.conventions import Labels
    from matfn_service.service import Service

__all__ = ["ServiceMetrics"]

_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_DURATIONS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)  # the conventions'
_SIZES: Final = tuple(float(4**power) for power in range(4, 16))  # bytes, from 256 to 1 GiB
_BATCHES: Final = tuple(float(2**power) for power in range(15))  # matrices

_NAMES: Final = {"http": HTTP_LABELS, "rpc": RPC_LABELS}


@dataclass(slots=True)
class _Requests:
    """Requests of one protocol with the same method, route and status."""

    seconds: Histogram = field(default_factory=partial(Histogram, _DURATIONS))
    received: Histogram = field(default_factory=partial(Histogram, _SIZES))
    sent: Histogram = field(default_factory=partial(Histogram, _SIZES))


class ServiceMetrics:
    """The metrics of one service, exported at the interval that OTEL_METRIC_EXPORT_INTERVAL names.

    Args:
        resource: the process.
        scope: of the metrics.
        exporter: where they go.
    """

    def __init__(self, resource: Resource, scope: InstrumentationScope, exporter: MetricExporter) -> None:
        self._scope = scope
        self._requests: dict[str, dict[Labels, _Requests]] = {kind: {} for kind in _NAMES}
        # the library exports nothing, ours neither, as long as it has no figure of its own
        self._active: Counter[Labels] = Counter({("POST", "http"): 0})
        self._service: Service | None = None
        self._started = time.time_ns()
        reader = PeriodicExportingMetricReader(_Completing(self, exporter))
        self._provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._provider.get_meter(scope.name, scope.version, scope.schema_url).create_observable_up_down_counter(
            "http.server.active_requests", [self._observed], "{request}", "Requests that are being served."
        )

    def watch(self, service: Service) -> None:
        """Exports this service's metrics too, from now on."""
        self._service = service

    def begin(self, method: str, scheme: str) -> None:
        """Counts a request that has begun."""
        self._active[method, scheme] += 1

    def end(self, kind: str, labels: Labels, figures: tuple[float, int, int]) -> None:
        """Counts a request that has ended: its seconds, and the bytes of its body and its answer.

        Args:
            kind: `http` or `rpc`.
            labels: its attributes, in the order of `conventions.HTTP_LABELS` or `RPC_LABELS`.
            figures: what is counted.
        """
        if kind == "http":
            self._active[labels[:2]] -= 1
        alike = self._requests[kind]
        requests = alike.get(labels)
        if requests is None:
            requests = alike[labels] = _Requests()
        seconds, received, sent = figures
        requests.seconds.count(seconds)
        requests.received.count(received)
        requests.sent.count(sent)

    def flush(self) -> None:
        """Exports the figures as they are."""
        self._provider.force_flush()

    def shutdown(self) -> None:
        """Exports the last figures."""
        self._provider.shutdown()

    def _observed(self, options: CallbackOptions) -> Iterator[Observation]:
        del options
        for labels, number in dict(self._active).items():
            yield Observation(number, _named("http", labels))

    def written(self) -> ScopeMetrics:
        """All but the requests in flight."""
        metrics = [*self._of_requests(), *self._of_service()]
        return ScopeMetrics(self._scope, metrics, self._scope.schema_url or "")

    def _of_requests(self) -> Iterator[Metric]:
        for kind, name, unit, text, attribute in (
            ("http", "http.server.request.duration", "s", "Duration of requests.", "seconds"),
            ("http", "http.server.request.body.size", "By", "Size of their bodies.", "received"),
            ("http", "http.server.response.body.size", "By", "Size of their answers.", "sent"),
            ("rpc", "rpc.server.call.duration", "s", "Duration of calls over gRPC.", "seconds"),
        ):
            counted = dict(self._requests[kind])  # a copy: requests end meanwhile
            values = [(_named(kind, labels), getattr(requests, attribute)) for labels, requests in counted.items()]
            if values or kind == "http":
                yield self._histogram(name, unit, text, values)

    def _of_service(self) -> Iterator[Metric]:
        service = self._service
        if service is None:
            return
        counted, sizes = service.statistics, Histogram(_BATCHES)
        for size, number in dict(counted.batch_sizes).items():
            sizes.count(size, number)
        for name, unit, text, histogram in (
            ("matfn.queue.duration", "s", "Waiting of jobs for a worker.", counted.queue_seconds),
            ("matfn.device.duration", "s", "Time of batches on the device.", counted.device_seconds),
            ("matfn.batch.size", "{matrix}", "Matrices in a batch.", sizes),
            ("matfn.batch.fill", "1", "Batches against the largest allowed.", counted.batch_fill),
        ):
            yield self._histogram(name, unit, text, [({}, histogram)])
        yield self._gauge("matfn.queue.jobs", "{job}", "Jobs that wait.", len(service.queue))
        yield self._gauge("matfn.queue.predicted_time", "s", "Device time of what waits.", service.queue.seconds)
        calls = [
            ({"matfn.function": function, "matfn.code": code}, number)
            for (function, code), number in dict(counted.calls).items()
        ]
        yield self._sum("matfn.calls", "{call}", "Calls, by what they got: ok or a code.", calls)
        matrices = [
            ({"matfn.function": function, "matfn.outcome": str(outcome), "matfn.code": code}, number)
            for (function, outcome, code), number in dict(counted.matrices).items()
        ]
        yield self._sum("matfn.matrices", "{matrix}", "Matrices computed, by outcome and code.", matrices)

    def _histogram(
        self, name: str, unit: str, text: str, values: Iterable[tuple[Mapping[str, Any], Histogram]]
    ) -> Metric:
        now = time.time_ns()
        points = [
            HistogramDataPoint(
                attributes=dict(labels),
                start_time_unix_nano=self._started,
                time_unix_nano=now,
                count=sum(counts),
                sum=histogram.sum,
                bucket_counts=counts,
                explicit_bounds=histogram.bounds,
                min=None,  # type: ignore[arg-type] # not kept, and optional in OTLP
                max=None,  # type: ignore[arg-type] # same
            )
            for labels, histogram in values
            for counts in ([*histogram.counts],)
        ]
        return Metric(name, text, unit, HistogramData(points, _CUMULATIVE))

    def _sum(self, name: str, unit: str, text: str, values: Iterable[tuple[Mapping[str, Any], int]]) -> Metric:
        now = time.time_ns()
        points = [NumberDataPoint(dict(labels), self._started, now, value) for labels, value in values]
        return Metric(name, text, unit, Sum(points, _CUMULATIVE, is_monotonic=True))

    def _gauge(self, name: str, unit: str, text: str, value: float) -> Metric:
        return Metric(name, text, unit, Gauge([NumberDataPoint({}, self._started, time.time_ns(), value)]))


def _named(kind: str, labels: Labels) -> dict[str, Any]:
    """The attributes that a request has, or the first of them."""
    return {name: value for name, value in zip(_NAMES[kind], labels, strict=False) if value not in {None, ""}}


class _Completing(MetricExporter):
    """Adds to each export what the service has counted itself."""

    def __init__(self, metrics: ServiceMetrics, exporter: MetricExporter) -> None:
        super().__init__()
        self._metrics = metrics
        self._exporter = exporter

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **named: Any) -> MetricExportResult:
        """Exports the library's metrics and the service's."""
        first, *others = metrics_data.resource_metrics
        first = replace(first, scope_metrics=[*first.scope_metrics, self._metrics.written()])
        return self._exporter.export(replace(metrics_data, resource_metrics=[first, *others]), timeout_millis, **named)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Has the exporter send what it still holds."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **named: Any) -> None:
        """Ends the exporter."""
        self._exporter.shutdown(timeout_millis, **named)
