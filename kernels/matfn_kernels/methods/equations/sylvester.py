"""The equations A X + X B = Q and A X + X A^T = Q.

Method: Bartels and Stewart through real Schur forms, always in float64, and steps of refinement while the residual
falls. Domain: any real square A and B whose eigenvalues sum to no zero. The error estimate is the residual, rounding of
its computation included, over sep(A, -B) ||X||, or where that is large the correction that the residual asks for; there
is none where the equation is singular to rounding.
Equations that look singular are examined in exact arithmetic. Padding: ones on the diagonals of A and B, zeros in Q,
which is invisible unless the other matrix has an eigenvalue -1.
References: Bartels and Stewart, Comm. ACM 15 (1972); Higham, Accuracy and Stability (2002), chapter 16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.sylvester_operator import SylvesterOperator
from matfn_kernels.methods.equations.shared_eigenvalue import share_eigenvalue
from matfn_kernels.numbers.arrays import EPS, Array, gaussian, norm
from matfn_kernels.numbers.extended_product import CANCELLING, EXTENDED, narrow, product
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.per_matrix import Found, each, failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["HOPELESS", "SylvesterProgram", "bounded_error", "candidates"]

HOPELESS: Final = 1e-2
"""Above this condition times eps no digit is promised."""

_REFINEMENTS: Final = 3
"""Most refinements of X: on 150 equations of order 8 and scales to 1e-6 the first gained a digit, the next nothing."""
_STORED: Final = 0.25
"""A residual in units of eps (||A|| + ||B||) ||X||, half of what rounding of X may leave: refinement gains no more."""
_SUSPICIOUS: Final = 1e-6
"""Value of eps (||A|| + ||B||) / sep from which on an equation is examined in exact arithmetic; rounding makes it 1.

A smaller value examines more equations that are merely ill-conditioned, a larger one may miss singular ones."""
_EXACT_ORDER: Final = 256
"""Largest order that is examined in exact arithmetic, in 0.6 s of an Intel Xeon's core; the cost is cubic."""
_MARGIN: Final = 4.0
"""Of the estimate over the residual's part: 1 / sep is a lower bound, seen too small by 2 at most (`growth`)."""
_ROUNDING: Final = 4.0
"""Of the estimate over the rounding of the residual and of X.

With 1 in place of both margins true errors were at most 0.9 of the estimate (1100 random equations of order 1 to 5
against 50 digits)."""
_CRUDE: Final = 1e-11
"""An estimate by norms that is larger is measured instead, which takes one more substitution."""
_SCHUR: Final = 3.0
"""Cost of a real Schur form in units of eigh of its order."""


@dataclass(frozen=True, slots=True)
class SylvesterProgram:
    """Sylvester and Lyapunov equations: the values that all items in a batch share.

    Attributes:
        rows: order of A.
        columns: order of B, or None for Lyapunov's equation.
        dtype: of the inputs and outputs.
        method: schur.
        precision: fp64.
        ceiling: fp64.
    """

    rows: int
    columns: int | None
    dtype: torch.dtype
    method: Literal["schur"] = "schur"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, m, m), q (batch, m, n) and, with columns, b (batch, n, n)."""
        wide = {name: tensor.to(torch.float64) for name, tensor in inputs.items()}
        q, exponent = normalise(wide.pop("q"))
        common = _common_exponent(wide)
        name = "A X + X A^T - Q" if self.columns is None else "A X + X B - Q"
        findings = each(_solve, {**wide, "q": q, "exponent": common}, tuple(q.shape[1:]), name)
        return replace(findings, exponents=(exponent - common,), rank=None)

    def fallbacks(self) -> tuple[SylvesterProgram, ...]:
        """No fallback: there is no other method."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return (torch.zeros(inputs["q"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        orders = (self.rows, *(() if self.columns is None else (self.columns,)))
        return sum(_SCHUR * profile.cost("eigh", Precision.FP64, order) for order in orders)


def candidates(call: Signature) -> list[SylvesterProgram]:
    """The one program that serves a call."""
    call.require_double()
    b = call.shape("b")
    return [SylvesterProgram(rows=call.sizes("a")[-1], columns=None if b is None else b[-1], dtype=call.dtype)]


def _common_exponent(matrices: Mapping[str, Tensor]) -> Tensor:
    """The power of two just above every entry of an item's matrices, (batch,)."""
    peaks = torch.stack([tensor.abs().amax((-2, -1)) for tensor in matrices.values()])
    return torch.frexp(peaks.amax(0)).exponent


