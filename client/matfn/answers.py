"""The answer of a call with information, and the warning of a call without."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from matfn._brief import brief
from matfn.callers import callers_line
from matfn.errors import ApproximateWarning
from matfn.wire import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from matfn.callers import Line
    from matfn.wire import Certificate, Timing

__all__ = ["Answer", "Verdict", "outputs_of", "warn_if_approximate"]

ValueT_co = TypeVar("ValueT_co", covariant=True)


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Generic[ValueT_co]):
    """A value with one certificate per matrix, counted over the flattened leading dimensions."""

    value: ValueT_co
    certificates: tuple[Certificate, ...]
    timing: Timing
    request_id: str
    device: str

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """The error estimates, (batch,) over the flattened leading dimensions; NaN where there is none."""
        return np.array([certificate.error_estimate for certificate in self.certificates], np.float64)

    def __repr__(self) -> str:
        fields = {
            "value": brief(self.value),
            "certificates": _summary(self.certificates),
            "timing": repr(self.timing),
            "request_id": repr(self.request_id),
            "device": repr(self.device),
        }
        return f"Answer({', '.join(f'{name}={words}' for name, words in fields.items())})"


def outputs_of(value: Any) -> list[Any]:
    """The arrays of an answer; a gradient of an input that was not given is none."""
    outputs = value if isinstance(value, tuple) else (value,)
    return [output for output in outputs if output is not None]


def _summary(certificates: Sequence[Certificate]) -> str:
    """One certificate whole, of more how many have each outcome."""
    if len(certificates) == 1:
        return f"({certificates[0]!r},)"
    outcomes = Counter(str(certificate.outcome) for certificate in certificates)
    return f"<{len(certificates)}: {', '.join(f'{number} {outcome}' for outcome, number in outcomes.items())}>"


class Verdict(Protocol):
    """The part of a certificate that says whether the answer is approximate."""

    @property
    def outcome(self) -> str:
        """Whether the answer meets the requested tolerance, as in `Outcome`."""

    @property
    def hint(self) -> str | None:
        """The cause or a remedy, in words."""


def warn_if_approximate(certified: Iterable[tuple[str, Sequence[Verdict]]], line: Line | None = None) -> None:
    """At most one ApproximateWarning, with the hint of the first call concerned, about a line or else the caller's."""
    parts = [part for part in (_remark(function, certificates) for function, certificates in certified) if part]
    if parts:
        more = f"; and {len(parts) - 1} more calls" if len(parts) > 1 else ""
        (line or callers_line()).warn(parts[0] + more, ApproximateWarning)


def _remark(function: str, certificates: Sequence[Verdict]) -> str:
    hints = [certificate.hint for certificate in certificates if certificate.outcome == Outcome.APPROXIMATE]
    if not hints:
        return ""
    share = "the answer is" if len(certificates) == 1 else f"{len(hints)} of {len(certificates)} answers are"
    return f"{function}: {share} approximate: {hints[0] or 'the error estimate exceeds the tolerance'}"
