"""OpenTelemetry: spans and metrics made of what the service has measured, and exported by OTLP over HTTP.

- Nothing is timed here. At a request's end its spans are made of the moments in its `Entry`; the span of a batch is
  made when the batch comes back.
- Spans are written at once as OTLP has them (`otlp`), and what they say as the conventions ask (`conventions`).
  Sampler, ids, resource, propagation, queue and transport are the library's, set by its own variables OTEL_*.
- The event loop puts the spans of a request into a queue of bounded length as one; a thread sends them. A full queue
  drops spans.
- A batch is the root of a trace of its own, since it serves several requests. It is recorded if one of them is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from matfn_service import otlp
from matfn_service.conventions import SCHEMA, described, labels_of, method_of, scheme_of
from matfn_service.protobuf import head_of
from matfn_service.telemetry_metrics import ServiceMetrics
from matfn_service.tracing import SpanReference
from matfn_service.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from starlette.types import Scope

    from matfn_service.conventions import Labels
    from matfn_service.service import Service
    from matfn_service.tracing import RanBatch, Request, Trace

__all__ = ["OpenTelemetry", "Record", "RequestTrace", "SpanExporter", "SpanWriter"]

_SCOPE: Final = InstrumentationScope("matfn", VERSION, SCHEMA)
_PARENT, _STATE = b"traceparent", b"tracestate"
_CARRIED: Final = frozenset({_PARENT, _STATE})
_MOST_LINKS: Final = 128  # the specification's own limit
_NOWHERE: Final = Context()  # a request without a parent has no other context either
_INTERNAL: Final = 1  # the kind of a span within the service
_BATCH: Final = otlp.named("batch", _INTERNAL)
_DECODE, _QUEUE, _DEVICE, _ENCODE = (otlp.named(name, _INTERNAL) for name in ("decode", "queue", "device", "encode"))

_log = structlog.get_logger(__name__)


class Record:
    """The spans of a request, or that of a batch, as OTLP has them; one item of the library's queue.

    Attributes:
        spans: fields of `ScopeSpans`.
        context: by which the queue sees that they are recorded.
    """

    __slots__ = ("spans",)
    context: Final = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def __init__(self, spans: bytes) -> None:
        self.spans = spans


class SpanQueue(Protocol):
    """The part of the library's span processors that is used."""

    def on_end(self, span: Any) -> None:
        """Takes a record."""

    def shutdown(self) -> None:
        """Exports what is left."""


class SpanExporter(OTLPSpanExporter):
    """Sends records with the library's headers, TLS, compression and retries.

    Args:
        resource: the process.
    """

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        self._resource, self._scope = _envelope(resource)

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Sends the spans of these records."""
        sent = self._client.export(self.message([record.spans for record in spans]))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE

    def message(self, spans: Sequence[bytes]) -> bytes:
        """An `ExportTraceServiceRequest` of the process's resource with these spans."""
        size = len(self._scope) + sum(map(len, spans))
        head = self._resource + head_of(2, size)
        return b"".join((head_of(1, len(head) + size), head, self._scope, *spans))


def _envelope(resource: Resource) -> tuple[bytes, bytes]:
    """`ResourceSpans` without its `ScopeSpans`, and `ScopeSpans` without spans, as the library writes them."""
    example = ReadableSpan("", Record.context, resource=resource, instrumentation_scope=_SCOPE)
    (whole,) = encode_spans([example]).resource_spans
    (scope,) = whole.scope_spans
    scope.ClearField("spans")
    written = scope.SerializeToString()
    whole.ClearField("scope_spans")
    return whole.SerializeToString(), written


@dataclass(frozen=True, slots=True)
class SpanWriter:
    """Makes spans, and puts them into a queue.

    Attributes:
        queue: where they go.
        ids: names spans and traces.
        most_links: of one span.
        clock: the service's, by which times are given.
    """

    queue: SpanQueue
    ids: IdGenerator
    most_links: int
    clock: Callable[[], float]

    def new_span(self, trace_id: bytes) -> SpanReference:
        """A new span of a trace."""
        return SpanReference(trace_id, self.ids.generate_span_id().to_bytes(8, "big"))

    def links(self, spans: Sequence[SpanReference]) -> bytes:
        """Links to the first of these spans, as many as a span may have."""
        return otlp.links_to(spans[: self.most_links])

    def offset(self) -> int:
        """Nanoseconds from the service's clock to the time of day; the same for all spans of a request."""
        return time.time_ns() - int(self.clock() * 1e9)

    def put(self, spans: bytes) -> None:
        """Has these spans exported."""
        self.queue.on_end(Record(spans))


