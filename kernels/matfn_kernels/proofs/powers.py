"""Bounds of A^(s/r) and A^(-s/r) for positive definite A, from products alone.

Let B be what the claimed power belongs to, X = B^(-1/r) or Y = B^(1/r), and C = A^s. With E = B^(-1/2) C B^(-1/2) - I
and e = ||E||_2 < 1, C is positive definite, and with p = 1/r

    ||C^(-p) - X||_F <= p ||X^(1/2) E X^(1/2)||_F + p e^2 / (1 - e) ||X||_F,
    ||C^p - Y||_F <= p ||Y^((1-r)/2) (C - Y^r) Y^((1-r)/2)||_F + p e^2 / (1 - e) ||Y||_F.

The first terms bound the Frechet derivative, whose divided differences are at most p times a geometric mean; the others
bound the rest of the integral of resolvents. Neither a gap nor a condition number enters.
Positive definiteness: the bound is that of L L^T for a Cholesky factor L of the claimed matrix, and ||X - L L^T||_F, a
product's residual, is added. The factorisation itself is not trusted.
References: Bhatia, Matrix Analysis (1997), chapters V and X; Higham, Functions of Matrices (2008), chapter 3;
docs/proofs.md has the derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.numbers.precision import FLOOR
from matfn_kernels.proofs.balls import (
    difference,
    minus_identity,
    power,
    product,
    skew_part,
    source,
    symmetric_part,
    up,
)
from matfn_kernels.proofs.proof import (
    LARGEST_DEFECT,
    Proof,
    complement,
    exponent_of,
    least_norm,
    near,
    out_of_range,
    peak_exponent,
    read,
    symmetric,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball

__all__ = ["Claim", "Exponent", "Residuals", "inverse_power", "positive_power", "prove_pair", "prove_power"]

_DOWN: Final = 1 - 2.0**-30
"""Covers the rounding of a lower bound, powers with exponents up to 64 included."""
_INDEFINITE: Final = "the answer, or a reference for it, is not positive definite beyond rounding"
_RESIDUAL: Final = "the residual is too large for a proof"
_DROPPED: Final = 'damping="range": the matrix was not proved to keep all its eigenvalues'


@dataclass(frozen=True, slots=True)
class Exponent:
    """sign s / r in lowest terms.

    Attributes:
        s: the numerator, at least 1.
        r: the denominator, at least 1.
        inverse: whether the exponent is negative.
        floor: the relative size of the eigenvalues that "range" drops, or None.
    """

    s: int
    r: int
    inverse: bool
    floor: float | None = None

    @classmethod
    def of(cls, s: int, r: int, *, inverse: bool, dropping: torch.dtype | None) -> Exponent:
        """The exponent of a call, in lowest terms; `dropping` is the dtype whose spacing tells what "range" drops."""
        common = math.gcd(s, r)
        floor = None if dropping is None else FLOOR * torch.finfo(dropping).eps
        return cls(s // common, r // common, inverse, floor)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed matrix X, a triangle L, the positive semidefinite L L^T near X, and X - L L^T."""

    given: Ball
    factor: Ball
    square: Ball
    apart: Ball

    @classmethod
    def of(cls, x: Ball) -> Claim:
        """Of X (batch, n, n) that may be unsymmetric in its last digits."""
        factor = x.factored()
        square = product(factor, factor.mT, symmetric=True)
        return cls(x, factor, square, difference(x, square))


def prove_power(a: Tensor, g: Tensor | None, x: Tensor, shift: Tensor | None, exponent: Exponent) -> Proof:
    """Bounds X against A^(+-s/r), or G A^(+-s/r), of the symmetric part of A (batch, n, n) plus shift I.

    Domain: A + shift I positive definite, with a residual below 1. With G a reference for A^(+-s/r) is computed by an
    eigendecomposition, proved as an answer is, and ||X - G reference||_F + ||G||_2 times its bound is the bound.
    """
    itself, by = x.dtype in {torch.float64, torch.complex128} or exponent.s == 1, source(len(x))
    doubled = x.dtype in {torch.float64, torch.complex128} or exponent.s > 1
    a, x = read(a), read(x)
    k = -torch.div(-exponent_of(a, shift), exponent.r, rounding_mode="floor")
    matrix = symmetric(a, shift, k * exponent.r, by, doubled=doubled)
    wanted = k * exponent.s if exponent.inverse else -k * exponent.s
    if g is None and itself:
        return _prove(matrix, by.given(x, wanted, doubled=doubled), exponent)
    reference = by.given(_reference(near(a, shift, k * exponent.r), exponent), doubled=doubled)
    if g is None:
        return _prove_by_reference(matrix, by.given(x, wanted, doubled=True), reference, exponent)
    g = read(g)
    left = peak_exponent(g)
    factor = by.given(g, -left, doubled=doubled)
    return _prove_product(matrix, factor, by.given(x, wanted - left, doubled=doubled), reference, exponent)


