"""Requests of a call for each of its matrices: the tolerance, and the proof if there is to be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.contract.functions import ENTRIES

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.contract.rejection import Rejection
    from matfn_kernels.contract.schema import Value
    from matfn_kernels.programs.validation import Call

__all__ = ["Requested", "Statement"]

_DEFAULT_TOL: Final = 1e-3
"""Largest default tolerance: below three digits an answer is approximate, however bad the condition."""
_HALF_TOL: Final = 1e-2
"""Largest default tolerance in half precision, little above the spacing of bfloat16 (7.8e-3)."""
_DEFAULT_FACTOR: Final = 50.0
"""The default tolerance in units of eps times the condition: room for the rounding of a backward-stable method.

With a smaller one answers that are as good as their data would be called approximate, after a needless escalation."""
_SINGLE_EPS: Final = 1.2e-7
"""Just above the spacing of float32: a larger one is that of half precision."""


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
        return cls(entry.subject, tuple(call.parameters.items()), entry.claims)


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
        return Requested, (self.tol, self.eps, self.rejection, self.growth, self.proof)

    def tolerances(self, condition: Tensor, spacing_out: float) -> Tensor:
        """Largest relative error of a converged answer, (batch,): by default that of a backward-stable method."""
        if self.tol is not None:
            return torch.full_like(condition, self.tol)
        cap = _HALF_TOL if self.eps > _SINGLE_EPS else _DEFAULT_TOL
        attainable = (_DEFAULT_FACTOR * self.eps * self.growth * condition).nan_to_num(cap, cap, cap)
        return attainable.clamp(spacing_out, max(spacing_out, cap))
