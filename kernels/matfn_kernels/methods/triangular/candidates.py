"""Inverses of triangular matrices and solutions of triangular systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.methods.triangular.blocked import BlockedInverse
from matfn_kernels.methods.triangular.question import Triangle
from matfn_kernels.methods.triangular.substitution import Substitution

if TYPE_CHECKING:
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates"]


def candidates(call: Signature) -> list[Program]:
    """The one program that serves a call."""
    b = call.shape("b")
    arithmetic = call.direct_precisions()
    lower, unit = bool(call.parameter("lower")), bool(call.parameter("unit_diagonal"))
    question = Triangle(call.sizes("t")[-1], lower, unit, call.dtype)
    if b is None:
        return [BlockedInverse(question, *arithmetic)]
    return [Substitution(question, *arithmetic, columns=b[-1], transpose=bool(call.parameter("transpose")))]
