"""OpenTelemetry: spans and metrics made of what the service has measured, and exported by OTLP over HTTP.

- Nothing is timed here. At a request's end its spans are made of the moments in its `Entry`; the span of a batch is
  made when the batch comes back.
- Spans are made as `ReadableSpan`s, not by a tracer, which takes 15 times as long for the same records. Sampler, ids,
  resource, propagation and export are the library's, set by its own variables OTEL_*.
- The event loop puts spans into a queue of bounded length; a thread encodes and sends them. A full queue drops spans.
- A batch is the root of a trace of its own, since it serves several requests. It is recorded if one of them is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from matfn_service.access_log import LEFT, plain_path
from matfn_service.telemetry_metrics import ServiceMetrics
from matfn_service.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opentelemetry.sdk.trace import SpanProcessor
    from starlette.types import Scope

    from matfn_service.access_log import Entry
    from matfn_service.service import Service
    from matfn_service.telemetry_metrics import Labels
    from matfn_service.tracing import RanBatch, Request, Trace

__all__ = ["OpenTelemetry", "RequestTrace", "SpanWriter"]

_SCOPE: Final = InstrumentationScope("matfn", VERSION, "https://opentelemetry.io/schemas/1.44.0")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_OTHER: Final = "_OTHER"  # for methods that the conventions do not know
_PARENT, _STATE = b"traceparent", b"tracestate"
_CARRIED: Final = frozenset({_PARENT, _STATE})
_MOST_LINKS: Final = 128  # the specification's own limit
_UNSET: Final = Status()
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_AGENT: Final = 200  # most letters of a User-Agent
_SERVER_ERROR: Final = 500
_NOWHERE: Final = Context()  # a request without a parent has no other context either

_log = structlog.get_logger(__name__)


class _Span(ReadableSpan):
    """A span from which nothing was dropped, so that its encoder need not look what kinds of lists it has."""

    dropped_attributes = dropped_events = dropped_links = 0


class _Process(Resource):
    """A resource that is hashed once: its encoder looks it up for each span, and a hash is all of it as JSON."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class SpanWriter:
    """Makes spans, and gives them to a processor.

    Attributes:
        processor: where they go.
        resource: of the process.
        new_span_id: names spans.
        new_trace_id: names traces.
        most_links: of one span.
        clock: the service's, by which times are given.
    """

    processor: SpanProcessor
    resource: Resource
    new_span_id: Callable[[], int]
    new_trace_id: Callable[[], int]
    most_links: int
    clock: Callable[[], float]

    def child(self, parent: SpanContext) -> SpanContext:
        """The context of a new span in the trace of its parent."""
        return SpanContext(
            parent.trace_id,
            self.new_span_id(),
            is_remote=False,
            trace_flags=parent.trace_flags,
            trace_state=parent.trace_state,
        )

    def root(self) -> SpanContext:
        """The context of the first span of a new trace, which is recorded."""
        return SpanContext(self.new_trace_id(), self.new_span_id(), is_remote=False, trace_flags=_SAMPLED)

    def links(self, contexts: Sequence[SpanContext]) -> list[Link]:
        """Links to the first of these spans, as many as a span may have."""
        return [Link(context) for context in contexts[: self.most_links]]

    def offset(self) -> int:
        """Nanoseconds from the service's clock to the time of day; the same for all spans of a request."""
        return time.time_ns() - int(self.clock() * 1e9)

    def write(self, name: str, context: SpanContext, start: float, end: float, offset: int, **facts: Any) -> None:
        """Writes a span that lasted between these times of the service's clock."""
        self.processor.on_end(
            _Span(
                name,
                context,
                resource=self.resource,
                start_time=int(start * 1e9) + offset,
                end_time=int(end * 1e9) + offset,
                instrumentation_scope=_SCOPE,
                **facts,
            )
        )


