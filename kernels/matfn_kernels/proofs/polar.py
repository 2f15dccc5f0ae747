"""Bounds of the polar factors of matrices of full rank.

For a claimed U, called O, let O^T O = I + P, Q = O (I + P)^(-1/2), O^T M = H + K with H symmetric positive definite and
K skew, Theta = Q^T U, Psi = Theta - I and V = (I - Q Q^T) U. With Z near H^-1 and W near H^(-1/2), products bound

    k = ||H^(-1/2) K H^(-1/2)||_F,  z = ||K H^-1||_F,  v1 = ||(I - Q Q^T) M H^-1||_F,  n = ||(I + P)^(-1/2) - I||_F.

M = (Q + D) H with d = ||D||_F <= v1 + z + n (1 + z), hence ||U - Q||_F <= t = 2^(1/2) d / (1 - d); and the skew part of
Psi solves a Lyapunov equation with H, whose solution is bounded by a geometric mean of eigenvalues: with all of that

    ||Psi||_F <= k + t^2 + n + 2^(1/2) (t z + n z + t n (1 + z) + t v1).

No condition number enters but through z. For a claimed H, positive semidefinite L L^T near it is the modulus of
Q L L^T, and moduli are Lipschitz with constant 2^(1/2): ||H* - H||_F <= 2^(1/2) ||M - Q L L^T||_F + ||H - L L^T||_F.
References: R.-C. Li, SIAM J. Matrix Anal. Appl. 16 (1995); Araki and Yamagami, Comm. Math. Phys. 81 (1981);
docs/proofs.md has the derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.numbers.precision import FLOOR
from matfn_kernels.proofs.balls import difference, minus_identity, product, skew_part, source, symmetric_part, up
from matfn_kernels.proofs.proof import Proof, complement, least_norm, out_of_range, peak_exponent, read

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball

__all__ = ["prove_modulus", "prove_unitary"]

_RANK: Final = "the matrix was not proved to have full numerical rank"
_FAR: Final = "the residual is too large for a proof"
_WIDE: Final = "no cheap proof: the second factor of a matrix with more columns than rows is singular"
_INDEFINITE: Final = "the answer's second factor is not positive definite beyond rounding"
_ROOT_2: Final = math.sqrt(2) * (1 + 2.0**-50)


def prove_unitary(m: Tensor, o: Tensor) -> Proof:
    """Bounds O against the orthonormal polar factor of M (batch, m, n); domain: numerical rank min(m, n), proved."""
    doubled = o.dtype in {torch.float64, torch.complex128}
    floor = FLOOR * min(torch.finfo(m.dtype).eps, torch.finfo(torch.float32).eps)
    m, o, by = read(m), read(o), source(len(o))
    if m.shape[-2] < m.shape[-1]:
        m, o = m.mT.contiguous(), o.mT.contiguous()
    matrix, claimed = by.given(m, -peak_exponent(m), doubled=doubled), by.given(o, doubled=doubled)
    absolute, least = _distance(_Parts.of(matrix, claimed))
    full = least > up(floor * matrix.spectral)
    doubts = {**out_of_range(matrix, claimed), _FAR: ~torch.isfinite(absolute), _RANK: ~full}
    return Proof(absolute, least_norm(claimed), doubts)


def prove_modulus(m: Tensor, o: Tensor, h: Tensor) -> Proof:
    """Bounds H against (M^T M)^(1/2) of M (batch, m, n), m >= n, by a claimed O; domain: H positive definite."""
    doubled = h.dtype in {torch.float64, torch.complex128}
    m, o, h, by = read(m), read(o), read(h), source(len(o))
    exponent = peak_exponent(m)
    matrix, claimed = by.given(m, -exponent, doubled=doubled), by.given(h, -exponent, doubled=doubled)
    columns, factor = by.given(o, doubled=doubled), claimed.factored()
    square = product(factor, factor.mT, symmetric=True)
    defect = _defect(columns)
    missing, apart = difference(matrix, product(columns, square)), difference(claimed, square)
    tilt = _orthonormality(defect)[1] * square.spectral
    absolute = up(_ROOT_2 * up(missing.frobenius + up(tilt)) + apart.frobenius)
    wide = torch.full_like(factor.exists, m.shape[-2] < m.shape[-1])
    ranges = out_of_range(matrix, columns, claimed)
    doubts = {_WIDE: wide, **ranges, _INDEFINITE: ~factor.exists, _FAR: ~torch.isfinite(absolute)}
    return Proof(absolute, least_norm(claimed), doubts)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Upper bounds of the quantities above and a lower one, all (batch,).

    Attributes:
        tilt: ||O - Q||_F.
        root: n.
        between: k.
        right: z.
        outside: v1.
        smallest: a lower bound of H's smallest eigenvalue.
    """

    tilt: Tensor
    root: Tensor
    between: Tensor
    right: Tensor
    outside: Tensor
    smallest: Tensor

    @classmethod
    def of(cls, m: Ball, o: Ball) -> _Parts:
        """Those of M and a claimed O (batch, m, n)."""
        defect, inner = _defect(o), product(o.mT, m)
        h, k = symmetric_part(inner).rounded(), skew_part(inner).rounded()
        lower = h.factored().inverted()
        # W H W^T = I + E proves H positive definite, and H^-1 = W^T (I + E)^-1 W
        middle = minus_identity(product(product(lower, h), lower.mT, symmetric=True))
        # Z H = I + G and H^-1 = Z^T (I + G)^-T
        inverse = product(lower.mT, lower, symmetric=True)
        beside = minus_identity(product(inverse, h))
        turned = product(k, inverse.mT)
        between = product(product(lower, k), lower.mT)
        beyond = _beyond(m, o, inner, inverse)
        return cls._judged(defect, (middle, beside), (lower, between), (turned, beyond))

    @classmethod
    def _judged(
        cls, defect: Ball, defects: tuple[Ball, Ball], conjugated: tuple[Ball, Ball], divided: tuple[Ball, Ball | None]
    ) -> _Parts:
        """O^T O - I; the defects of W and Z; W and W K W^T; K Z^T and what is outside O times Z^T."""
        gap, tilt, root = _orthonormality(defect)
        margin, near = (complement(ball.spectral) for ball in defects)
        right = up(divided[0].frobenius / near)
        outside = torch.zeros_like(tilt)
        if divided[1] is not None:
            missing = up((1 + gap) * gap / complement(gap) * (1 + right))
            outside = up(divided[1].frobenius / near + missing)
        lower, between = conjugated
        smallest = margin / up(lower.spectral * lower.spectral)
        return cls(tilt, root, up(between.frobenius / margin), right, outside, smallest)


