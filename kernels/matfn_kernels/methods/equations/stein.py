"""The equations A X A^H - X + Q = 0 and A X A^H - E X E^H + Q = 0.

Method: as Lyapunov's equation of (A + w E)^-1 (A - w E), w = 1 or -1 (`congruent_operator`), always in double
precision, refined and certified by `linear` on the equation itself. Domain: any square A and nonsingular E without two
eigenvalues of the pencil A - s E whose product lambda_i conj(lambda_j) is 1.
Equations that look singular are examined in exact arithmetic. Padding: zeros in A, whose products with other
eigenvalues are 0, ones on the diagonal of E, zeros in Q.
References: Smith, SIAM J. Appl. Math. 16 (1968); Higham, Accuracy and Stability (2002), chapter 16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from matfn_kernels.linalg.congruent_operator import CongruentOperator
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.methods.equations.linear import LinearEquation, solution
from matfn_kernels.methods.equations.shared_eigenvalue import has_reciprocal_eigenvalues
from matfn_kernels.methods.equations.sylvester import (
    EXACT_ORDER,
    SCHUR,
    common_exponent,
    descriptor_failure,
    singular_to_rounding,
)
from matfn_kernels.numbers.arrays import Array, adjoint, shifted
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.per_matrix import Found, each, failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["SteinProgram"]

_CALLS: Final = 5e-4
"""Seconds that some 40 calls of numpy and LAPACK take for a matrix of any order: a price, on which no answer rests."""
_LARGE: Final = 400
"""Exponent of A from which on A and the identity are scaled too: A X A^H overflows from 512 on."""


@dataclass(frozen=True, slots=True)
class SteinProgram:
    """Discrete Lyapunov equations: the values that all items in a batch share.

    Attributes:
        order: n.
        given: names of the optional inputs that a call gives.
        dtype: of the inputs and outputs.
        method: bilinear.
        precision: fp64.
        ceiling: fp64.
    """

    order: int
    given: tuple[str, ...]
    dtype: torch.dtype
    method: Literal["bilinear"] = "bilinear"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a, q and perhaps e, (batch, n, n) each."""
        wide = {name: tensor.to(working(self.precision, self.dtype)) for name, tensor in inputs.items()}
        q, exponent = normalise(wide["q"])
        if "e" in wide:
            scale, name = common_exponent([wide["a"], wide["e"]]), "A X A^H - E X E^H + Q"
        else:
            scale, name = common_exponent([wide["a"]]), "A X A^H - X + Q"
            scale = torch.where(scale > _LARGE, scale, 0)
        findings = each(_solve, {**wide, "q": q, "exponent": scale}, tuple(q.shape[1:]), name)
        return replace(findings, exponents=(exponent - 2 * scale,), rank=None)

    def fallbacks(self) -> tuple[SteinProgram, ...]:
        """No fallback: there is no other method."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["q"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return _CALLS + SCHUR * profile.cost("eigh", Precision.FP64, self.order)


def _solve(a: Array, q: Array, exponent: Array, e: Array | None = None) -> Found:
    """X 4^exponent of one equation, A and E of about the size 2^exponent, or any where it is 0."""
    sent, scale = (a, e), -int(exponent)
    failure = None if e is None else descriptor_failure(e)
    if failure:
        return failed(q.shape, failure)
    if e is None and scale:
        e = np.eye(len(a), dtype=a.dtype)
    a, e = shifted(a, scale), None if e is None else shifted(e, scale)
    try:
        operator = CongruentOperator.stein(a, e)
    except np.linalg.LinAlgError:  # 1 and -1 are eigenvalues, to rounding at least
        return failed(q.shape, "reciprocal_eigenvalues" if _singular(*sent, None) else None)
    pairs = (a, adjoint(a)), (None, -np.eye(len(a))) if e is None else (-e, adjoint(e))
    equation = LinearEquation(pairs, -q, operator, operator.inverse_norm())
    if equation.may_be_singular and _singular(*sent, operator):
        return failed(q.shape, "reciprocal_eigenvalues")
    return solution(equation, hermitian=np.array_equal(q, adjoint(q)))


def _singular(a: Array, e: Array | None, operator: CongruentOperator | None) -> bool:
    """Whether lambda_i conj(lambda_j) = 1: in exact arithmetic, or to rounding in large equations."""
    if len(a) <= EXACT_ORDER:
        return has_reciprocal_eigenvalues(a, e)
    return operator is None or singular_to_rounding(operator.inner, operator.spectrum, operator.spectrum.conj())