@dataclass(slots=True)
class RequestTrace:
    """The trace of one request.

    Attributes:
        span: of the request.
        parent: the id of the caller's span; empty without one.
        state: the trace's state, as its header has it.
        writer: of its spans.
        is_recorded: whether its spans are exported.
        sampled_by: attributes that the sampler adds.
    """

    span: SpanReference
    parent: bytes
    state: str
    writer: SpanWriter
    is_recorded: bool
    sampled_by: Mapping[str, Any]

    @property
    def ids(self) -> dict[str, str]:
        """The names of trace and span, as log lines have them."""
        return {"trace_id": self.span.trace_id.hex(), "span_id": self.span.span_id.hex()}

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the answer: the request's span, by which a caller finds it."""
        named = f"00-{self.span.trace_id.hex()}-{self.span.span_id.hex()}-0{self.is_recorded:d}"
        if not self.state:
            return [(_PARENT, named.encode())]
        return [(_PARENT, named.encode()), (_STATE, self.state.encode("latin-1"))]

    def record_batch(self, traces: Sequence[Trace], ran: RanBatch) -> SpanReference:
        """Records a batch with links to these requests' spans; returns its span."""
        writer, offset = self.writer, self.writer.offset()
        batch = writer.new_span(writer.ids.generate_trace_id().to_bytes(16, "big"))
        links = writer.links([*dict.fromkeys(trace.span for trace in traces)])
        times = int(ran.launched * 1e9) + offset, int(ran.ended * 1e9) + offset
        writer.put(otlp.span(batch, b"", _BATCH, times, otlp.batch_attributes(ran) + links))
        return batch


