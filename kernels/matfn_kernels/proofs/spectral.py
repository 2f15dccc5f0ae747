"""Bounds of logarithms, exponentials and real powers of Hermitian matrices.

With computed V and w, Q the orthogonal polar factor of V and B = Q diag(w) Q^T, f(B) = Q diag(f(w)) Q^T exactly. In the
eigenbases of A and of B, f(A) - f(B) is A - B, each entry times a divided difference f[a_i, b_j]: in the Frobenius norm

    ||f(A) - f(B)||_F <= L ||A - B||_F,    L = max |f[a, b]| over the eigenvalues a of A and b of B,

which lie within ||A - B||_F of w. L is |f'| at an end of the interval of all of them: the least eigenvalue for log and
powers below 1, the largest for others. Whole powers of numbers of either sign have |f[a, b]| <= |p| c^(p - 1), c the
largest magnitude, or the least for p < 0. f(w) is computed with a bound of its own (`elementary`).
References: Bhatia, Matrix Analysis (1997), chapters VII and X; Kittaneh, Linear Algebra Appl. 63 (1985).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.numbers.precision import FLOOR
from matfn_kernels.proofs.balls import TINY, difference, product, source, up
from matfn_kernels.proofs.clips import composed, defect_of, tilt
from matfn_kernels.proofs.elementary import expanded, exponential, logarithm, real_power, whole_power
from matfn_kernels.proofs.proof import (
    Proof,
    exponent_of,
    least_norm,
    near,
    out_of_range,
    peak_exponent,
    read,
    symmetric,
)

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball

__all__ = ["ExponentialOf", "LogarithmOf", "PowerOf", "Scalar", "prove_function"]

_DOMAIN: Final = "the matrix was not proved to have its eigenvalues where the function is defined"
_FAR: Final = "the residual is too large for a proof"
_DROPPED: Final = 'damping="range": the matrix was not proved to keep all its eigenvalues'
_EXTREME: Final = 1 << 20
"""Exponent of two below that of every value that is not 0."""


class Scalar(Protocol):
    """A function of eigenvalues with bounds of its values and of its divided differences, NaN where it has none."""

    def values(self, w: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F(w 2^exponent) of w (batch, n), ascending, as y 2^k, and a bound of the error of y: y, k, bound."""

    def slope(self, w: Tensor, reach: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
        """A bound of |f[a, b]| 2^exponent for all numbers within reach 2^exponent of w 2^exponent, as y 2^k."""


@dataclass(frozen=True, slots=True)
class LogarithmOf:
    """log(w)."""

    def values(self, w: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """By `elementary`."""
        y, error = logarithm(w, exponent)
        return y, torch.zeros_like(y, dtype=torch.int64), error

    def slope(self, w: Tensor, reach: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
        """1 / w at the least number."""
        return up(1 / _less(w[:, 0], reach)), torch.zeros_like(exponent)


@dataclass(frozen=True, slots=True)
class ExponentialOf:
    """e^(t w).

    Attributes:
        t: the factor.
    """

    t: float

    def values(self, w: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """By `elementary`, the rounding of t w included."""
        argument = w * self._factor(exponent)[:, None]
        y, k, error = exponential(argument)
        return y, k, up(y * (error + expanded(up(argument.abs() * 2.0**-52))))

    def slope(self, w: Tensor, reach: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
        """|t| e^(t w) at the number where t w is largest."""
        factor = self._factor(exponent)
        argument = factor * (_more(w[:, -1], reach) if self.t >= 0 else -_more(-w[:, 0], reach))
        y, k, error = exponential(argument)
        return up(factor.abs() * y * (1 + error + expanded(up(argument.abs() * 2.0**-52)))), k

    def _factor(self, exponent: Tensor) -> Tensor:
        return invariant.ldexp(torch.full(exponent.shape, self.t, dtype=torch.float64), exponent)


@dataclass(frozen=True, slots=True)
class PowerOf:
    """w^p, of numbers above 0 or, for a whole number p, of either sign.

    Attributes:
        p: the exponent.
    """

    p: float

    def values(self, w: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """By `elementary`."""
        y, k, error = self._raised(w, exponent)
        return y, k, up(y.abs() * error)

    def slope(self, w: Tensor, reach: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
        """|p| w^(p - 1) at the largest number for p >= 1, and else at the least."""
        if self.p == 0:
            return torch.zeros_like(reach), torch.zeros_like(exponent)
        size = w.abs() if self.p.is_integer() else w
        end = _more(size.amax(-1), reach) if self.p >= 1 else _less(size.amin(-1), reach)
        y, k, error = (x[:, 0] for x in self._raised(end[:, None], exponent))
        return up(abs(self.p) * y * (1 + error) / end), k

    def _raised(self, w: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return whole_power(w, exponent, int(self.p)) if self.p.is_integer() else real_power(w, exponent, self.p)


def prove_function(
    a: Tensor, g: Tensor | None, x: Tensor, shift: Tensor | None, function: Scalar, dropping: torch.dtype | None
) -> Proof:
    """Bounds X against f(A), or G f(A), of the symmetric part of A (batch, n, n) plus shift I.

    Domain: f is smooth at all numbers within the residual of A's eigenvalues as eigh computes them.

    Args:
        a: A.
        g: factors (batch, m, n), or None.
        x: the claims.
        shift: (batch,), or None.
        function: f.
        dropping: the dtype whose spacing tells which eigenvalues "range" drops, None where it drops none.
    """
    doubled, by = x.dtype in {torch.float64, torch.complex128}, source(len(x))
    a, x = read(a), read(x)
    exponent = exponent_of(a, shift)
    matrix = symmetric(a, shift, exponent, by, doubled=doubled)
    spectrum = _Spectrum.of(near(a, shift, exponent), function, exponent)
    basis = by.given(spectrum.v, doubled=doubled)
    missing = difference(matrix, composed(by, (basis, basis), spectrum.w))
    image, defect = composed(by, (basis, basis), spectrum.f), defect_of(basis)
    if g is None:
        claimed, factor = by.given(x, -spectrum.unit, doubled=doubled), None
        apart = difference(claimed, image)
    else:
        g = read(g)
        scale = peak_exponent(g)
        factor, claimed = (by.given(y, -e, doubled=doubled) for y, e in ((g, scale), (x, spectrum.unit + scale)))
        apart = difference(claimed, product(factor, image))
    reach, bound = spectrum.bounds(function, missing, defect)
    whole = bound if factor is None else factor.spectral * bound
    absolute = up(apart.frobenius + whole)
    doubts = {_DOMAIN: ~torch.isfinite(bound), **out_of_range(matrix, claimed), _FAR: ~torch.isfinite(absolute)}
    if dropping is not None:
        doubts[_DROPPED] = ~spectrum.keeps(reach, FLOOR * torch.finfo(dropping).eps)
    return Proof(absolute, least_norm(claimed), doubts)


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """Eigenpairs of a matrix scaled by 2^-exponent, not trusted, and values of a function, known to within a bound.

    Attributes:
        w: eigenvalues, ascending, (batch, n).
        v: eigenvectors (batch, n, n).
        f: the values of w 2^exponent, scaled by 2^-unit; 0 where there are none, (batch, n).
        off: bounds of their errors, infinite where there are no values, (batch, n).
        unit: (batch,).
        exponent: (batch,).
    """

    w: Tensor
    v: Tensor
    f: Tensor
    off: Tensor
    unit: Tensor
    exponent: Tensor

    @classmethod
    def of(cls, a: Tensor, function: Scalar, exponent: Tensor) -> Self:
        """Those of A (batch, n, n) and of a function."""
        w, v = invariant.eigh(a)
        y, k, error = function.values(w, exponent)
        unit = torch.where(y == 0, -_EXTREME, k + torch.frexp(y).exponent).amax(-1)
        unit = torch.where(unit > -_EXTREME, unit, 0)
        f, off = (invariant.ldexp(part, k - unit[:, None]) for part in (y, error))
        known = torch.isfinite(f)
        return cls(w, v, torch.where(known, f, 0.0), torch.where(known, off, torch.inf), unit, exponent)

    def bounds(self, function: Scalar, missing: Ball, defect: Ball) -> tuple[Tensor, Tensor]:
        """||A - B||_F, and ||f(A) - V diag(f) V^T||_F 2^-unit; not finite where there is none, (batch,) each."""
        turned, order = tilt(defect, defect), self.w.shape[-1]
        reach = up(missing.frobenius + up(self.w.abs().amax(-1) * turned))
        slope, lean = function.slope(self.w, reach, self.exponent)
        moved = up(invariant.ldexp(slope, lean - self.unit) * reach)
        inexact = up(self.off.amax(-1) * order**0.5 * (1 + defect.frobenius)) + TINY
        return reach, up(moved + inexact + up(self.f.abs().amax(-1) * turned))

    def keeps(self, reach: Tensor, floor: float) -> Tensor:
        """Whether all eigenvalues are above the floor, relative to the largest in magnitude, (batch,)."""
        size = self.w.abs()
        return _less(size.amin(-1), reach) > up(floor * _more(size.amax(-1), reach))


def _less(x: Tensor, y: Tensor) -> Tensor:
    """A lower bound of X - Y, NaN where it is not positive."""
    found = torch.nextafter(x - y, torch.full_like(x, -torch.inf))
    return torch.where(found > 0, found, torch.nan)


def _more(x: Tensor, y: Tensor) -> Tensor:
    """An upper bound of X + Y."""
    return torch.nextafter(x + y, torch.full_like(x, torch.inf))
