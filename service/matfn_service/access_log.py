"""The access log: a line for each request, with sizes and times, without matrices, keys or query strings.

    exchange.entry.function = ...      the routes note what they learn
    log(line_of(head, exchange.entry, status, clock()))

Where the log is off nothing is formatted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import prod
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from matfn_service.statistics import ANSWERED

if TYPE_CHECKING:
    from matfn_service.admission import Prepared
    from matfn_service.heads import Head
    from matfn_service.jobs import Served
    from matfn_service.settings import Settings
    from matfn_service.tracing import SpanReference, Trace

__all__ = ["LEFT", "AccessLog", "Entry", "access_log_of", "line_of", "plain_path"]

AccessLog: TypeAlias = Callable[[Mapping[str, object]], None]

LEFT: Final = "left"
"""The outcome of a request whose caller hung up before the answer."""

_PATH: Final = 200
_EVENT: Final = "request"

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Entry:
    """Facts about a request, collected while it is served.

    Attributes:
        function: the function, or `calls`; empty for other routes.
        key: the name of the caller's key, if it has one.
        received: bytes of the body.
        sent: bytes of the answer's body.
        outcomes: number of calls by their code, or `ok`; empty if all have answers.
        calls: number of calls that could be read.
        matrices: number of their matrices.
        queue_seconds: the longest wait of a call in the queue.
        device_seconds: the times of their batches on the device, added up.
        route: pattern of the path, where a computing route took the request.
        queued: when its calls had been read and checked, on the service's clock; 0 before.
        computed: when their answers had come back; 0 before.
        encoded: when these had been made; 0 before.
        spans: when the device computed their batches, from and to.
        batches: the spans of the batches, where these are recorded, each once.
        trace: of the request, where the service is traced.
    """

    function: str = ""
    key: str = ""
    received: int = 0
    sent: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    calls: int = 0
    matrices: int = 0
    queue_seconds: float = 0.0
    device_seconds: float = 0.0
    route: str = ""
    queued: float = 0.0
    computed: float = 0.0
    encoded: float = 0.0
    spans: set[tuple[float, float]] = field(default_factory=set)
    batches: dict[SpanReference, None] = field(default_factory=dict)
    trace: Trace | None = None

    def count_call(self, call: Prepared) -> None:
        """Counts a call that could be read."""
        self.calls += 1
        self.matrices += prod(call.call.lead)

    def count_served(self, served: Served) -> None:
        """Counts the times of a call that was computed; calls that shared a batch count its time once."""
        self.queue_seconds = max(self.queue_seconds, served.queue_seconds)
        for span in served.spans:
            if span not in self.spans:
                self.spans.add(span)
                self.device_seconds += span[1] - span[0]
        for batch in served.batches:
            self.batches[batch] = None


def access_log_of(settings: Settings) -> AccessLog | None:
    """The writer of the lines that the settings ask for; None for none."""
    return {"off": None, "info": _write_info, "json": _write_json}[settings.access_log]


def _write_info(line: Mapping[str, object]) -> None:
    _log.info(_EVENT, **line)


def _write_json(line: Mapping[str, object]) -> None:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sys.stderr.write(f"{json.dumps({'event': _EVENT, 'timestamp': stamp, **line})}\n")
    sys.stderr.flush()


def line_of(head: Head, entry: Entry, status: int | None, now: float) -> dict[str, object]:
    """The fields of a request's line; a status of None is that of a request without an answer.

    Args:
        head: of the request.
        entry: what was learnt of it.
        status: of the answer.
        now: when it ended, on the service's clock.
    """
    return {
        "request_id": head.request_id,
        **({} if entry.trace is None else entry.trace.ids),
        **({"key": entry.key} if entry.key else {}),
        "method": head.method,
        "path": plain_path(head.path),
        **({"function": entry.function} if entry.function else {}),
        "calls": entry.calls,
        "matrices": entry.matrices,
        "received": entry.received,
        "sent": entry.sent,
        "status": None if status is None else int(status),  # an HTTPStatus is written by its name
        "outcome": ", ".join(_outcomes(entry.outcomes)) or ANSWERED,
        "queue_ms": _milliseconds(entry.queue_seconds),
        "device_ms": _milliseconds(entry.device_seconds),
        "total_ms": _milliseconds(now - head.arrived),
    }


def _outcomes(numbers: Mapping[str, int]) -> list[str]:
    """The code of one call; of several, each code with its number."""
    if sum(numbers.values()) == 1:
        return list(numbers)
    return [f"{number} {code}" for code, number in numbers.items() if number]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def plain_path(path: str) -> str:
    """A path for a log: short, and without what terminals obey."""
    return ascii(path[:_PATH])[1:-1]
