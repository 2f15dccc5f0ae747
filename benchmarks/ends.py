"""The end of a request: right by comparison with float64, refused, closed, wrong or hung."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import matfn
from matfn.answers import outputs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from matfn.answers import Answer
    from matfn.check import Case

__all__ = ["PATIENCE", "End", "Ended", "compared", "ended", "judged"]

PATIENCE: Final = 120.0
"""Seconds after which a request without an end counts as one that hangs; a worker that hangs is given 30 of them."""
_PASSING: Final = frozenset({"busy", "draining", "out_of_memory", "too_large", "worker_lost"})
"""Codes by which a valid request may be refused while something is at fault."""


class End(StrEnum):
    """The end of a request."""

    RIGHT = "right"
    REFUSED = "refused"
    CLOSED = "closed"
    WRONG = "wrong"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class Ended:
    """One request's end, the code or the words that came with it, and the seconds that it took."""

    end: End
    detail: str = ""
    seconds: float = 0.0


def ended(case: Case, ask: Callable[[], Answer[Any]]) -> Ended:
    """Asks, and judges what comes back."""
    began = time.monotonic()
    try:
        answer = ask()
    except matfn.MatfnError as error:
        return judged(error, time.monotonic() - began)
    return compared(case, answer.value, time.monotonic() - began)


def judged(error: matfn.MatfnError, seconds: float) -> Ended:
    """The end that an error of a client stands for."""
    if isinstance(error, matfn.ProblemError):
        is_passing = error.code in _PASSING
        return Ended(End.REFUSED, error.code, seconds) if is_passing else Ended(End.WRONG, repr(error), seconds)
    if isinstance(error, matfn.TransportTimeout):
        return Ended(End.HUNG, repr(error), seconds)
    is_cut = isinstance(error, matfn.TransportError) and not isinstance(error, matfn.ProtocolError)
    return Ended(End.CLOSED if is_cut else End.WRONG, repr(error), seconds)


def compared(case: Case, value: Any, seconds: float) -> Ended:
    """The end of a request with this answer."""
    pairs = zip(outputs_of(value), case.truth, strict=True)
    error = max(_distance(np.asarray(one), truth) for one, truth in pairs)
    if error <= case.bound:
        return Ended(End.RIGHT, "", seconds)
    return Ended(End.WRONG, f"{case.invocation.function}: error {error:.1e}, allowed {case.bound:.1e}", seconds)


def _distance(value: NDArray[Any], truth: NDArray[np.float64]) -> float:
    """Largest relative error of the batch; infinite for another shape and for what is no number."""
    if value.shape != truth.shape:
        return np.inf
    found = np.max(_norms(value.astype(np.float64) - truth) / _norms(truth))
    return float(found) if np.isfinite(found) else np.inf


def _norms(batch: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(batch.reshape(len(batch), -1), axis=-1))
