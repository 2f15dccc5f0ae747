"""Certificates: how an answer was computed and how far it may be from the exact function."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["Certificate", "Outcome", "Residual"]


class Outcome(StrEnum):
    """Whether an answer meets the requested tolerance."""

    CONVERGED = "converged"
    APPROXIMATE = "approximate"
    FAILED = "failed"


class Residual(NamedTuple):
    """A measured residual and the name of the equation it belongs to."""

    name: str
    value: float


class Certificate(NamedTuple):
    """The certificate of one matrix; batches have thousands, and tuples are made and pickled fastest.

    Attributes:
        outcome: converged, approximate or failed.
        residual: the measured residual, or None where there is no answer.
        error_estimate: relative error in the Frobenius norm, or None where none can be given.
        error_bound: a bound of that error which is proved, where a proof was asked for and found, or None.
        condition: estimated condition number of the data.
        method: the method that gave the answer.
        precision: the arithmetic it ran in.
        steps: iterations, 0 for a direct method.
        rank: numerical rank where it is defined.
        damping: the shift relative to the largest eigenvalue.
        shift: the number added to the diagonal, exactly.
        fallback: the methods that were tried before `method`, in order, or None.
        code: the problem's code where the outcome is not converged and there is one.
        hint: the cause or a remedy, in words.
    """

    outcome: Outcome
    residual: Residual | None
    error_estimate: float | None
    condition: float | None
    method: str
    precision: str
    steps: int
    rank: int | None = None
    damping: float = 0.0
    shift: float = 0.0
    fallback: str | None = None
    code: str | None = None
    hint: str | None = None
    error_bound: float | None = None
