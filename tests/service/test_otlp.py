"""Spans in Protocol Buffers' wire format, field by field beside those of OpenTelemetry's own encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from matfn_service import otlp
from matfn_service.conventions import SCHEMA
from matfn_service.telemetry import SpanExporter
from matfn_service.tracing import RanBatch, SpanReference
from matfn_service.version import VERSION

if TYPE_CHECKING:
    import pytest

RESOURCE = Resource({"service.name": "matfn", "host.cpus": 2, "tags": ("a", "b")}, "https://schemas.example/1")
SCOPE = InstrumentationScope("matfn", VERSION, SCHEMA)
KINDS = {SpanKind.INTERNAL: 1, SpanKind.SERVER: 2}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
values = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(texts, min_size=1, max_size=3).map(tuple),
)
references = st.builds(
    SpanReference,
    st.integers(1, 2**128 - 1).map(lambda number: number.to_bytes(16, "big")),
    st.integers(1, 2**64 - 1).map(lambda number: number.to_bytes(8, "big")),
)
moments = st.integers(0, 2**64 - 1)
states = st.dictionaries(
    st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.from_regex(r"[a-z0-9]{1,90}", fullmatch=True)
).map(lambda entries: TraceState([*entries.items()]))


def context(span: SpanReference, state: TraceState | None = None, *, is_remote: bool = False) -> SpanContext:
    """The library's name of a span."""
    trace_id, span_id = (int.from_bytes(octets, "big") for octets in span)
    return SpanContext(trace_id, span_id, is_remote=is_remote, trace_state=state)


def in_scope(span: bytes) -> Any:
    """The only span in octets of ours."""
    (found,) = ScopeSpans.FromString(span).spans
    return found


@dataclass(frozen=True)
class Example:
    """A span, in Python's types."""

    this: SpanReference
    parent: SpanReference | None
    is_remote: bool
    name: str
    kind: SpanKind
    times: tuple[int, int]
    attributes: dict[str, otlp.Attribute]
    links: list[SpanReference]
    state: TraceState
    is_error: bool

    @property
    def by_library(self) -> Any:
        """The message of the library."""
        span = ReadableSpan(
            self.name,
            context(self.this, self.state),
            parent=None if self.parent is None else context(self.parent, is_remote=self.is_remote),
            attributes=self.attributes,
            links=[Link(context(link)) for link in self.links],
            kind=self.kind,
            start_time=self.times[0],
            end_time=self.times[1],
            status=Status(StatusCode.ERROR if self.is_error else StatusCode.UNSET),
        )
        return encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]

    @property
    def by_us(self) -> bytes:
        """Our octets."""
        return otlp.span(
            self.this,
            otlp.below(b"" if self.parent is None else self.parent.span_id, self.state.to_header()),
            otlp.named(self.name, KINDS[self.kind]),
            self.times,
            otlp.attributes_of(self.attributes.items()) + otlp.links_to(self.links),
            otlp.outcome_of(is_error=self.is_error, is_remote=self.is_remote and self.parent is not None),
        )


@given(
    st.builds(
        Example,
        references,
        st.none() | references,
        st.booleans(),
        names,
        st.sampled_from([*KINDS]),
        st.tuples(moments, moments),
        st.dictionaries(names, values, max_size=20),
        st.lists(references, max_size=4),
        states,
        st.booleans(),
    )
)
def test_spans_are_those_of_the_library(example: Example) -> None:
    """A span with any parent, state, attributes and links has every field that the library's encoder gives it."""
    assert in_scope(example.by_us) == example.by_library


@given(
    st.builds(
        RanBatch,
        st.lists(names, min_size=1, max_size=3).map(tuple),
        st.integers(1, 2**40),
        st.floats(0.0, 1.0),
        st.just(0.0),
        st.just(1.0),
    )
)
def test_attributes_of_a_batch_are_those_of_the_library(ran: RanBatch) -> None:
    """Function, size and share of a batch are read as the library writes them."""
    attributes: dict[str, otlp.Attribute] = {
        "matfn.function": ", ".join(ran.functions),
        "matfn.batch.size": ran.matrices,
        "matfn.batch.fill": ran.fill,
    }
    this = SpanReference(b"t" * 16, b"s" * 8)
    written = (otlp.batch_attributes(ran), otlp.attributes_of(attributes.items()))

    assert in_scope(otlp.span(this, b"", b"", (0, 1), written[0])) == in_scope(
        otlp.span(this, b"", b"", (0, 1), written[1])
    )


@given(
    references,
    states,
    st.lists(
        st.tuples(st.sampled_from(["decode", "device"]), moments, moments, st.lists(references, max_size=9)), max_size=9
    ),
)
def test_children_are_spans_below_one(
    above: SpanReference, state: TraceState, parts: list[tuple[str, int, int, list[SpanReference]]]
) -> None:
    """Each of the spans below one is that of the library, with an id of its own."""
    written = [(otlp.named(name, 1), begin, end, otlp.links_to(links)) for name, begin, end, links in parts]
    found = ScopeSpans.FromString(otlp.children(above, state.to_header(), written)).spans
    examples = [
        Example(
            SpanReference(above.trace_id, span.span_id),
            above,
            is_remote=False,
            name=name,
            kind=SpanKind.INTERNAL,
            times=(begin, end),
            attributes={},
            links=links,
            state=state,
            is_error=False,
        )
        for span, (name, begin, end, links) in zip(found, parts, strict=True)
    ]

    assert [*found] == [example.by_library for example in examples]
    assert len({above.span_id, *(span.span_id for span in found)}) == len(parts) + 1


def test_message_has_resource_and_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of spans of several records has the process's resource and our scope, once."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    references_ = [SpanReference(bytes([number]) * 16, bytes([number]) * 8) for number in (1, 2, 3)]
    expected = encode_spans(
        [
            ReadableSpan(
                "decode", context(one), resource=RESOURCE, instrumentation_scope=SCOPE, start_time=1, end_time=2
            )
            for one in references_
        ]
    )
    spans = [otlp.span(one, b"", otlp.named("decode", 1), (1, 2)) for one in references_]
    found = SpanExporter(RESOURCE).message([spans[0] + spans[1], spans[2]])

    assert ExportTraceServiceRequest.FromString(found) == expected
