"""Bounds of solutions X of T X = B with triangular T, T^-1 included, from residuals.

With R = B - T X and any matrix Z near T^-1, G = I - Z T and ||G||_2 < 1: T^-1 B - X = T^-1 R = (I - G)^-1 Z R, so that

    ||T^-1 B - X||_F <= ||Z R||_F / (1 - ||G||_2).

Z comes from a substitution that is not trusted. Rows of T and B are scaled by powers of two first.
References: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 8 and 14; Rump, Acta Numerica 19
(2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, scaling
from matfn_kernels.linalg.triangles import read_triangle
from matfn_kernels.proofs.balls import (
    Ball,
    Part,
    difference,
    exact,
    inverted,
    minus_identity,
    product,
    rounded,
    sum_of,
    up,
)
from matfn_kernels.proofs.proof import LARGEST_DEFECT, Proof, complement, least_norm, out_of_range, peak_exponent

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Shape", "prove_low_rank", "prove_triangle"]

_SINGULAR: Final = "the triangle was not proved to be invertible"


@dataclass(frozen=True, slots=True)
class Shape:
    """Which triangle is read, whether its diagonal is ones, and whether the system is that of its transpose."""

    lower: bool = True
    unit: bool = False
    transpose: bool = False


def prove_triangle(t: Tensor, b: Tensor | None, x: Tensor, shape: Shape) -> Proof:
    """Bounds X against T^-1 B or T^-T B, T^-1 without B, for T (batch, n, n); domain: ||I - Z T||_2 < 1."""
    doubled = x.dtype == torch.float64
    t = read_triangle(t.to(torch.float64), lower=shape.lower, unit=shape.unit)
    t = t.mT if shape.transpose else t
    exponent = peak_exponent(t)
    b, x = _right(b, x, exponent)
    rows = _row_exponents(scaling.rescale(t, -exponent))
    t, b = _rows_scaled(scaling.rescale(t, -exponent), rows), _rows_scaled(b, rows)
    part = Part.UPPER if shape.lower == shape.transpose else Part.LOWER
    return _prove(exact(t, doubled=doubled, part=part), b, x)


def prove_low_rank(factors: tuple[Tensor, Tensor, Tensor], b: Tensor | None, x: Tensor, *, transpose: bool) -> Proof:
    """Bounds X against T^-1 B or T^-T B for T = diag(l) + tril(Q K^T, -1), l (batch, n), Q and K (batch, n, d)."""
    doubled = x.dtype == torch.float64
    diag, q, k = (factor.to(torch.float64) for factor in factors)
    right = peak_exponent(k)
    exponent = torch.maximum(peak_exponent(diag), peak_exponent(q) + right)
    diag, k = scaling.rescale(diag, -exponent), scaling.rescale(k, -right)
    q = scaling.rescale(q, right - exponent)
    b, x = _right(b, x, exponent)
    below = product(exact(q, doubled=doubled), exact(k, doubled=doubled).mT)
    low = None if below.low is None else below.low.tril(-1)
    below = Ball(below.high.tril(-1), low, below.radius, {}, Part.LOWER)
    t = sum_of(below, exact(torch.diag_embed(diag), doubled=doubled, part=Part.LOWER))
    return _prove(t.mT if transpose else t, b, x)


def _right(b: Tensor | None, x: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """B, or I, and X in the units in which T is scaled by 2^-exponent and B has entries near 1."""
    x = x.to(torch.float64)
    if b is None:
        return torch.eye(x.shape[-1], dtype=torch.float64).expand_as(x), scaling.rescale(x, exponent)
    b = b.to(torch.float64)
    size = peak_exponent(b)
    return scaling.rescale(b, -size), scaling.rescale(x, exponent - size)


def _row_exponents(t: Tensor) -> Tensor:
    """Exponents of the largest entries of rows, (batch, n, 1)."""
    return torch.frexp(t.abs().amax(-1, keepdim=True)).exponent


def _rows_scaled(x: Tensor, exponents: Tensor) -> Tensor:
    half = torch.div(-exponents, 2, rounding_mode="floor")
    return x * invariant.two_to(half) * invariant.two_to(-exponents - half)


def _prove(t: Ball, b: Tensor, x: Tensor) -> Proof:
    doubled = t.low is not None
    near = inverted(t)
    claimed, right = (exact(y, doubled=doubled, part=_part(y, t.part)) for y in (x, b))
    residual = rounded(difference(right, product(t, claimed)))
    defect = minus_identity(product(near, rounded(t))).spectral
    absolute = up(product(near, residual).frobenius / complement(defect))
    doubts = {**out_of_range(t.high, b, x), _SINGULAR: ~(defect <= LARGEST_DEFECT) | ~torch.isfinite(absolute)}
    return Proof(absolute, least_norm(x), doubts)


def _part(x: Tensor, part: Part) -> Part:
    """That part where the others' entries of all X (batch, m, n) are zeros."""
    if x.shape[-1] != x.shape[-2]:
        return Part.FULL
    other = x.triu(1) if part is Part.LOWER else x.tril(-1)
    return Part.FULL if bool(other.any()) else part
