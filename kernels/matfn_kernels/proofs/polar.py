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

from matfn_kernels.linalg import scaling
from matfn_kernels.numbers.precision import FLOOR
from matfn_kernels.proofs.balls import (
    Ball,
    difference,
    exact,
    factored,
    inverted,
    minus_identity,
    product,
    rounded,
    skew_part,
    symmetric_part,
    up,
)
from matfn_kernels.proofs.proof import Proof, complement, least_norm, out_of_range, peak_exponent, read

if TYPE_CHECKING:
    from torch import Tensor

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
    m, o = read(m), read(o)
    if m.shape[-2] < m.shape[-1]:
        m, o = m.mT.contiguous(), o.mT.contiguous()
    m = scaling.rescale(m, -peak_exponent(m))
    parts = _Parts.of(exact(m, doubled=doubled), exact(o, doubled=doubled))
    absolute, least = _distance(parts)
    full = least > up(floor * exact(m).spectral)
    doubts = {**out_of_range(m, o), _FAR: ~torch.isfinite(absolute), _RANK: ~full}
    return Proof(absolute, least_norm(o), doubts)


def prove_modulus(m: Tensor, o: Tensor, h: Tensor) -> Proof:
    """Bounds H against (M^T M)^(1/2) of M (batch, m, n), m >= n, by a claimed O; domain: H positive definite."""
    doubled = h.dtype in {torch.float64, torch.complex128}
    m, o, h = read(m), read(o), read(h)
    exponent = peak_exponent(m)
    m, h = scaling.rescale(m, -exponent), scaling.rescale(h, -exponent)
    left, definite = factored(h, doubled=doubled)
    columns = exact(o, doubled=doubled)
    square = product(left, left.mT, symmetric=True)
    tilt = _orthonormality(columns)[1] * square.spectral
    apart = up(difference(exact(m, doubled=doubled), product(columns, square)).frobenius + up(tilt))
    absolute = up(_ROOT_2 * apart + difference(exact(h, doubled=doubled), square).frobenius)
    wide = torch.full_like(definite, m.shape[-2] < m.shape[-1])
    doubts = {_WIDE: wide, **out_of_range(m, o, h), _INDEFINITE: ~definite, _FAR: ~torch.isfinite(absolute)}
    return Proof(absolute, least_norm(h), doubts)


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
        defect, tilt, root = _orthonormality(o)
        inner = product(o.mT, m)
        h, k = rounded(symmetric_part(inner)), rounded(skew_part(inner))
        lower = inverted(factored(h.high)[0])
        # W H W^T = I + E proves H positive definite, and H^-1 = W^T (I + E)^-1 W
        margin = complement(minus_identity(product(product(lower, h), lower.mT, symmetric=True)).spectral)
        # Z H = I + G and H^-1 = Z^T (I + G)^-T
        inverse = exact(product(lower.mT, lower, symmetric=True).high)
        near = complement(minus_identity(product(inverse, h)).spectral)
        right = up(product(k, inverse.mT).frobenius / near)
        outside = torch.zeros_like(tilt)
        if m.high.shape[-2] > m.high.shape[-1]:
            beyond = rounded(difference(m, product(o, inner)))
            missing = up((1 + defect) * defect / complement(defect) * (1 + right))
            outside = up(product(beyond, inverse.mT).frobenius / near + missing)
        smallest = margin / up(lower.spectral * lower.spectral)
        return cls(tilt, root, up(product(product(lower, k), lower.mT).frobenius / margin), right, outside, smallest)


def _orthonormality(o: Ball) -> tuple[Tensor, Tensor, Tensor]:
    """||P||_F, ||O - Q||_F and ||(I + P)^(-1/2) - I||_F."""
    defect = rounded(minus_identity(product(o.mT, o, symmetric=True))).frobenius
    least = complement(defect)
    return defect, up(defect / (1 + least)), up(defect / (2 * least * least))


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
