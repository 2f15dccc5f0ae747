"""The matrix sign by Newton's iteration, refined and certified through its own condition operator.

Newton: X <- (mu X + (mu X)^-1) / 2 with mu = |det X|^(-1/n) until X changes by less than 1%, then mu = 1. It breaks
down, or does not settle, where an eigenvalue is imaginary.

Refinement: let S^2 = I, and N = (S M + M S) / 2, which commutes with S. Then S N = M + D with D = (S M S - M) / 2, so S
is the exact sign of M + D provided that N has its spectrum in the right half plane; and to first order
sign(M) = S - L(D), where N L(E) + L(E) N = E - S E S. One Schur form of N gives the correction, the condition number
||L|| ||M|| / ||S|| and the test of the half plane: nothing of the certificate rests on the iteration.
References: Higham, Functions of Matrices (2008), chapter 5, theorem 5.3; Byers, Linear Algebra Appl. 85 (1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import lapack, svdvals

from matfn_kernels.linalg.sylvester_operator import SylvesterOperator
from matfn_kernels.numbers.arrays import EPS, Array, adjoint, demand_small, gaussian, growth, norm
from matfn_kernels.numbers.extended_product import narrow, product

__all__ = ["Sign", "certified_sign", "newton"]

MAX_STEPS: Final = 50
"""Steps after which there is no sign; some ten suffice far from the imaginary axis."""
_SETTLING: Final = 1e-2
"""Relative change below which scaling stops: from there on the unscaled iteration converges quadratically."""
_REFINEMENTS: Final = 3
"""Most corrections: each must halve the one before, and to first order one is enough."""
_MARGIN: Final = 4.0
"""How often the last correction, and the distance from S^2 = I, count in the estimate, which first order gives."""
_ROUNDING: Final = 4.0
"""How often storing S, and the noise of S M S, count in the estimate: two roundings and one random matrix give it."""
_OPERATORS: Final = 2
"""Most operators that refine a sign. A second one is a second Schur form; it is needed where Newton's S is far off."""
_SETTLED: Final = 1e-11
"""Relative change of S by a refinement that leaves its operator as it was."""
_STALE: Final = 1 / 4
"""Part of itself by which the operator's change may change a correction; beyond, EPS times the condition counts too."""
_HOPELESS: Final = 1e-2
"""Largest error that rounding of A may cause for an estimate to be given: beyond, first order says nothing."""
_CROSSINGS: Final = 3
"""Conjugate pairs of eigenvalues, the nearest to the axis, at whose heights the distance to it is measured."""
_TINY: Final = 1e-30
"""Keeps the condition finite where the distance to the axis is 0."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign and its certificate.

    Attributes:
        value: S.
        steps: of Newton.
        residual: the larger of ||S^2 - I|| / ||S||^2 and ||S M - M S|| / (||S|| ||M||).
        error: estimated ||error|| / ||S||; NaN where rounding of M alone may carry an eigenvalue across the axis.
        condition: ||L|| ||M|| / ||S||, at least 1, or one over the distance to the axis where that is within rounding.
    """

    value: Array
    steps: int
    residual: float
    error: float
    condition: float


def newton(m: Array) -> tuple[Array, int] | None:
    """(S, steps) up to the rounding of the iteration, or None where the sign is undefined."""
    x, previous, scaling = m, math.inf, True
    for step in range(1, MAX_STEPS + 1):
        inverse, log_det = _inverse(x)
        if inverse is None:
            return None
        mu = math.exp(-log_det / len(x)) if scaling else 1.0
        new = (mu * x + inverse / mu) / 2
        size = norm(new)
        if not 0 < size < math.inf:
            return None
        change = norm(new - x) / size
        # The error of X is at most ||X^-1|| ||change||^2 / 2; past that, rounding alone moves X.
        settled = change <= math.sqrt(len(x) * EPS * size / norm(inverse))
        if not scaling and (settled or (previous < _SETTLING and change > previous / 2)):
            return new, step
        scaling = scaling and change >= _SETTLING
        x, previous = new, change
    return None


def _inverse(x: Array) -> tuple[Array | None, float]:
    """X^-1 and log |det X|; None where X is singular to the last bit.

    Raises:
        numpy.linalg.LinAlgError: if LAPACK returns another matrix: a wrong one may carry eigenvalues across the axis.
    """
    is_complex = np.iscomplexobj(x)
    lu, pivots, info = (lapack.zgetrf if is_complex else lapack.dgetrf)(x)
    if info != 0:
        return None, 0.0
    inverse, info = (lapack.zgetri if is_complex else lapack.dgetri)(lu, pivots)
    if info == 0 and np.isfinite(inverse).all():
        demand_small(x @ inverse - np.eye(len(x)), norm(x) * norm(inverse), len(x))
    return (inverse if info == 0 else None), float(np.log(np.abs(lu.diagonal())).sum())