@dataclass(slots=True)
class RequestTrace:
    """The trace of one request: `context` is that of its span, `parent` the caller's."""

    context: SpanContext
    parent: SpanContext | None
    writer: SpanWriter
    is_recorded: bool
    sampled_by: Mapping[str, Any]  # attributes that the sampler adds

    @property
    def ids(self) -> dict[str, str]:
        """The names of trace and span, as log lines have them."""
        return {"trace_id": format_trace_id(self.context.trace_id), "span_id": format_span_id(self.context.span_id)}

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the answer: the request's span, by which a caller finds it."""
        context = self.context
        named = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        if not context.trace_state:
            return [(_PARENT, named.encode())]
        return [(_PARENT, named.encode()), (_STATE, context.trace_state.to_header().encode("latin-1"))]

    def record_batch(self, traces: Sequence[Trace], ran: RanBatch) -> SpanContext:
        """Records a batch with links to these requests' spans; returns the context of its span."""
        spans = {trace.context.span_id: trace.context for trace in traces if isinstance(trace, RequestTrace)}
        context = self.writer.root()
        attributes = {
            "matfn.function": ", ".join(ran.functions),
            "matfn.batch.size": ran.matrices,
            "matfn.batch.fill": ran.fill,
        }
        links = self.writer.links([*spans.values()])
        offset = self.writer.offset()
        self.writer.write("batch", context, ran.launched, ran.ended, offset, attributes=attributes, links=links)
        return context


