"""The metrics that a service would export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

__all__ = ["KeptMetrics"]


class KeptMetrics(MetricExporter):
    """Keeps what was exported last, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[Any]] = {}

    def export(self, metrics_data: MetricsData, timeout_millis: float = 0.0, **named: Any) -> MetricExportResult:
        """Keeps them."""
        del timeout_millis, named
        (resource,) = metrics_data.resource_metrics
        metrics = [metric for scope in resource.scope_metrics for metric in scope.metrics]
        self.found = {metric.name: [*metric.data.data_points] for metric in metrics}
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0.0) -> bool:
        """Nothing waits."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 0.0, **named: Any) -> None:
        """Nothing to end."""
        del timeout_millis, named