def prove_pair(
    a: Tensor, y: Tensor, x: Tensor, shift: Tensor | None, dropping: torch.dtype | None
) -> tuple[Proof, Proof]:
    """Bounds Y against A^(1/2) and X against A^(-1/2), of the symmetric part of A (batch, n, n) plus shift I.

    X is proved as alone. With X near L L^T, L^T Y L = I + G proves Y positive definite and stands for its inverse:
    Y^-1 = L (I + G)^-1 L^T. Domain: that of X.
    """
    doubled, by = x.dtype in {torch.float64, torch.complex128}, source(len(x))
    a, y, x = map(read, (a, y, x))
    k = -torch.div(-exponent_of(a, shift), 2, rounding_mode="floor")
    matrix = symmetric(a, shift, 2 * k, by, doubled=doubled)
    inverse, claimed = by.given(x, k, doubled=doubled), by.given(y, -k, doubled=doubled)
    recorded = _recorded(matrix, inverse, Exponent.of(1, 2, inverse=True, dropping=dropping))
    root = _recorded_root(matrix, claimed, recorded.claim.factor.rounded())
    return root(), recorded.proof()


def _recorded_root(a: Ball, y: Ball, factor: Ball) -> Callable[[], Proof]:
    """Bounds Y against A^(1/2) by L L^T near A^(-1/2)."""
    middle, beside = symmetric_part(y), skew_part(y)
    missing = difference(a, product(middle, middle, symmetric=True)).rounded()
    defect = minus_identity(_conjugated(factor.mT, middle.rounded()))
    first = _conjugated(factor.mT, missing).wider(defect)  # Y^(-1/2) F Y^(-1/2) in another basis
    second = _conjugated(factor, first)  # Y^-1 F Y^-1

    def judged() -> Proof:
        e = second.spectral
        rest = up(e * e / complement(e)) * middle.frobenius
        absolute = up(beside.frobenius + up(first.frobenius + rest) / 2)
        known = (defect.spectral <= LARGEST_DEFECT) & (e <= LARGEST_DEFECT) & torch.isfinite(absolute)
        return Proof(absolute, least_norm(y), {**out_of_range(a, y), _RESIDUAL: ~known})

    return judged


def _prove_product(a: Ball, g: Ball, x: Ball, reference: Ball, exponent: Exponent) -> Proof:
    apart = difference(x, product(g, reference))
    proof = _prove(a, reference, exponent)
    doubts = {**out_of_range(a, g, x), **proof.doubts}
    return Proof(up(apart.frobenius + g.spectral * proof.absolute), least_norm(x), doubts)


def _prove_by_reference(a: Ball, x: Ball, reference: Ball, exponent: Exponent) -> Proof:
    """The bound of a reference in twice the digits of float64, and the distance to it.

    The residual of an answer rounded to fewer digits is enlarged by A^s: 100 times for s / r = 2 / 3 at condition 1e4.
    """
    apart = difference(x, reference)
    proof = _prove(a, reference, exponent)
    doubts = {**out_of_range(a, x), **proof.doubts}
    return Proof(up(apart.frobenius + proof.absolute), least_norm(x), doubts)


def _reference(a: Tensor, exponent: Exponent) -> Tensor:
    """A^(+-s/r) by an eigendecomposition in float64: a claim to be proved."""
    w, v = invariant.eigh(a)
    with np.errstate(all="ignore"):  # what is not finite is no proof
        values = invariant.power(w.clamp_min(0), (-1 if exponent.inverse else 1) * exponent.s / exponent.r)
    return invariant.product(v * values[:, None, :], v.mT)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A claim and its residuals, before their norms are asked for."""

    a: Ball
    claim: Claim
    exponent: Exponent
    residuals: Residuals

    def proof(self) -> Proof:
        """The bound by the claim's residuals."""
        first, defect, smallest = self.residuals.norms()
        second = up(defect * defect / complement(defect)) * self.claim.square.frobenius
        absolute = up(self.claim.apart.frobenius + up(first + second) / self.exponent.r)
        doubts = {**out_of_range(self.a, self.claim.given), _INDEFINITE: ~self.claim.factor.exists}
        doubts[_RESIDUAL] = ~(defect <= LARGEST_DEFECT) | ~torch.isfinite(absolute)
        if self.exponent.floor is not None:
            cut = _raised(up(self.exponent.floor * self.a.spectral), self.exponent.s)
            doubts[_DROPPED] = ~(up(cut) * (1 + 2.0**-30) < complement(defect) * smallest)
        return Proof(absolute, least_norm(self.claim.given), doubts)