class OpenTelemetry:
    """Traces and metrics of a service.

    Args:
        provider: whose sampler and ids are used.
        queue: where records go; None where no traces are wanted.
        metrics: the service's, as they are exported; None where none are wanted.
        clock: the service's.
    """

    def __init__(
        self,
        provider: TracerProvider,
        queue: SpanQueue | None,
        metrics: ServiceMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sampler = provider.sampler
        self._queue = queue
        self._metrics = metrics
        most_links = SpanLimits().max_links or _MOST_LINKS
        self._writer = None if queue is None else SpanWriter(queue, provider.id_generator, most_links, clock)
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> OpenTelemetry:
        """Exporters as the standard variables say."""
        resource = _resource()
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        queue = metrics = None
        if _is_wanted(environment, "TRACES"):
            queue = BatchSpanProcessor(SpanExporter(resource))
        if _is_wanted(environment, "METRICS"):
            metrics = ServiceMetrics(resource, _SCOPE, OTLPMetricExporter())
        return cls(provider, queue, metrics)

    def watch(self, service: Service) -> None:
        """Exports the metrics of a service from now on."""
        if self._metrics is not None:
            self._metrics.watch(service)

    def begin(self, scope: Scope) -> RequestTrace | None:
        """The trace of a request, which continues its caller's; None where only metrics are wanted."""
        if self._metrics is not None and scope["type"] == "http":
            self._metrics.begin(method_of(scope), scheme_of(scope))
        return None if self._writer is None else self._begun(scope, self._writer)

    def _begun(self, scope: Scope, writer: SpanWriter) -> RequestTrace:
        named = [header for header in scope["headers"] if header[0] in _CARRIED]
        context = self._callers_context(named) if named else _NOWHERE
        parent = get_current_span(context).get_span_context() if named else INVALID_SPAN_CONTEXT
        has_parent = parent is not INVALID_SPAN_CONTEXT and parent.is_valid
        trace_id = parent.trace_id if has_parent else writer.ids.generate_trace_id()
        sampled = self._sampler.should_sample(context, trace_id, method_of(scope), SpanKind.SERVER)
        return RequestTrace(
            writer.new_span(trace_id.to_bytes(16, "big")),
            parent.span_id.to_bytes(8, "big") if has_parent else b"",
            sampled.trace_state.to_header() if sampled.trace_state else "",
            writer,
            sampled.decision is Decision.RECORD_AND_SAMPLE,
            sampled.attributes,
        )

    def _callers_context(self, headers: Sequence[tuple[bytes, bytes]]) -> Context:
        carried = {name.decode(): value.decode("latin-1") for name, value in headers}
        return self._propagator.extract(carried, _NOWHERE)

    def passed_on(self, span: SpanReference) -> RequestTrace | None:
        """The trace of a request of another process of this server, to whose recorded span a batch is linked."""
        return (
            None if self._writer is None else RequestTrace(span, b"", "", self._writer, is_recorded=True, sampled_by={})
        )

    def end(self, trace: Trace | None, request: Request) -> None:
        """Counts the request, and records its spans."""
        labels = labels_of(request)
        if self._metrics is not None:
            self._metrics.end(request.scope["type"], labels, _figures(request))
        if isinstance(trace, RequestTrace) and trace.is_recorded:
            trace.writer.put(_spans_of(trace, request, labels))

    def close(self) -> None:
        """Exports what is left; waits for the collector."""
        for one in (self._queue, self._metrics):
            if one is not None:
                one.shutdown()


def _figures(request: Request) -> tuple[float, int, int]:
    """Seconds, and bytes received and sent."""
    return request.ended - request.head.arrived, request.entry.received, request.entry.sent


def _spans_of(trace: RequestTrace, request: Request, labels: Labels) -> bytes:
    """The spans of a request that has ended: its stages, and its own."""
    writer, span, offset = trace.writer, trace.span, trace.writer.offset()
    facts = described(request, labels)
    added = otlp.attributes_of(trace.sampled_by.items()) if trace.sampled_by else b""
    own = otlp.span(
        span,
        otlp.below(trace.parent, trace.state),
        facts.head,
        (int(request.head.arrived * 1e9) + offset, int(request.ended * 1e9) + offset),
        added + facts.attributes,
        otlp.outcome_of(is_error=facts.is_error, is_remote=bool(trace.parent)),
    )
    return otlp.children(span, trace.state, _stages(request, writer, offset)) + own


def _stages(request: Request, writer: SpanWriter, offset: int) -> list[otlp.Part]:
    """The stages that a request has left behind; that on the device is linked to the batches that computed it."""
    entry = request.entry
    if not entry.queued:
        return []
    queued = int(entry.queued * 1e9) + offset
    found = [(_DECODE, int(request.head.arrived * 1e9) + offset, queued, b"")]
    if entry.spans:
        start, stop = min(start for start, _ in entry.spans), max(stop for _, stop in entry.spans)
        links = writer.links([*entry.batches])
        found.append((_QUEUE, queued, int((entry.queued + entry.queue_seconds) * 1e9) + offset, b""))
        found.append((_DEVICE, int(start * 1e9) + offset, int(stop * 1e9) + offset, links))
    if entry.encoded:
        found.append((_ENCODE, int(entry.computed * 1e9) + offset, int(entry.encoded * 1e9) + offset, b""))
    return found


def _is_wanted(environment: Mapping[str, str], signal: str) -> bool:
    """Whether traces or metrics have an endpoint, and are not switched off."""
    chosen = environment.get(f"OTEL_{signal}_EXPORTER", "").strip() or "otlp"
    if chosen not in {"otlp", "none"}:
        _log.warning("not exported", signal=signal.lower(), reason=f"OTEL_{signal}_EXPORTER={chosen} is not otlp")
    named = (environment.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", f"{signal}_"))
    return chosen == "otlp" and any(named)


def _resource() -> Resource:
    """The process, by the standard variables, and as `matfn` where they do not name it."""
    named = OTELResourceDetector().detect().attributes.get(SERVICE_NAME, "matfn")
    return Resource.create({SERVICE_NAME: named, SERVICE_VERSION: VERSION})
