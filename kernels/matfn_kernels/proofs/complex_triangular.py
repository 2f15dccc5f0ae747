"""Bounds of solutions X of T X = B with complex triangular T: those of `triangular`, by real and imaginary parts.

A ball of complex matrices is one of their real parts and one of their imaginary parts. With R = B - T X and any Z near
T^-1, G = I - Z T and ||G||_2 < 1,

    ||T^-1 B - X||_F <= ||Z R||_F / (1 - ||G||_2),    ||G||_2 <= ||Re G||_2 + ||Im G||_2.

Z comes from a substitution that is not trusted. Rows of T and B are scaled by powers of two first.
Reference: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 8 and 14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, scaling
from matfn_kernels.linalg.triangles import read_triangle
from matfn_kernels.proofs.balls import difference, minus_identity, product, source, up
from matfn_kernels.proofs.proof import LARGEST_DEFECT, Proof, complement, in_range, least_norm, peak_exponent

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball, Source
    from matfn_kernels.proofs.triangular import Shape

__all__ = ["prove_complex_low_rank", "prove_complex_triangle"]

_SINGULAR: Final = "the triangle was not proved to be invertible"
_BELOW: Final = 1 - 2.0**-45
"""Covers the rounding of the few operations that give a lower bound."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A ball of real parts and one of imaginary parts."""

    real: Ball
    imaginary: Ball

    @classmethod
    def given(cls, by: Source, x: Tensor, exponent: Tensor, *, doubled: bool) -> _Pair:
        """X 2^exponent of complex X (batch, m, n)."""
        return cls(*(by.given(part.to(torch.float64), exponent, doubled=doubled) for part in (x.real, x.imag)))

    def times(self, y: _Pair) -> _Pair:
        """X Y."""
        real = difference(product(self.real, y.real), product(self.imaginary, y.imaginary))
        crossed = product(self.real, y.imaginary), product(self.imaginary, y.real)
        return _Pair(real, crossed[0].plus(crossed[1], sign=1.0, factor=1.0))

    def minus(self, y: _Pair) -> _Pair:
        """X - Y."""
        return _Pair(difference(self.real, y.real), difference(self.imaginary, y.imaginary))

    def rows_like(self, y: Ball) -> _Pair:
        """Rows times powers of two that bring those of real Y near 1."""
        return _Pair(self.real.rows_like(y), self.imaginary.rows_like(y))

    def rounded(self) -> _Pair:
        """The balls about the first parts that hold these."""
        return _Pair(self.real.rounded(), self.imaginary.rounded())

    @property
    def frobenius(self) -> Tensor:
        """An upper bound of the Frobenius norm, (batch,)."""
        sizes = self.real.frobenius, self.imaginary.frobenius
        larger, smaller = torch.maximum(*sizes), torch.minimum(*sizes)
        return up(larger * (1 + (smaller / larger).square()).sqrt())

    @property
    def spectral(self) -> Tensor:
        """An upper bound of the 2-norm, (batch,)."""
        return up(self.real.spectral + self.imaginary.spectral)

    @property
    def least(self) -> Tensor:
        """A lower bound of the Frobenius norm of what was given exactly, (batch,)."""
        parts = [least_norm(x).clamp_min(0).square() for x in (self.real, self.imaginary)]
        return (parts[0] + parts[1]).sqrt() * _BELOW


def prove_complex_triangle(t: Tensor, b: Tensor | None, x: Tensor, shape: Shape) -> Proof:
    """Bounds X against T^-1 B or T^-T B, T^-1 without B, for complex T (batch, n, n)."""
    doubled, by, exponent = x.dtype == torch.complex128, source(len(x)), _exponent(x)
    t = read_triangle(t.to(torch.complex128), lower=shape.lower, unit=shape.unit)
    t, upper = (t.mT, shape.lower) if shape.transpose else (t, not shape.lower)
    scale = exponent if b is None else exponent - _exponent(b)
    sizes = torch.maximum(t.real.abs(), t.imag.abs())
    likeness = by.given(sizes, scale)
    rows = _Pair.given(by, t, scale, doubled=doubled).rows_like(likeness)
    right = _right(by, b, x, doubled=doubled).rows_like(likeness)
    lead = torch.frexp(sizes.amax(-1, keepdim=True)).exponent
    near = _near(t * invariant.two_to(-lead), upper=upper)
    return _prove(
        rows, right, _Pair.given(by, x, -exponent, doubled=doubled), _Pair.given(by, near, 0 * scale, doubled=False)
    )


def prove_complex_low_rank(
    factors: tuple[Tensor, Tensor, Tensor], b: Tensor | None, x: Tensor, *, transpose: bool
) -> Proof:
    """Bounds X against T^-1 B or T^-T B for complex T = diag(l) + tril(Q K^T, -1)."""
    doubled, by, exponent = x.dtype == torch.complex128, source(len(x)), _exponent(x)
    diag, q, k = (factor.to(torch.complex128) for factor in factors)
    scale, second = exponent if b is None else exponent - _exponent(b), _exponent(k)
    left = _Pair.given(by, q, scale + second, doubled=doubled)
    right = _Pair.given(by, k.mT, -second, doubled=doubled)
    below, values = left.times(right), scaling.rescale(diag, scale)
    t = _Pair(
        *(
            part.strictly_lower().plus(by.diagonal(l, q.shape[-2], doubled=doubled), sign=1.0, factor=1.0)
            for part, l in ((below.real, values.real), (below.imaginary, values.imag))
        )
    )
    dense = scaling.rescale(invariant.product(q, k.mT), scale).tril(-1) + torch.diag_embed(values)
    if transpose:
        t, dense = _Pair(t.real.mT, t.imaginary.mT), dense.mT
    near = _Pair.given(by, _near(dense, upper=transpose), 0 * scale, doubled=False)
    return _prove(t, _right(by, b, x, doubled=doubled), _Pair.given(by, x, -exponent, doubled=doubled), near)


def _exponent(x: Tensor) -> Tensor:
    """The exponent of the largest part of an entry of complex X, (batch,)."""
    return peak_exponent(torch.view_as_real(x.resolve_conj().contiguous()))


def _near(t: Tensor, *, upper: bool) -> Tensor:
    """T^-1 as complex128 computes it."""
    eye = torch.eye(t.shape[-1], dtype=torch.complex128).expand_as(t)
    return invariant.solve_triangular(t, eye, upper=upper)


def _right(by: Source, b: Tensor | None, x: Tensor, *, doubled: bool) -> _Pair:
    """B 2^-size, or I."""
    if b is not None:
        return _Pair.given(by, b, -_exponent(b), doubled=doubled)
    zero = torch.zeros(x.shape[:-1], dtype=torch.float64)
    order = x.shape[-1]
    return _Pair(by.diagonal(None, order, doubled=doubled), by.diagonal(zero, order, doubled=doubled))


def _prove(t: _Pair, b: _Pair, x: _Pair, near: _Pair) -> Proof:
    error = near.times(b.minus(t.times(x)).rounded())
    gap = near.times(t.rounded())
    defect = _Pair(minus_identity(gap.real), gap.imaginary).spectral
    absolute = up(error.frobenius / complement(defect))
    doubts = {**in_range(t.frobenius, b.frobenius, x.frobenius)}
    return Proof(absolute, x.least, {**doubts, _SINGULAR: ~(defect <= LARGEST_DEFECT) | ~torch.isfinite(absolute)})
