"""The spans that a service would export, as Google's library reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from matfn_service.telemetry import OpenTelemetry

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

    from matfn_service.telemetry import Record

__all__ = ["KeptSpan", "KeptSpans"]


@dataclass(frozen=True)
class KeptSpan:
    """A span."""

    name: str
    is_of_server: bool
    is_error: bool
    ids: tuple[str, str]
    parent: str
    start: int
    end: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]

    @classmethod
    def of(cls, span: Span) -> KeptSpan:
        """The span in a message."""
        return cls(
            span.name,
            span.kind == Span.SPAN_KIND_SERVER,
            span.status.code == Status.STATUS_CODE_ERROR,
            (span.trace_id.hex(), span.span_id.hex()),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            {one.key: _value(one.value) for one in span.attributes},
            [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        )


class KeptSpans:
    """A service's telemetry that keeps its spans, those that the sampler chooses."""

    def __init__(self, sampler: Sampler = DEFAULT_ON) -> None:
        self._records: list[Record] = []
        self.telemetry = OpenTelemetry(TracerProvider(sampler, shutdown_on_exit=False), self)

    def on_end(self, span: Record) -> None:
        """Keeps a record."""
        assert span.context.trace_flags.sampled
        self._records.append(span)

    def shutdown(self) -> None:
        """Nothing to end."""

    @property
    def all(self) -> list[KeptSpan]:
        """Every span."""
        return [KeptSpan.of(span) for record in self._records for span in ScopeSpans.FromString(record.spans).spans]

    def __call__(self, name: str) -> list[KeptSpan]:
        """Those of this name."""
        return [span for span in self.all if span.name == name]

    @property
    def names(self) -> list[str]:
        """The names of all, in order."""
        return sorted(span.name for span in self.all)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None
    found = getattr(value, kind)
    return [_value(one) for one in found.values] if kind == "array_value" else found
