"""Traces of requests: the seam between the service and OpenTelemetry (`matfn_service.telemetry`).

    telemetry = telemetry_of(os.environ)      None, and nothing imported, unless an endpoint is named
    trace = telemetry.begin(scope)            at the head of a request, whose logs then name it
    telemetry.end(trace, request)             at its end: spans are made of the times that the service has taken

A job carries the trace of its request where that is recorded, so that its batch can be linked to it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import structlog

from matfn_service.telemetry_settings import ENDPOINTS, is_switched_off, sampler_faults

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from starlette.types import Scope

    from matfn_service.access_log import Entry
    from matfn_service.heads import Head
    from matfn_service.service import Service

__all__ = [
    "RanBatch",
    "Request",
    "SpanReference",
    "Telemetry",
    "Trace",
    "add_trace",
    "close_in_time",
    "enter_trace",
    "recorded_trace",
    "telemetry_of",
]

_CLOSING_SECONDS: Final = 3.0  # after the drain, which orchestrators give a grace beyond MATFN_DRAIN_SECONDS

_current: ContextVar[Trace | None] = ContextVar("matfn_trace", default=None)
_log = structlog.get_logger(__name__)


class SpanReference(NamedTuple):
    """Identifiers of a span and its trace, eight and sixteen octets, as they pass between processes."""

    trace_id: bytes
    span_id: bytes


@dataclass(frozen=True, slots=True)
class RanBatch:
    """A batch that has come back.

    Attributes:
        functions: of its calls, each once.
        matrices: in it.
        fill: its size against the largest allowed.
        launched: when it went to the device, on the service's clock.
        ended: when it came back.
    """

    functions: Sequence[str]
    matrices: int
    fill: float
    launched: float
    ended: float


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has ended.

    Attributes:
        scope: as the routes saw it; of a call over gRPC of type `rpc`, with its `path`, `headers` and whether the
            server has its method, `matfn.is_known`.
        head: its head.
        entry: what was learnt of it.
        status: of its answer, None without one; over gRPC the name of the status.
        ended: when, on the service's clock.
    """

    scope: Scope
    head: Head
    entry: Entry
    status: int | str | None
    ended: float


class Trace(Protocol):
    """The trace of one request."""

    @property
    def span(self) -> SpanReference:
        """The request's span."""

    @property
    def ids(self) -> Mapping[str, str]:
        """The names of trace and span, as log lines have them."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Headers of the answer."""

    @property
    def is_recorded(self) -> bool:
        """Whether its spans are exported."""

    def record_batch(self, traces: Sequence[Trace], ran: RanBatch) -> SpanReference:
        """Records a batch with links to these requests' spans; returns its own, to which they are linked."""


class Telemetry(Protocol):
    """Where traces and metrics go."""

    def watch(self, service: Service) -> None:
        """Exports the metrics of a service from now on."""

    def begin(self, scope: Scope) -> Trace | None:
        """The trace of a request whose head has come; None where only metrics are wanted."""

    def passed_on(self, span: SpanReference) -> Trace | None:
        """The trace of a request that another process of this server has begun and records."""

    def end(self, trace: Trace | None, request: Request) -> None:
        """Counts the request, and records its spans."""

    def close(self) -> None:
        """Exports what is left; waits for the collector."""


def enter_trace(trace: Trace | None) -> None:
    """Makes a trace that of the running task: its log lines name it, and its jobs carry it."""
    _current.set(trace)


def recorded_trace() -> Trace | None:
    """The trace of the running task, if it is recorded."""
    trace = _current.get()
    return trace if trace is not None and trace.is_recorded else None


def add_trace(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds the names of the running task's trace to a log line; a processor of structlog."""
    del logger, name
    trace = _current.get()
    if trace is not None:
        event.update(trace.ids)
    return event


async def close_in_time(telemetry: Telemetry) -> None:
    """Exports what is left, unless the collector takes too long; the thread that waits for it dies with the process."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        telemetry.close()
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=close, name="matfn-telemetry", daemon=True).start()
    try:
        async with asyncio.timeout(_CLOSING_SECONDS):
            await closed.wait()
    except TimeoutError:
        _log.warning("traces and metrics are lost", reason=f"the collector took more than {_CLOSING_SECONDS:g} s")


def telemetry_of(environment: Mapping[str, str]) -> Telemetry | None:
    """OpenTelemetry's exporters, where the environment names an endpoint and the extra `otel` is installed."""
    if is_switched_off(environment) or not any(map(environment.get, ENDPOINTS)):
        return None
    try:
        from matfn_service.telemetry import OpenTelemetry
    except ImportError as error:
        _log.warning("nothing is traced", reason=f"{error.name} is missing", hint='pip install "matfn[otel]"')
        return None
    for reason, instead in sampler_faults(environment):
        _log.warning("sampler is not as it was set", reason=reason, instead=instead)
    try:
        return OpenTelemetry.of(environment)
    except ValueError as error:  # of the library, about numbers and names in its variables
        _log.warning("nothing is traced", reason=str(error), hint="set OTEL_* as docs/operations.md says")
        return None