class OpenTelemetry:
    """Traces and metrics of a service.

    Args:
        provider: whose sampler, ids and resource are used.
        processor: where spans go; None where no traces are wanted.
        metrics: the service's, as they are exported; None where none are wanted.
        clock: the service's.
    """

    def __init__(
        self,
        provider: TracerProvider,
        processor: SpanProcessor | None,
        metrics: ServiceMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sampler = provider.sampler
        self._processor = processor
        self._metrics = metrics
        ids, most_links = provider.id_generator, SpanLimits().max_links or _MOST_LINKS
        self._writer = (
            SpanWriter(
                processor, _Process(provider.resource), ids.generate_span_id, ids.generate_trace_id, most_links, clock
            )
            if processor is not None
            else None
        )
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> OpenTelemetry:
        """Exporters as the standard variables say."""
        resource = _resource()
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        processor = metrics = None
        if _is_wanted(environment, "TRACES"):
            processor = BatchSpanProcessor(OTLPSpanExporter())
        if _is_wanted(environment, "METRICS"):
            metrics = ServiceMetrics(resource, _SCOPE, OTLPMetricExporter())
        return cls(provider, processor, metrics)

    def watch(self, service: Service) -> None:
        """Exports the metrics of a service from now on."""
        if self._metrics is not None:
            self._metrics.watch(service)

    def begin(self, scope: Scope) -> RequestTrace | None:
        """The trace of a request, which continues its caller's; None where only metrics are wanted."""
        if self._metrics is not None:
            self._metrics.begin(method_of(scope), _scheme(scope))
        return None if self._writer is None else self._begun(scope, self._writer)

    def _begun(self, scope: Scope, writer: SpanWriter) -> RequestTrace:
        context = self._callers_context(scope["headers"])
        parent = get_current_span(context).get_span_context() if context is not _NOWHERE else INVALID_SPAN_CONTEXT
        trace_id = parent.trace_id if parent.is_valid else writer.new_trace_id()
        sampled = self._sampler.should_sample(context, trace_id, method_of(scope), SpanKind.SERVER)
        is_recorded = sampled.decision is Decision.RECORD_AND_SAMPLE
        own = SpanContext(
            trace_id,
            writer.new_span_id(),
            is_remote=False,
            trace_flags=_SAMPLED if is_recorded else TraceFlags.get_default(),
            trace_state=sampled.trace_state,
        )
        return RequestTrace(own, parent if parent.is_valid else None, writer, is_recorded, sampled.attributes)

    def _callers_context(self, headers: Sequence[tuple[bytes, bytes]]) -> Context:
        named = [(name.decode(), value.decode("latin-1")) for name, value in headers if name in _CARRIED]
        return self._propagator.extract(dict(named), _NOWHERE) if named else _NOWHERE

    def end(self, trace: Trace | None, request: Request) -> None:
        """Counts the request, and records its spans."""
        if self._metrics is not None:
            self._metrics.end(_labels(request), _figures(request))
        if isinstance(trace, RequestTrace) and trace.is_recorded:
            _write_request(trace, request)

    def close(self) -> None:
        """Exports what is left; waits for the collector."""
        for one in (self._processor, self._metrics):
            if one is not None:
                one.shutdown()


def method_of(scope: Scope) -> str:
    """The method, as the conventions name it."""
    method: str = scope["method"]
    return method if method in _METHODS else _OTHER


def _scheme(scope: Scope) -> str:
    return str(scope.get("scheme", "http"))  # servers may leave it out, says ASGI


def _version(scope: Scope) -> str:
    return str(scope.get("http_version", "1.1"))


def route_of(request: Request) -> str:
    """The pattern of the path, one of few; empty where no route took the request."""
    return request.entry.route or getattr(request.scope.get("route"), "path", "")


def _labels(request: Request) -> Labels:
    """The attributes by which requests are counted."""
    scope = request.scope
    return (
        method_of(scope),
        _scheme(scope),
        _version(scope),
        route_of(request),
        request.status,
        error_of(request),
    )


def _figures(request: Request) -> tuple[float, int, int]:
    """Seconds, and bytes received and sent."""
    return request.ended - request.head.arrived, request.entry.received, request.entry.sent


def _write_request(trace: RequestTrace, request: Request) -> None:
    entry, writer, context = request.entry, trace.writer, trace.context
    offset = writer.offset()
    for name, start, end, links in _stages(request):
        writer.write(name, writer.child(context), start, end, offset, parent=context, links=writer.links(links))
    route = route_of(request)
    method = "HTTP" if method_of(request.scope) == _OTHER else method_of(request.scope)
    failed = request.status is not None and request.status >= _SERVER_ERROR
    writer.write(
        f"{method} {route}" if route else method,
        context,
        request.head.arrived,
        request.ended,
        offset,
        parent=trace.parent,
        kind=SpanKind.SERVER,
        attributes={**trace.sampled_by, **_attributes(request, route), **_of_calls(entry)},
        status=Status(StatusCode.ERROR) if failed else _UNSET,
    )


def _stages(request: Request) -> Iterator[tuple[str, float, float, Sequence[Any]]]:
    """Name, begin and end of each stage that the request has left behind, and the batches that computed it."""
    entry = request.entry
    if entry.queued:
        yield "decode", request.head.arrived, entry.queued, ()
    if not entry.spans:
        return
    yield "queue", entry.queued, entry.queued + entry.queue_seconds, ()
    starts, stops = zip(*entry.spans, strict=True)
    yield "device", min(starts), max(stops), [*entry.batches.values()]
    if entry.encoded:
        yield "encode", entry.computed, entry.encoded, ()


def _attributes(request: Request, route: str) -> dict[str, Any]:
    """Attributes of a request and its answer by the conventions for HTTP."""
    scope, head, status = request.scope, request.head, request.status
    server = scope.get("server") or ("", None)
    facts: dict[str, Any] = {
        "http.request.method": method_of(scope),
        "url.path": plain_path(head.path),
        "url.scheme": _scheme(scope),
        "http.route": route,
        "http.response.status_code": status,
        "network.protocol.version": _version(scope),
        "server.address": server[0],
        "server.port": server[1],
        "user_agent.original": _agent(scope["headers"]),
        "error.type": error_of(request),
    }
    return {name: value for name, value in facts.items() if value not in {None, ""}}


def _of_calls(entry: Entry) -> dict[str, Any]:
    """Attributes of our own of a request: its function, key, calls and what they got."""
    facts: dict[str, Any] = {
        "matfn.function": entry.function,
        "matfn.key": entry.key,
        "matfn.calls": entry.calls,
        "matfn.matrices": entry.matrices,
        "matfn.codes": tuple(entry.outcomes),
    }
    return {name: value for name, value in facts.items() if value}


def _agent(headers: Sequence[tuple[bytes, bytes]]) -> str:
    return dict(headers).get(b"user-agent", b"")[:_AGENT].decode("ascii", "backslashreplace")


def error_of(request: Request) -> str:
    """The code of a failure of the server's; empty for an answer, and for a request that is refused rightly."""
    if request.status is None:
        return LEFT
    if request.status < _SERVER_ERROR:
        return ""
    return next(iter(request.entry.outcomes), str(request.status))


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
