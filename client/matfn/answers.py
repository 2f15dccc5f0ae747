"""The answer of a call with information, and the warning of a call without."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from matfn.errors import ApproximateWarning
from matfn.wire import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matfn.wire import Certificate, Timing

__all__ = ["Answer", "warn_if_approximate"]

ValueT_co = TypeVar("ValueT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Answer(Generic[ValueT_co]):
    """A value with one certificate per matrix, counted over the flattened leading dimensions."""

    value: ValueT_co
    certificates: tuple[Certificate, ...]
    timing: Timing
    request_id: str
    device: str


def warn_if_approximate(certified: Iterable[tuple[str, tuple[Certificate, ...]]], stacklevel: int) -> None:
    """At most one ApproximateWarning, with the hint of the first call concerned."""
    parts = [part for part in (_remark(function, certificates) for function, certificates in certified) if part]
    if parts:
        more = f"; and {len(parts) - 1} more calls" if len(parts) > 1 else ""
        warnings.warn(parts[0] + more, ApproximateWarning, stacklevel + 1)


def _remark(function: str, certificates: tuple[Certificate, ...]) -> str:
    hints = [certificate.hint for certificate in certificates if certificate.outcome is Outcome.APPROXIMATE]
    if not hints:
        return ""
    share = "the answer is" if len(certificates) == 1 else f"{len(hints)} of {len(certificates)} answers are"
    return f"{function}: {share} approximate: {hints[0] or 'the error estimate exceeds the tolerance'}"