def _beyond(m: Ball, o: Ball, inner: Ball, inverse: Ball) -> Ball | None:
    """(M - O O^T M) Z^T, None where O is square and has to be orthogonal."""
    if m.shape[0] == m.shape[1]:
        return None
    return product(difference(m, product(o, inner)).rounded(), inverse.mT)


def _defect(o: Ball) -> Ball:
    """O^T O - I."""
    return minus_identity(product(o.mT, o, symmetric=True)).rounded()


def _orthonormality(defect: Ball) -> tuple[Tensor, Tensor, Tensor]:
    """||P||_F, ||O - Q||_F and ||(I + P)^(-1/2) - I||_F, of P."""
    gap = defect.frobenius
    least = complement(gap)
    return gap, up(gap / (1 + least)), up(gap / (2 * least * least))


def _distance(parts: _Parts) -> tuple[Tensor, Tensor]:
    """Upper bounds of ||U - O||_F, and lower ones of M's smallest singular value."""
    z, n, outside = parts.right, parts.root, parts.outside
    apart = up(outside + z + n * (1 + z))
    t = up(_ROOT_2 * apart / complement(apart))
    mixed = up(t * z + n * z + t * n * (1 + z) + t * outside)
    skew = torch.minimum(t, up(parts.between + t * t + n + _ROOT_2 * mixed))
    turned = up((1 + t) * (1 + n) * (1 + z) - 1 + t * outside + 2.0**-50)
    beside = torch.where(outside > 0, torch.minimum(t, up(outside / complement(turned))).nan_to_num(torch.inf), 0.0)
    beside = torch.minimum(beside, t)
    absolute = up(parts.tilt + up((skew * skew + beside * beside).sqrt()))
    return absolute, complement(apart) * parts.smallest * (1 - 2.0**-30)
