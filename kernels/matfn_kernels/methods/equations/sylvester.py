"""The equations A X + X B = Q, A X + X A^H = Q and A X E^H + E X A^H = Q.

Method: Bartels and Stewart through Schur forms, always in double precision, refined and certified by `linear`. Domain:
any square A and B whose eigenvalues sum to no zero; E without eigenvalue 0, through E^-1 A.
Equations that look singular are examined in exact arithmetic. Padding: ones on the diagonals of A, B and E, zeros in Q,
which is invisible unless the other matrix has an eigenvalue -1.
References: Bartels and Stewart, Comm. ACM 15 (1972); Higham, Accuracy and Stability (2002), chapter 16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.congruent_operator import CongruentOperator
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.sylvester_operator import SylvesterOperator
from matfn_kernels.methods.equations.linear import LinearEquation, solution
from matfn_kernels.methods.equations.shared_eigenvalue import has_opposite_eigenvalues, share_eigenvalue
from matfn_kernels.numbers.arrays import EPS, Array, adjoint, norm, shifted
from matfn_kernels.numbers.modular import is_singular
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.per_matrix import Found, each, failed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = [
    "EXACT_ORDER",
    "SCHUR",
    "SylvesterProgram",
    "common_exponent",
    "descriptor_failure",
    "singular_to_rounding",
]

EXACT_ORDER: Final = 256
"""Largest order that is examined in exact arithmetic, in 0.6 s of an Intel Xeon's core; the cost is cubic."""
SCHUR: Final = 3.0
"""Cost of a real Schur form in units of eigh of its order."""
_CALLS: Final = 3.5e-4
"""Seconds of some 60 calls of numpy and LAPACK for an equation of order 2: a price, on which no answer rests."""
_PRODUCTS: Final = 400.0
"""Further cost of an equation, in products: 440 at order 20, 340 at order 100 (AMD EPYC, AVX-512); a price too."""
_SUSPICIOUS: Final = 1e-6
"""Value of eps cond E from which on it is examined whether E is singular, as for equations."""


@dataclass(frozen=True, slots=True)
class SylvesterProgram:
    """Sylvester and Lyapunov equations: the values that all items in a batch share.

    Attributes:
        rows: order of A.
        columns: order of B, or None for Lyapunov's equation.
        given: names of the optional inputs that a call gives.
        dtype: of the inputs and outputs.
        method: schur.
        precision: fp64.
        ceiling: fp64.
    """

    rows: int
    columns: int | None
    given: tuple[str, ...]
    dtype: torch.dtype
    method: Literal["schur"] = "schur"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, m, m), q (batch, m, n), and b (batch, n, n) with columns, or e as a."""
        wide = {name: tensor.to(working(self.precision, self.dtype)) for name, tensor in inputs.items()}
        q, exponent = normalise(wide["q"])
        common = common_exponent([wide[name] for name in ("a", "b") if name in wide])
        scales, name = {"exponent": common}, "A X + X A^H - Q" if self.columns is None else "A X + X B - Q"
        if "e" in wide:
            scales, name = {**scales, "weight": common_exponent([wide["e"]])}, "A X E^H + E X A^H - Q"
        findings = each(_solve, {**wide, "q": q, **scales}, tuple(q.shape[1:]), name)
        return replace(findings, exponents=(exponent - sum(scales.values()),), rank=None)

    def fallbacks(self) -> tuple[SylvesterProgram, ...]:
        """No fallback: there is no other method."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["q"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        order = max(self.rows, self.columns or 0)
        return _CALLS + _PRODUCTS * profile.cost("gemm", Precision.FP64, order)


def common_exponent(matrices: Sequence[Tensor]) -> Tensor:
    """The power of two just above every entry of an item's matrices, (batch,)."""
    peaks = torch.stack([invariant.peak(tensor) for tensor in matrices])
    return torch.frexp(peaks.amax(0)).exponent


def descriptor_failure(e: Array) -> str | None:
    """The reason why an equation with E has no answer, if E is singular as it is stored."""
    with np.errstate(all="ignore"):
        suspicious = not np.linalg.cond(e) * EPS < _SUSPICIOUS
    return "singular_descriptor" if suspicious and len(e) <= EXACT_ORDER and is_singular(e) else None


def _solve(
    a: Array, q: Array, exponent: Array, b: Array | None = None, e: Array | None = None, weight: Array | None = None
) -> Found:
    """X 2^exponent of one equation, A and B of about that size, E of 2^weight; without B it is A^H."""
    hermitian = b is None and np.array_equal(q, adjoint(q))
    if e is not None:
        assert weight is not None
        return _generalised((a, e), q, (int(exponent), int(weight)), hermitian=hermitian)
    sent = a, adjoint(a) if b is None else b
    a, right = (shifted(x, -int(exponent)) for x in sent)
    operator = SylvesterOperator.lyapunov(a) if b is None else SylvesterOperator.of(a, right)
    equation = LinearEquation(((a, None), (None, right)), q, operator, operator.inverse_norm())
    # Scaling may drop what is 2^-1074 of the largest entry: only the equation as sent is exact.
    if equation.may_be_singular and _singular(*sent, operator):
        return failed(q.shape, "shared_eigenvalue")
    return solution(equation, hermitian=hermitian)


def _singular(a: Array, b: Array, operator: SylvesterOperator) -> bool:
    """Whether an eigenvalue of A is minus one of B: in exact arithmetic, or to rounding in large equations."""
    if max(len(a), len(b)) <= EXACT_ORDER:
        return share_eigenvalue(a, b)
    left, right = operator.spectra
    return singular_to_rounding(operator, left, right.conj() if operator.turned else right)


def singular_to_rounding(operator: SylvesterOperator, left: Array, right: Array) -> bool:
    """Whether two eigenvalues sum to zero, to the rounding of their Schur forms."""
    size = norm(operator.t) + norm(operator.r)
    return bool(np.abs(left[:, None] + right[None, :]).min() <= (len(left) + len(right)) * EPS * size)


def _generalised(sent: tuple[Array, Array], q: Array, exponents: tuple[int, int], *, hermitian: bool) -> Found:
    """X of A X E^H + E X A^H = Q for A and E as sent, of sizes near the powers of two."""
    failure = descriptor_failure(sent[1])
    if failure:
        return failed(q.shape, failure)
    a, e = (shifted(x, -exponent) for x, exponent in zip(sent, exponents, strict=True))
    operator = CongruentOperator.lyapunov(a, e)
    pairs = (a, adjoint(e)), (e, adjoint(a))
    equation = LinearEquation(pairs, q, operator, operator.inverse_norm())
    if equation.may_be_singular and _pencil_is_singular(*sent, operator):
        return failed(q.shape, "shared_eigenvalue")
    return solution(equation, hermitian=hermitian)


def _pencil_is_singular(a: Array, e: Array, operator: CongruentOperator) -> bool:
    """Whether two eigenvalues of the pencil A - s E sum to zero."""
    if len(a) <= EXACT_ORDER:
        return has_opposite_eigenvalues(a, e)
    return singular_to_rounding(operator.inner, operator.spectrum, operator.spectrum.conj())
