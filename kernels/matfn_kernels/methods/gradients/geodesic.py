"""Gradients of points A #_t B of geodesics of positive definite (Hermitian) matrices.

In the basis P = L U of A = L L^H = P P^H and B = P S^2 P^H a point is P S^(2t) P^H, and dA = P E P^H, dB = P F P^H give
dX = P (f o F + h o E) P^H (`hermitian.geodesic`). So for the cotangent C of X, D = P^H sym(C) P,

    Ab = P^-H (h o D) P^-1,    Bb = P^-H (f o D) P^-1.

The error is the largest change that disturbances cause (`disturbed`): of both matrices as Cholesky factorisations
leave it, and of L^-1 K. Towards t = 0 or 1 one of the gradients vanishes, and is no smaller by cancellation.
References: Bhatia, Positive Definite Matrices (2007), chapters 4 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.methods.gradients.disturbed import disturbed, largest, noise
from matfn_kernels.methods.gradients.geometric_mean import GeometricMeanGradient, outward, redone
from matfn_kernels.methods.gradients.program import Gradient, GradientProgram, joined
from matfn_kernels.methods.hermitian import geodesic
from matfn_kernels.methods.hermitian.geodesic import GeodesicProgram, differences, growth, oriented
from matfn_kernels.methods.hermitian.geometric_mean import Factored, GeometricMeanProgram
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["GeodesicGradient", "candidates"]

_KINDS = 3
"""Disturbances of A, of B and of L^-1 K."""


@dataclass(frozen=True, slots=True)
class GeodesicGradient(GradientProgram):
    """Gradients of points of geodesics.

    Attributes:
        program: computes the point.
    """

    program: GeodesicProgram

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a, b and x (batch, n, n)."""
        own = self.program.run(inputs)
        a, b = (Factored.of(inputs[name], self.program) for name in ("a", "b"))
        left, right, t = oriented(a, b, self.program.t)
        c, exponent = normalise(inputs["x"].to(self.wide))
        pair = left.factor, right.factor
        found, most = _gradients(*pair, symmetrise(c), t)
        moved = largest(found, _disturbed(*pair, symmetrise(c), t))
        gap = right.exponent - left.exponent
        grown = [
            _scaled(*numbers, gap, exponent, place)
            for numbers, place in zip(zip(found, moved, most, strict=True), (t, t - 1), strict=True)
        ]
        return joined(own, grown if left is a else grown[::-1], self, inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a pair: the point, and a gradient a disturbance."""
        probes = len(noise(_KINDS, max(1, self.order)))
        once = profile.cost("svd", Precision.FP64, self.order) + 12 * profile.cost("gemm", Precision.FP64, self.order)
        return self.program.seconds(profile) + (1 + probes) * once


def _scaled(value: Tensor, change: Tensor, most: Tensor, gap: Tensor, exponent: Tensor, t: float) -> Gradient:
    """A gradient in the units of the matrices, of which the second is 2^gap times as large as the first."""
    (turned, whole), (change, _), (most, _) = (growth(x, gap, t) for x in (value, change, most))
    return disturbed(turned, change, norm(turned), most, whole + exponent)


def _gradients(
    left: Tensor, right: Tensor, c: Tensor, t: float, disturbance: Tensor | None = None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Gradients of L L^H and of K K^H for a Hermitian cotangent (batch, n, n), and their norms without cancellation."""
    between = invariant.solve_triangular(left, right, upper=False)
    if disturbance is not None:
        size = invariant.matrix_norm(between, torch.float64)[:, None, None]
        between = between + (size * disturbance).to(between.dtype)
    u, s, _ = invariant.svd(between)
    basis = product(left, u)
    inner = symmetrise(product(product(basis.mH, c), basis))
    out = invariant.magnitude(invariant.solve_triangular(left.mH, u, upper=True))
    of_b, of_a = differences(s, t)
    rough = [product(product(out, invariant.magnitude(inner) * factor.abs()), out.mT) for factor in (of_a, of_b)]
    found = outward(left, u, inner * of_a), outward(left, u, inner * of_b)
    return found, (norm(rough[0]), norm(rough[1]))


def _disturbed(left: Tensor, right: Tensor, c: Tensor, t: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The gradients for every disturbance, (batch, n, n) each."""
    for one, other, between in noise(_KINDS, left.shape[-1]).to(left.device):
        yield _gradients(redone(left, one), redone(right, other), c, t, between)[0]


def candidates(call: Signature) -> list[GeometricMeanGradient] | list[GeodesicGradient]:
    """The one program that serves a call."""
    call.require_double()
    order, programs = call.sizes("a")[-1], geodesic.candidates(call)
    program = programs[0]
    if isinstance(program, GeometricMeanProgram):
        return [GeometricMeanGradient(program, order, call.names, call.cotangents)]
    return [GeodesicGradient(program, order, call.names, call.cotangents)]