def _recorded(a: Ball, x: Ball, exponent: Exponent) -> _Recorded:
    claim = Claim.of(x)
    return _Recorded(a, claim, exponent, (inverse_power if exponent.inverse else positive_power)(a, claim, exponent))


def _prove(a: Ball, x: Ball, exponent: Exponent) -> Proof:
    return _recorded(a, x, exponent).proof()


@dataclass(frozen=True, slots=True)
class Residuals:
    """Residuals that bound the error of a claimed power.

    Attributes:
        weighted: the residual whose norm over r bounds the error to first order.
        relative: E in some basis.
        size: a matrix whose 2-norm to the power r bounds 1 over B's eigenvalues, but for `defect`.
        r: the denominator of the exponent.
        defect: of an inverse that made `size`, or None.
    """

    weighted: Ball
    relative: Ball
    size: Ball
    r: int
    defect: Ball | None = None

    def norms(self) -> tuple[Tensor, Tensor, Tensor]:
        """||weighted||_F, ||E||_2 and a lower bound of B's eigenvalues, (batch,) each."""
        margin = 1.0 if self.defect is None else complement(self.defect.spectral).square()
        return self.weighted.frobenius, self.relative.spectral, _raised(margin / self.size.spectral, self.r) * _DOWN


def inverse_power(a: Ball, claim: Claim, exponent: Exponent) -> Residuals:
    """X^(1/2) E X^(1/2) and E for X = L L^T = B^(-1/r).

    With H = X^(r/2), or X^((r-1)/2) L for odd r, H^T A^s H - I is E in another basis. A is multiplied to H one power
    after the other, so that no factor has a larger condition than the residual's own.
    """
    r, factor = exponent.r, claim.factor.rounded()
    half = power(claim.square, r // 2) if r > 1 else factor
    if r % 2 and r > 1:
        half = product(half, factor)
    for _ in range(exponent.s // 2):
        half = product(a, half)
    right = product(a, half) if exponent.s % 2 else half
    residual = minus_identity(product(half.mT, right, symmetric=True)).rounded()
    weighted = _conjugated(factor if r % 2 else factor.mT, residual)
    return Residuals(weighted, residual, claim.square, r)


def positive_power(a: Ball, claim: Claim, exponent: Exponent) -> Residuals:
    """Y^((1-r)/2) (C - Y^r) Y^((1-r)/2) and E for Y = L L^T = B^(1/r).

    C - Y^r is multiplied by L^-1 from both sides, then by L^-T, and so on r times: Y^(-k/2) (C - Y^r) Y^(-k/2) in
    another basis after k of them. T near L^-1 is not trusted: with G = T L - I, L^-1 = (I + G)^-1 T.
    """
    r, factor = exponent.r, claim.factor.rounded()
    inverse = factor.inverted()
    defect = minus_identity(product(inverse, factor))
    whole = product(inverse.mT, inverse, symmetric=True)
    found = difference(power(a, exponent.s), power(claim.square, r)).rounded()
    first = found
    for k in range(1, r + 1):
        first = found
        found = _divided(found, inverse, defect, upper=k % 2 == 0)
    return Residuals(first, found, whole, r, defect)


def _raised(x: Tensor, exponent: int) -> Tensor:
    """x^exponent by multiplications, with a relative error below exponent 2^-53."""
    found = torch.ones_like(x)
    for _ in range(exponent):
        found = found * x
    return found


def _conjugated(t: Ball, f: Ball) -> Ball:
    """T F T^T of symmetric F."""
    return product(product(t, f), t.mT, symmetric=True)


def _divided(f: Ball, inverse: Ball, defect: Ball, *, upper: bool) -> Ball:
    """L^-1 F L^-T for lower T near L^-1, or L^-T F L^-1."""
    if upper:
        return _conjugated(inverse.mT, f.wider(defect))
    return _conjugated(inverse, f).wider(defect)