def _solve(a: Array, q: Array, exponent: Array, b: Array | None = None) -> Found:
    """X 2^exponent of one equation, A and B of about that size; without B it is A^T."""
    sent = a, a.T if b is None else b
    a, right = (np.ldexp(x, -int(exponent)) for x in sent)
    operator = SylvesterOperator.lyapunov(a) if b is None else SylvesterOperator.of(a, right)
    gain = operator.inverse_norm()
    # Scaling may drop what is 2^-1074 of the largest entry: only the equation as sent is exact.
    if _may_be_singular(a, right, gain) and _singular(*sent, operator):
        return failed(q.shape, "shared_eigenvalue")
    x, missing = _refined(a, right, q, operator)
    if b is None and np.array_equal(q, q.T):
        x = (x + x.T) / 2
        missing = _missing(a, right, q, x)
    size = norm(x)
    if size == 0:
        return Found(x, 0.0, 0.0, 1.0)
    sizes = (norm(a) + norm(right)) * size + norm(q)
    residual = norm(missing) / (norm(a @ x) + norm(x @ right) + norm(q))
    condition, error = bounded_error(gain, missing, sizes, size)
    if error > _CRUDE:
        error = min(error, _measured_error((a, right, q, x), missing, operator, gain))
    return Found(x, residual, error, condition, remarks=("ill_conditioned",) if math.isnan(error) else ())


def _refined(a: Array, b: Array, q: Array, operator: SylvesterOperator) -> tuple[Array, Array]:
    """X and its residual Q - A X - X B, refined while the residual falls and is above the rounding of X."""
    x = operator.solve(q)
    missing = _missing(a, b, q, x)
    least = _STORED * EPS * (norm(a) + norm(b))
    for _ in range(_REFINEMENTS):
        if norm(missing) <= least * norm(x):
            break
        better = x + operator.solve(missing)
        left = _missing(a, b, q, better)
        if not norm(left) < norm(missing):
            break
        x, missing = better, left
    return x, missing


def _missing(a: Array, b: Array, q: Array, x: Array) -> Array:
    """Q - A X - X B, summed in extended precision."""
    return narrow(q - product(a, x) - product(x, b))


def bounded_error(gain: float, missing: Array, sizes: float, size: float) -> tuple[float, float]:
    """(condition, relative error) of a solution whose residual is `missing`; NaN where no digit is promised.

    Args:
        gain: 1 / sep.
        missing: the residual, summed in extended precision.
        sizes: sum of the norms that bound the equation's terms; their rounding is the residual's.
        size: ||X||.
    """
    condition = max(1.0, gain * sizes / size)
    error = _MARGIN * gain * norm(missing) / size + _ROUNDING * (EXTENDED * condition + EPS)
    return condition, error if condition * EPS <= HOPELESS else math.nan


def _measured_error(
    equation: tuple[Array, Array, Array, Array], missing: Array, operator: SylvesterOperator, gain: float
) -> float:
    """The relative error of X as the correction that its residual asks for, to first order the error itself.

    Rounding of the residual counts by the correction that a random matrix of its size asks for.

    Args:
        equation: A, B, Q and X.
        missing: the residual, summed in extended precision.
        operator: X -> A X + X B.
        gain: 1 / sep, by which counts what the corrections leave of their right sides.
    """
    a, b, q, x = equation
    summed = EXTENDED * (np.abs(a @ x) + np.abs(x @ b) + np.abs(q))
    noise = summed + CANCELLING * (norm(a) + norm(b)) * norm(x)

    def asked(right: Array) -> float:
        y = operator.solve(right)
        return norm(y) + gain * norm(right - a @ y - y @ b)

    rounding = asked(noise * gaussian(x.shape)) / norm(x) + EPS
    return _MARGIN * asked(missing) / norm(x) + _ROUNDING * rounding


def _may_be_singular(a: Array, b: Array, gain: float) -> bool:
    """Whether the equation is near enough to a singular one to be examined in exact arithmetic."""
    return not gain * (norm(a) + norm(b)) * EPS < _SUSPICIOUS


def _singular(a: Array, b: Array, operator: SylvesterOperator) -> bool:
    """Whether an eigenvalue of A is minus one of B: in exact arithmetic, or to rounding in large equations."""
    if max(len(a), len(b)) <= _EXACT_ORDER:
        return share_eigenvalue(a, b)
    left, right = operator.spectra
    size = norm(operator.t) + norm(operator.r)
    return bool(np.abs(left[:, None] + right[None, :]).min() <= (len(a) + len(b)) * EPS * size)
