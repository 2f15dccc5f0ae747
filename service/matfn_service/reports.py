"""Reports of the read-only routes: the catalogue with its limits, the state of the service, and its last batches."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from matfn.compatibility import WIRE_VERSIONS
from matfn_kernels import DTYPES, FUNCTIONS, MAX_COEFFICIENT_ROWS, MAX_ROOT, MAX_STEPS, OPTIONS
from matfn_service.batch_log import dtype_of, shape_of
from matfn_service.version import VERSION

if TYPE_CHECKING:
    from matfn_kernels import Function
    from matfn_service.service import Service
    from matfn_service.settings import Settings

__all__ = ["LimitsReport", "batches_report", "catalogue_report", "dtypes_of", "limits_report", "status_report"]

_MAX_DIMENSION: Final = 2**31 - 1
_MAX_NESTING: Final = 16
_MOST_KEYS: Final = 16  # of those that wait: the report stays small however long the queue is


@dataclass(frozen=True, slots=True)
class LimitsReport:
    """Sizes beyond which a call is refused."""

    max_order: int
    max_items: int
    max_elements: int
    max_request_bytes: int
    max_dimension: int = _MAX_DIMENSION
    max_json_nesting: int = _MAX_NESTING
    max_root: int = MAX_ROOT
    max_steps: int = MAX_STEPS
    max_coefficient_rows: int = MAX_COEFFICIENT_ROWS


def catalogue_report(settings: Settings) -> dict[str, object]:
    """Every function with its inputs, parameters and errors, the options of all, the limits, and the versions."""
    limits = limits_report(settings)
    functions = [_described(function) for function in FUNCTIONS.values()]
    return {
        "functions": functions,
        "options": [asdict(option) for option in OPTIONS],
        "limits": asdict(limits),
        "version": VERSION,
        "wire": list(WIRE_VERSIONS),
    }


def _described(function: Function) -> dict[str, object]:
    """A function as callers know it: neither its definition's name nor what only verifications and gradients have."""
    described = asdict(function) | {"dtypes": dtypes_of(function)}
    for name in ("reference", "claims", "cotangents", "gradients"):
        del described[name]
    return described


def limits_report(settings: Settings) -> LimitsReport:
    """The limits in force."""
    return LimitsReport(settings.max_order, settings.max_items, settings.max_elements, settings.max_request_bytes)


def dtypes_of(function: Function) -> list[str]:
    """The dtypes that a function takes."""
    return [name for name in DTYPES if function.complex_ok or not name.startswith("complex")]


def status_report(service: Service) -> dict[str, object]:
    """Device, queue, batches and counters at this moment."""
    queue, counted, profile = service.queue, service.statistics, service.profile
    return {
        "state": service.state,
        "version": VERSION,
        "uptime": service.clock() - service.started,
        "device": service.executor.device,
        "workers": service.executor.workers,
        "fronts": 1 + (service.fronts.alive if service.fronts else 0),
        "lanes": service.executor.workers,  # its former name, kept for one version
        "workers_alive": service.executor.alive,
        "worker_seconds": counted.worker_seconds,
        "held_bytes": service.batcher.held_bytes,
        "profile": None if profile is None else {"name": profile.name, "hash": profile.hash},
        "calibration": None if profile is None else profile.content(),
        "loop": {"largest_lag": service.watchdog.largest},
        "queue": {
            "jobs": len(queue),
            "bytes": queue.bytes,
            "seconds": queue.seconds,
            "bound": {"bytes": queue.bound.bytes, "seconds": queue.bound.seconds},
        },
        "batches": {
            "count": counted.batch_sizes.total(),
            "histogram": {str(size): number for size, number in sorted(counted.batch_sizes.items())},
            "by_function": {name: asdict(entry) for name, entry in sorted(counted.functions.items())},
        },
        "stages": {
            name: {"count": sum(histogram.counts), "seconds": histogram.sum}
            for name, histogram in {
                **counted.stage_seconds,
                "queue": counted.queue_seconds,
                "device": counted.device_seconds,
                "request": counted.request_seconds,
            }.items()
        },
        "counters": {
            "answered": counted.answered,
            "failed": dict(sorted(counted.failed.items())),
            "dropped_disconnected": counted.dropped_disconnected,
            "dropped_deadline": counted.dropped_deadline,
            "dropped_busy": counted.dropped_busy,
            "bisections": counted.bisections,
            "halvings": counted.halvings,
            "isolated": counted.isolated,
        },
    }


def batches_report(service: Service, after: int) -> dict[str, object]:
    """The last batches after the one of this number, those under way among them, and what waits by its key.

    Times are seconds since the start of the service.
    """
    log, started = service.statistics.log, service.started
    return {
        "now": service.clock() - started,
        "last": log.last,
        "batches": [record.told(started) for record in log.after(after)],
        "waiting": [
            {
                "function": job.function,
                "shape": shape_of(job),
                "dtype": dtype_of(job.program.dtype),
                "method": job.program.method,
                "calls": calls,
            }
            for job, calls in service.queue.waiting_by_key(_MOST_KEYS)
        ],
    }
