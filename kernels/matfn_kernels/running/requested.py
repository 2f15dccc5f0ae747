"""Requests of a call for each of its matrices: the tolerance, and the proof if there is to be one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from matfn_kernels.contract.functions import ENTRIES
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.programs.tolerances import default_tolerance

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.contract.schema import Value
    from matfn_kernels.programs.call import Call

__all__ = ["Requested", "Statement"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A function with its parameters: what an answer is claimed to be the value of.

    Attributes:
        function: the name of the function.
        parameters: its parameters.
        claims: names of the inputs that are the answer, where it was computed elsewhere.
    """

    function: str
    parameters: tuple[tuple[str, Value], ...]
    claims: tuple[str, ...]

    @classmethod
    def of(cls, call: Call) -> Statement:
        """The statement that a call's answer is right."""
        entry = ENTRIES[call.function]
        return cls(entry.subject if entry.claims else entry.name, tuple(call.parameters.items()), entry.claims)

    def at(self, names: tuple[str, ...], values: tuple[float, ...]) -> Statement:
        """The statement about a matrix that has these values of parameters of its own."""
        return replace(self, parameters=(*self.parameters, *zip(names, values, strict=True)))


@dataclass(frozen=True, slots=True)
class Requested:
    """The requested tolerance of one matrix, or why it is not computed.

    Attributes:
        tol: the requested tolerance, or None for the default.
        eps: spacing in units of which the default tolerance is given.
        rejection: the reason why the matrix is not computed, or None.
        growth: factor of the default tolerance beside the condition, max(1, s/r) for a power A^(s/r).
        proof: the statement about its answer that is to be proved, or None for an estimate alone.
    """

    tol: float | None
    eps: float
    rejection: Rejection | None
    growth: float = 1.0
    proof: Statement | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call, several times as fast as the default."""
        wanted = self.tol, self.eps, self.growth, self.proof
        if self.rejection is None:
            return _requested, wanted
        rejection = self.rejection  # as plain values: thousands of exceptions would take milliseconds each way
        return _requested, (*wanted, rejection.code, rejection.detail, rejection.hint, rejection.index)

    @property
    def kind(self) -> tuple[float | None, float, float]:
        """Numbers besides the matrix that the tolerance depends on."""
        return self.tol, self.eps, self.growth

    def tolerances(self, condition: Tensor, spacing_out: float) -> Tensor:
        """Largest relative error of a converged answer, (batch,): by default that of a backward-stable method."""
        if self.tol is not None:
            return torch.full_like(condition, self.tol)
        return default_tolerance(self.eps, self.growth, condition, spacing_out)


def _requested(tol: float | None, eps: float, growth: float, proof: Statement | None, *rejected: Any) -> Requested:
    """The request that was pickled, with the rejection of these arguments if there are some."""
    return Requested(tol, eps, Rejection(*rejected) if rejected else None, growth, proof)
