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
from matfn_kernels.proofs.balls import difference, minus_identity, product, source, up
from matfn_kernels.proofs.proof import Proof, complement, least_norm, near, out_of_range, peak_exponent, read, symmetric

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball, Source

__all__ = ["composed", "defect_of", "prove_clipped_eigenvalues", "prove_clipped_values", "tilt"]

_LIFTED: Final = "no cheap proof: lo > 0 acts on a numerical rank"
_BASIS: Final = "the eigenvectors computed for the proof are not orthogonal"


def prove_clipped_eigenvalues(a: Tensor, x: Tensor, lo: float | None, hi: float | None) -> Proof:
    """Bounds X against V clip(w, lo, hi) V^T of the symmetric part of A (batch, n, n); domain: every A."""
    doubled, by = x.dtype in {torch.float64, torch.complex128}, source(len(x))
    a, x = read(a), read(x)
    exponent = peak_exponent(a)
    matrix, claimed = symmetric(a, None, exponent, by, doubled=doubled), by.given(x, -exponent, doubled=doubled)
    w, v = invariant.eigh(near(a, None, exponent))
    clipped = _clipped(w, _limit(lo, exponent), _limit(hi, exponent))
    basis = by.given(v, doubled=doubled)
    return _lipschitz(by, (matrix, claimed), (basis, basis), (w, clipped))


def prove_clipped_values(m: Tensor, x: Tensor, lo: float, hi: float | None) -> Proof:
    """Bounds X against U min(S, hi) V^T of M (batch, m, n); domain: every M, lo = 0."""
    doubled, by = x.dtype in {torch.float64, torch.complex128}, source(len(x))
    m, x = read(m), read(x)
    exponent = peak_exponent(m)
    matrix, claimed = (by.given(y, -exponent, doubled=doubled) for y in (m, x))
    u, w, vh = invariant.svd(scaling.rescale(m.to(torch.float64), -exponent))
    clipped = _clipped(w, None, _limit(hi, exponent))
    bases = by.given(u, doubled=doubled), by.given(vh, doubled=doubled).mT
    proof = _lipschitz(by, (matrix, claimed), bases, (w, clipped))
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


def _lipschitz(by: Source, pair: tuple[Ball, Ball], bases: tuple[Ball, Ball], values: tuple[Tensor, Tensor]) -> Proof:
    """||f(A) - X||_F of A, X from A = U diag(w) V^T and f(A) = U diag(f(w)) V^T, both approximate, for f(w) given."""
    u, v = bases
    defects = [defect_of(basis) for basis in ((u,) if u is v else (u, v))]
    apart = [difference(y, composed(by, bases, w)) for y, w in zip(pair, values, strict=True)]
    largest = sum(w.abs().amax(-1) for w in values)
    absolute = up(sum(ball.frobenius for ball in apart) + up(largest * tilt(defects[0], defects[-1])))
    doubts = {**out_of_range(*pair), _BASIS: ~torch.isfinite(absolute)}
    return Proof(absolute, least_norm(pair[1]), doubts)


def composed(by: Source, bases: tuple[Ball, Ball], w: Tensor) -> Ball:
    """U diag(w) V^T."""
    diagonal = by.diagonal(w, w.shape[-1], doubled=bases[0].doubled)
    return product(product(bases[0], diagonal), bases[1].mT)


def defect_of(v: Ball) -> Ball:
    """V^T V - I."""
    return minus_identity(product(v.mT, v, symmetric=True)).rounded()


def tilt(left: Ball, right: Ball) -> Tensor:
    """T with ||U diag(w) V^T - P diag(w) Q^T||_F <= t max |w|, P and Q the orthonormal polar factors of U and V.

    U = P (I + N) with ||N||_F <= d / (2 - d) for d = ||U^T U - I||_F < 1, and V likewise.
    """
    first, second = (up(ball.frobenius / (1 + complement(ball.frobenius))) for ball in (left, right))
    return up(first + second + first * second)
