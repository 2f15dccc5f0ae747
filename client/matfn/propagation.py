"""The caller's trace on its way to the server: headers of the active span, where the program uses OpenTelemetry."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["trace_headers"]

_API: Final = "opentelemetry.trace"
_NOTHING: Final[tuple[tuple[str, str], ...]] = ()


def trace_headers() -> tuple[tuple[str, str], ...]:
    """Headers such as `traceparent` that name the active span; none without one.

    A program with an active span has imported OpenTelemetry's API, so nothing is imported here for others.
    """
    if _API not in sys.modules:
        return _NOTHING
    from opentelemetry import propagate, trace

    if not trace.get_current_span().get_span_context().is_valid:
        return _NOTHING
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items())
