"""Gradients of the geometric mean A # B of positive definite (Hermitian) matrices.

With A = L L^H, B = K K^H and L^-1 K = U diag(s) V^H both are diagonal in one basis, A = P P^H and B = P S^2 P^H for
P = L U: dA = P E P^H, dB = P F P^H give dX = P ((F + S E S)_ij / (s_i + s_j)) P^H. So for the cotangent C of X

    Bb = P^-H D P^-1,    Ab = P^-H S D S P^-1,    D_ij = (P^H sym(C) P)_ij / (s_i + s_j).

The better conditioned of both takes the part of A. The error is the largest change that disturbances cause
(`disturbed`): of both matrices as Cholesky factorisations leave it, and of L^-1 K.
References: Bhatia, Positive Definite Matrices (2007), chapter 4; Iannazzo, Linear Algebra Appl. 438 (2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm, normalise, power_of_two
from matfn_kernels.methods.gradients.disturbed import disturbed, largest, noise
from matfn_kernels.methods.gradients.program import Gradient, GradientProgram, joined
from matfn_kernels.methods.hermitian.geometric_mean import Factored, GeometricMeanProgram
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["GeometricMeanGradient", "outward", "redone"]

_KINDS = 3
"""Disturbances of A, of B and of L^-1 K."""


@dataclass(frozen=True, slots=True)
class GeometricMeanGradient(GradientProgram):
    """Gradients of geometric means.

    Attributes:
        program: computes the mean.
    """

    program: GeometricMeanProgram

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a, b and x (batch, n, n)."""
        own = self.program.run(inputs)
        a, b = (Factored.of(inputs[name], self.program) for name in ("a", "b"))
        c, exponent = normalise(inputs["x"].to(self.wide))
        swapped = (a.condition > b.condition)[:, None, None]
        pair = torch.where(swapped, b.factor, a.factor), torch.where(swapped, a.factor, b.factor)
        found = _gradients(*pair, symmetrise(c))
        moved = largest(found, _disturbed(*pair, symmetrise(c)))
        of_a = torch.where(swapped, found[1], found[0]), torch.where(swapped[:, 0, 0], moved[1], moved[0])
        of_b = torch.where(swapped, found[0], found[1]), torch.where(swapped[:, 0, 0], moved[0], moved[1])
        gap = b.exponent - a.exponent
        return joined(own, [_scaled(*of_a, gap, exponent), _scaled(*of_b, -gap, exponent)], self, inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a pair: the mean, and a gradient a disturbance."""
        probes = len(noise(_KINDS, max(1, self.order)))
        once = profile.cost("svd", Precision.FP64, self.order) + 8 * profile.cost("gemm", Precision.FP64, self.order)
        return self.program.seconds(profile) + (1 + probes) * once


def _scaled(value: Tensor, change: Tensor, gap: Tensor, exponent: Tensor) -> Gradient:
    """A gradient in the units of the matrices: the mean is of degree 1/2 in each.

    The derivative's norm is at least |X| / (2 |A|) by Euler: no bound of a gradient without cancellation is needed.
    """
    (turned, whole), (change, _) = power_of_two(value, gap, 1, 2), power_of_two(change, gap, 1, 2)
    return disturbed(turned, change, norm(turned), torch.full_like(change, torch.inf), whole + exponent)


def _gradients(left: Tensor, right: Tensor, c: Tensor, disturbance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Gradients of L L^H and of K K^H for a Hermitian cotangent, (batch, n, n) each."""
    between = invariant.solve_triangular(left, right, upper=False)
    if disturbance is not None:
        size = invariant.matrix_norm(between, torch.float64)[:, None, None]
        between = between + (size * disturbance).to(between.dtype)
    u, s, _ = invariant.svd(between)
    basis = product(left, u)
    inner = symmetrise(product(product(basis.mH, c), basis))
    inner = invariant.divided(inner, s[:, :, None] + s[:, None, :])
    weighed = invariant.divided(inner, (1 / s)[:, :, None] * (1 / s)[:, None, :])
    return outward(left, u, weighed), outward(left, u, inner)


def outward(left: Tensor, u: Tensor, d: Tensor) -> Tensor:
    """P^-H D P^-1 of P = L U."""
    inside = product(product(u, d), u.mH)
    half = invariant.solve_triangular(left.mH, inside, upper=True)
    return symmetrise(invariant.solve_triangular(left.mH, half.mH, upper=True))


def _disturbed(left: Tensor, right: Tensor, c: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The gradients for every disturbance, (batch, n, n) each."""
    for one, other, between in noise(_KINDS, left.shape[-1]).to(left.device):
        yield _gradients(redone(left, one), redone(right, other), c, between)


def redone(factor: Tensor, disturbance: Tensor) -> Tensor:
    """The factor of L L^H + E with |E_ij| near sqrt(a_ii a_jj) times the disturbance, (batch, n, n); else NaN."""
    rows = invariant.row_norm(factor)
    a = symmetrise(product(factor, factor.mH))
    e = (disturbance + disturbance.mT) * rows[:, :, None] * rows[:, None, :]
    found, exists = invariant.cholesky(a + e.to(a.dtype))
    return torch.where(exists[:, None, None], found, torch.nan)