def certified_sign(m: Array, weights: Array | None = None) -> Sign | None:
    """The sign of M (n, n), scaled near 1, or None where it is undefined.

    Args:
        m: M = D^-1 A D.
        weights: d_i / d_j, powers of two: the answer is the sign of A, and errors are relative to it. None for D = I.
    """
    found = newton(m)
    if found is None:
        return None
    s, steps = found
    s, correction, operator, moved = _settled(_involutory(s), m)
    weights = np.ones(()) if weights is None else weights
    size = norm(weights * s)
    condition = max(1.0, _operator_norm(s, operator, weights) * norm(m) / size)
    rounding = EPS + norm(weights * _noise(s, m, operator, correction)) / size
    if condition * size * (moved / norm(m) + EPS) > _STALE:
        rounding += EPS * condition
    error = _MARGIN * (norm(weights * correction) + norm(weights * (_defect(s) @ s))) / size + _ROUNDING * rounding
    distance, value = _distance(m, operator), np.asarray(weights * s)
    if condition * EPS <= _HOPELESS and distance > len(m) * EPS:
        return Sign(value, steps, _residual(s, m), error, condition)
    return Sign(value, steps, _residual(s, m), math.nan, max(condition, 1 / max(distance, _TINY)))


def _defect(s: Array) -> Array:
    """S^2 - I, summed in extended precision: entries of S^2 may be far above 1."""
    return narrow(product(s, s) - np.eye(len(s)))


def _mismatch(s: Array, m: Array) -> Array:
    """S M S - M, summed in extended precision: rounding in it is amplified by ||L||."""
    return narrow(product(product(s, m), s) - m)


def _involutory(s: Array) -> Array:
    """A Schulz step: S (3 I - S^2) / 2."""
    return np.asarray(s - s @ _defect(s) / 2)


def _settled(s: Array, m: Array) -> tuple[Array, Array, SylvesterOperator, float]:
    """S refined, the last correction, its operator, and how far S has moved N since the operator was made.

    A refinement that moves S by more than rounding is followed by another with the operator of the new S.
    """
    n = _n(s, m)
    for _ in range(_OPERATORS):
        operator = SylvesterOperator.twice(n)
        before, (s, correction) = s, _refined(s, m, operator)
        last, n = n, _n(s, m)
        if norm(s - before) <= _SETTLED * norm(s):
            break
    return s, correction, operator, norm(n - last)


def _n(s: Array, m: Array) -> Array:
    """N = (S M + M S) / 2."""
    return np.asarray((s @ m + m @ s) / 2)


def _refined(s: Array, m: Array, operator: SylvesterOperator) -> tuple[Array, Array]:
    """S corrected to first order while that shrinks the correction, and the last correction."""
    step = _correction(s, m, operator)
    for _ in range(_REFINEMENTS):
        better = _involutory(s - step)
        after = _correction(better, m, operator)
        if not norm(after) < norm(step) / 2:
            break
        s, step = better, after
    return s, step


def _correction(s: Array, m: Array, operator: SylvesterOperator) -> Array:
    """L(D), which is anticommuting with S, as is its right side: what rounding adds to either is taken out."""
    return _anticommuting(s, operator.solve(_anticommuting(s, _mismatch(s, m))))


def _noise(s: Array, m: Array, operator: SylvesterOperator, correction: Array) -> Array:
    """An estimate of the rounding in the correction, M being exact.

    It is the correction's distance from the one whose products are all summed in the other order, and the image of a
    random matrix the size of the rounding that both may share, that of S M S - M to float64.
    """
    turned = _mismatch(s.T, m.T).T
    other = _anticommuting(s.T, operator.solve(_anticommuting(s.T, turned.T).T).T).T
    shared = EPS * np.abs(turned) * gaussian(turned.shape)
    image = _anticommuting(s, operator.solve(_anticommuting(s, shared)))
    return np.asarray(np.hypot(np.abs(correction - other), np.abs(image)))


def _anticommuting(s: Array, x: Array) -> Array:
    return np.asarray((x - s @ x @ s) / 2)


def _operator_norm(s: Array, operator: SylvesterOperator, weights: Array) -> float:
    """||L||, the derivative of the sign with its entries weighed, by power steps."""

    def derivative(e: Array) -> Array:
        return np.asarray(weights * operator.solve(e - s @ e @ s))

    def backwards(e: Array) -> Array:
        g = operator.solve_adjoint(weights * e)
        return np.asarray(g - adjoint(s) @ g @ adjoint(s))

    return growth(derivative, backwards, (len(s), len(s)))


def _distance(m: Array, operator: SylvesterOperator) -> float:
    """The least change, relative to ||M||, that puts an eigenvalue on the imaginary axis; 0 if N left its half plane.

    It is looked for at 0 and level with the eigenvalues nearest to the axis. An eigenvalue of N is one of M or minus
    one, so that a complex M, whose eigenvalues are in no conjugate pairs, is looked at on either side of 0.
    """
    values = operator.spectra[0]
    if not (values.real > 0).all():
        return 0.0
    levels = np.abs(values.imag)[np.argsort(values.real)][: 2 * _CROSSINGS]
    heights = set(levels[levels > 0].tolist())
    heights |= {-level for level in heights} if np.iscomplexobj(m) else set()
    shifted = (m - 1j * height * np.eye(len(m)) for height in heights)
    return float(min(svdvals(x)[-1] for x in (m, *shifted)) / svdvals(m)[0])


def _residual(s: Array, m: Array) -> float:
    size = norm(s)
    return max(norm(_defect(s)) / size**2, norm(s @ m - m @ s) / (size * norm(m)))
