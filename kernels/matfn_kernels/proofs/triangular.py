"""Bounds of solutions X of T X = B with triangular T, T^-1 included, from residuals.

With R = B - T X and any matrix Z near T^-1, G = I - Z T and ||G||_2 < 1: T^-1 B - X = T^-1 R = (I - G)^-1 Z R, so that

    ||T^-1 B - X||_F <= ||Z R||_F / (1 - ||G||_2).

Z comes from a substitution that is not trusted. Rows of T and B are scaled by powers of two first. For B = I and a
small R, X takes the place of Z:

    T^-1 - X = X R (I - R)^-1, at most ||X R||_F / (1 - ||R||_2).
References: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 8 and 14; Rump, Acta Numerica 19
(2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import scaling
from matfn_kernels.linalg.native.structures import Half
from matfn_kernels.proofs.balls import difference, minus_identity, product, source, up
from matfn_kernels.proofs.proof import LARGEST_DEFECT, Proof, complement, least_norm, out_of_range, peak_exponent, read

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball, Source

__all__ = ["Shape", "prove_low_rank", "prove_triangle"]

_SINGULAR: Final = "the triangle was not proved to be invertible"
_SMALL: Final = 0.25
"""A residual, and the share of rounding in an error, up to which an inverse is proved by itself."""
_NOTHING: Final = 2.0**-10
"""A bound in units of the spacing that is no digit's."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Which triangle is read, whether its diagonal is ones, and whether the system is that of its transpose."""

    lower: bool = True
    unit: bool = False
    transpose: bool = False


def prove_triangle(t: Tensor, b: Tensor | None, x: Tensor, shape: Shape) -> Proof:
    """Bounds X against T^-1 B or T^-T B, T^-1 without B, for T (batch, n, n); domain: ||I - Z T||_2 < 1."""
    if b is not None:
        return _prove_solution(t, b, x, shape)
    found, sharp = _prove_by_itself(t, x, shape)
    if bool(sharp.all()):
        return found
    rest = ~sharp
    return _replaced(found, rest, _prove_solution(t[rest], None, x[rest], shape))


def _prove_by_itself(t: Tensor, x: Tensor, shape: Shape) -> tuple[Proof, Tensor]:
    """Bounds X against T^-1 by X R, and where the bound is neither coarse nor made of rounding, (batch,)."""
    doubled, by, spacing = x.dtype == torch.float64, source(len(x)), torch.finfo(x.dtype).eps
    t, x, exponent = read(t), read(x), peak_exponent(x)
    unread = Half.UPPER_HALF if shape.lower else Half.LOWER_HALF
    given = by.given(t, exponent, doubled=doubled, unread=unread, ones=shape.unit)
    claimed = by.given(x, -exponent, doubled=doubled)
    residual = minus_identity(product(given.mT if shape.transpose else given, claimed)).rounded()
    error = product(claimed.rounded(), residual)
    defect, size = residual.spectral, least_norm(claimed)
    absolute = up(error.frobenius / complement(defect))
    rounding = torch.maximum(_SMALL * error.frobenius, _NOTHING * spacing * size)
    doubts = {**out_of_range(given, claimed), _SINGULAR: ~torch.isfinite(absolute)}
    sharp = (defect <= _SMALL) & (error.uncertainty <= rounding)
    return Proof(absolute, size, doubts), sharp & ~torch.stack(list(doubts.values())).any(0)


def _replaced(proof: Proof, where: Tensor, other: Proof) -> Proof:
    """The other proof's numbers for some matrices."""

    def mixed(x: Tensor, y: Tensor) -> Tensor:
        return x.masked_scatter(where, y)

    doubts = {reason: mixed(mask, other.doubts[reason]) for reason, mask in proof.doubts.items()}
    return Proof(mixed(proof.absolute, other.absolute), mixed(proof.size, other.size), doubts)


def _prove_solution(t: Tensor, b: Tensor | None, x: Tensor, shape: Shape) -> Proof:
    doubled, by = x.dtype == torch.float64, source(len(x))
    t, x, size, exponent = *map(read, (t, x)), _size(b, x), peak_exponent(x)
    unread = Half.UPPER_HALF if shape.lower else Half.LOWER_HALF
    given = by.given(t, exponent - size, doubled=doubled, unread=unread, ones=shape.unit)
    given = given.mT if shape.transpose else given
    rows = given.rows_like(given)
    right = _right(by, b, x, size, doubled=doubled).rows_like(given)
    return _prove(rows, right, by.given(x, -exponent, doubled=doubled))


def prove_low_rank(factors: tuple[Tensor, Tensor, Tensor], b: Tensor | None, x: Tensor, *, transpose: bool) -> Proof:
    """Bounds X against T^-1 B or T^-T B for T = diag(l) + tril(Q K^T, -1), l (batch, n), Q and K (batch, n, d)."""
    doubled, by = x.dtype == torch.float64, source(len(x))
    diag, q, k = map(read, factors)
    x, size, exponent = read(x), _size(b, x), peak_exponent(x)
    scale, second = exponent - size, peak_exponent(k)
    left, right = by.given(q, scale + second, doubled=doubled), by.given(k, -second, doubled=doubled)
    values = scaling.rescale(diag.to(torch.float64), scale)
    diagonal = by.diagonal(values, x.shape[-2], doubled=doubled)
    t = product(left, right.mT).strictly_lower().plus(diagonal, sign=1.0, factor=1.0)
    claimed = by.given(x, -exponent, doubled=doubled)
    return _prove(t.mT if transpose else t, _right(by, b, x, size, doubled=doubled), claimed)


def _size(b: Tensor | None, x: Tensor) -> Tensor:
    """The exponent of B's largest entry, (batch,)."""
    return torch.zeros(len(x), dtype=torch.int64) if b is None else peak_exponent(read(b))


def _right(by: Source, b: Tensor | None, x: Tensor, size: Tensor, *, doubled: bool) -> Ball:
    """B 2^-size, or I."""
    if b is None:
        return by.diagonal(None, x.shape[-1], doubled=doubled)
    return by.given(read(b), -size, doubled=doubled)


def _prove(t: Ball, b: Ball, x: Ball) -> Proof:
    near = t.inverted()
    residual = difference(b, product(t, x)).rounded()
    error, gap = product(near, residual), minus_identity(product(near, t.rounded()))
    defect = gap.spectral
    absolute = up(error.frobenius / complement(defect))
    doubts = {**out_of_range(t, b, x), _SINGULAR: ~(defect <= LARGEST_DEFECT) | ~torch.isfinite(absolute)}
    return Proof(absolute, least_norm(x), doubts)
