"""Bounds of clipped eigenvalues and singular values, which are Lipschitz functions of the matrix.

For |f(s) - f(t)| <= |s - t|, A -> f(A) on symmetric matrices is Lipschitz with constant 1 in the Frobenius norm, and so
is M -> U f(S) V^T for odd f, by [[0, M], [M^T, 0]]. An approximate decomposition V diag(w) V^T of A is one of a matrix
near A: with Q the orthogonal polar factor of V, f(Q diag(w) Q^T) = Q diag(f(w)) Q^T exactly, and all distances are
products' residuals.
References: Bhatia, Matrix Analysis (1997), chapter VII; Kittaneh, Linear Algebra Appl. 63 (1985).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, scaling
from matfn_kernels.proofs.balls import (
    Ball,
    difference,
    exact,
    minus_identity,
    product,
    rounded,
    scaled_columns,
    up,
)
from matfn_kernels.proofs.proof import Proof, complement, least_norm, out_of_range, peak_exponent, read, symmetric

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["prove_clipped_eigenvalues", "prove_clipped_values"]

_LIFTED: Final = "no cheap proof: lo > 0 acts on a numerical rank"
_BASIS: Final = "the eigenvectors computed for the proof are not orthogonal"


def prove_clipped_eigenvalues(a: Tensor, x: Tensor, lo: float | None, hi: float | None) -> Proof:
    """Bounds X against V clip(w, lo, hi) V^T of the symmetric part of A (batch, n, n); domain: every A."""
    doubled = x.dtype in {torch.float64, torch.complex128}
    a, x = read(a), read(x)
    exponent = peak_exponent(a)
    matrix, x = symmetric(a, None, exponent, doubled=doubled), scaling.rescale(x, -exponent)
    w, v = invariant.eigh(matrix.high)
    clipped = _clipped(w, _limit(lo, exponent), _limit(hi, exponent))
    return _lipschitz(matrix, x, (v, v), (w, clipped), doubled=doubled)


def prove_clipped_values(m: Tensor, x: Tensor, lo: float, hi: float | None) -> Proof:
    """Bounds X against U min(S, hi) V^T of M (batch, m, n); domain: every M, lo = 0."""
    doubled = x.dtype in {torch.float64, torch.complex128}
    m, x = read(m), read(x)
    exponent = peak_exponent(m)
    m, x = scaling.rescale(m, -exponent), scaling.rescale(x, -exponent)
    u, w, vh = invariant.svd(m)
    clipped = _clipped(w, None, _limit(hi, exponent))
    proof = _lipschitz(exact(m, doubled=doubled), x, (u, vh.mT), (w, clipped), doubled=doubled)
    lifted = torch.full_like(proof.size, lo > 0, dtype=torch.bool)
    return Proof(proof.absolute, proof.size, {_LIFTED: lifted, **proof.doubts})


def _limit(limit: float | None, exponent: Tensor) -> Tensor | None:
    """A limit in the units of the scaled matrix, (batch, 1)."""
    if limit is None:
        return None
    return scaling.rescale(torch.full((len(exponent), 1), float(limit), dtype=torch.float64), -exponent)


def _clipped(w: Tensor, lo: Tensor | None, hi: Tensor | None) -> Tensor:
    w = w if lo is None else torch.maximum(w, lo)
    return w if hi is None else torch.minimum(w, hi)


def _lipschitz(
    a: Ball, x: Tensor, bases: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor], *, doubled: bool
) -> Proof:
    """||f(A) - X||_F from A = U diag(w) V^T and f(A) = U diag(f(w)) V^T, both approximate, for f(w) given."""
    tilt = _tilt(*bases, doubled=doubled)
    largest = sum(w.abs().amax(-1) for w in values)
    pairs = zip((a, exact(x, doubled=doubled)), values, strict=True)
    apart = [difference(y, _composed(bases, w, doubled=doubled)).frobenius for y, w in pairs]
    absolute = up(sum(apart) + up(largest * tilt))
    return Proof(absolute, least_norm(x), {**out_of_range(a.high, x), _BASIS: ~torch.isfinite(absolute)})


def _composed(bases: tuple[Tensor, Tensor], w: Tensor, *, doubled: bool) -> Ball:
    return product(scaled_columns(bases[0], w, doubled=doubled), exact(bases[1].mT, doubled=doubled))


def _tilt(u: Tensor, v: Tensor, *, doubled: bool) -> Tensor:
    """T with ||U diag(w) V^T - P diag(w) Q^T||_F <= t max |w|, P and Q the orthonormal polar factors of U and V.

    U = P (I + N) with ||N||_F <= d / (2 - d) for d = ||U^T U - I||_F < 1, and V likewise.
    """
    left = _departure(u, doubled=doubled)
    right = left if u is v else _departure(v, doubled=doubled)
    return up(left + right + left * right)


def _departure(v: Tensor, *, doubled: bool) -> Tensor:
    columns = exact(v, doubled=doubled)
    defect = rounded(minus_identity(product(columns.mT, columns, symmetric=True))).frobenius
    return up(defect / (1 + complement(defect)))
