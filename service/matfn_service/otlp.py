"""Spans as OTLP has them, in Protocol Buffers' wire format, written straight from times and ids.

The library makes an object of a span, cleans its attributes, copies both into messages and these into octets, which
takes several times as long. Tests compare what comes out of both, field by field.

Source: opentelemetry/proto/trace/v1/trace.proto, version 1.10.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from matfn_service.protobuf import head_of, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matfn_service.tracing import RanBatch, SpanReference

__all__ = [
    "Attribute",
    "Part",
    "attributes_of",
    "batch_attributes",
    "below",
    "children",
    "links_to",
    "named",
    "outcome_of",
    "span",
]

Attribute: TypeAlias = "str | bool | int | float | Sequence[str]"

# numbers of fields of Span
_STATE, _NAME, _KIND, _ATTRIBUTES, _LINKS = 3, 5, 6, 9, 13
# of AnyValue
_TEXT, _FLAG, _INTEGER, _REAL, _ARRAY = 1, 2, 3, 4, 5

_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"  # each a tag, and the length of its id
_TIMES: Final = struct.Struct("<BQBQ")
_START, _END = 0x39, 0x41  # tags of the two times, eight octets each
_UNSET, _ERROR = b"\x7a\x00", b"\x7a\x02\x18\x02"  # the two statuses
_LOCAL, _REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
"""Flags: it is known whether the span above is another process's."""
_LINK: Final = head_of(_LINKS, 33) + _TRACE_ID, b"\x35\x00\x01\x00\x00"
"""A link before its ids, and after them its flags: it is known that the span is of this service."""

Part: TypeAlias = "tuple[bytes, int, int, bytes]"
_OCTETS: Final = [bytes([octet]) for octet in range(256)]

_span_head = lru_cache(1 << 10)(head_of)  # lengths of spans are few


def span(
    this: SpanReference, above: bytes, head: bytes, times: tuple[int, int], rest: bytes = b"", outcome: bytes = b""
) -> bytes:
    """A span, as a field of `ScopeSpans`.

    Args:
        this: its ids.
        above: the trace's state and the span above it (`below`); empty for the first of a trace.
        head: its name and kind (`named`).
        times: begin and end, in nanoseconds since 1970.
        rest: its attributes and links (`attributes_of`, `links_to`).
        outcome: its status and flags (`outcome_of`); those of a span within the service if empty.
    """
    body = b"".join(
        (
            _TRACE_ID,
            this.trace_id,
            _SPAN_ID,
            this.span_id,
            above,
            head,
            _TIMES.pack(_START, times[0], _END, times[1]),
            rest,
            outcome or _PLAIN,
        )
    )
    return _span_head(2, len(body)) + body


def children(above: SpanReference, state: str, parts: Iterable[Part]) -> bytes:
    """Spans within the service that lie below one span, as fields of `ScopeSpans`.

    Their ids differ from that of the span above in its last bits, so that none needs random ones of its own.

    Args:
        above: the span above.
        state: the trace's state, as the header has it.
        parts: name and kind of each (`named`), begin and end in nanoseconds since 1970, and links (`links_to`); at most
            255.
    """
    trace_id, span_id = above
    parent = below(span_id, state)
    start, last, size = span_id[:-1], span_id[-1], _CHILD + len(parent)
    pieces: list[bytes] = []
    for number, (head, begin, end, links) in enumerate(parts, 1):
        pieces += (
            _span_head(2, size + len(head) + len(links)),
            _TRACE_ID,
            trace_id,
            _SPAN_ID,
            start,
            _OCTETS[last ^ number],
            parent,
            head,
            _TIMES.pack(_START, begin, _END, end),
            links,
            _PLAIN,
        )
    return b"".join(pieces)


def below(parent: bytes, state: str) -> bytes:
    """The fields of a trace's state, as the header has it, and of the id of the span above; both may be empty."""
    return b"".join((written((_STATE, state)) if state else b"", _PARENT_ID + parent if parent else b""))


def outcome_of(*, is_error: bool, is_remote: bool) -> bytes:
    """The fields of the status and of the flags of a span, whose span above may be another process's."""
    return (_ERROR if is_error else _UNSET) + (_REMOTE if is_remote else _LOCAL)


def named(name: str, kind: int) -> bytes:
    """The fields of a span's name and kind."""
    return written((_NAME, name), (_KIND, kind))


def links_to(spans: Iterable[SpanReference]) -> bytes:
    """The fields of links to these spans."""
    before, after = _LINK
    return b"".join([b"".join((before, one.trace_id, _SPAN_ID, one.span_id, after)) for one in spans])


def attributes_of(values: Iterable[tuple[str, Attribute]]) -> bytes:
    """The fields of these attributes."""
    return written((_ATTRIBUTES, [written((1, name), (2, _any(value))) for name, value in values]))


def batch_attributes(ran: RanBatch) -> bytes:
    """The attributes of a batch."""
    return _of_batch(ran.functions, ran.matrices) + _FILL + _REAL_VALUE.pack(ran.fill)


@lru_cache(1 << 10)
def _of_batch(functions: Sequence[str], matrices: int) -> bytes:
    return attributes_of([("matfn.function", ", ".join(functions)), ("matfn.batch.size", matrices)])


def _any(value: Attribute) -> bytes:
    """A value of any type, as the message that OTLP has for it."""
    match value:
        case str():
            return written((_TEXT, value))
        case bool():
            return written((_FLAG, value))
        case int():
            return written((_INTEGER, value))
        case float():
            return written((_REAL, value))
        case _:
            return written((_ARRAY, written((1, [_any(one) for one in value]))))


_REAL_VALUE: Final = struct.Struct("<d")
_FILL: Final = attributes_of([("matfn.batch.fill", 0.0)])[: -_REAL_VALUE.size]  # the value follows
_PLAIN: Final = outcome_of(is_error=False, is_remote=False)
_CHILD: Final = len(_TRACE_ID) + 16 + len(_SPAN_ID) + 8 + _TIMES.size + len(_PLAIN)
"""Octets of a span but for the one above, its name and its links."""
