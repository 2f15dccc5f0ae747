"""Gradients of the squared Fréchet distance |mu1 - mu2|^2 + tr S1 + tr S2 - 2 ||S1^(1/2) S2^(1/2)||_*.

With factors S_i = L_i L_i^H, L_i = V_i diag(w_i)^(1/2) on the range of S_i, and L_2^H L_1 = P s R^H, the nuclear norm
has the derivative L_2 P R^H with respect to L_1. The Hermitian T with T V_1 = Y = L_2 P R^H diag(w_1)^(-1/2), 0 on the
null space of S_1 in both directions, is the map of optimal transport where S_1 is regular, and

    S1b = c (I - T),  T = Y V^H + V Y^H - V sym(V^H Y) V^H,    mu1b = 2 c (mu1 - mu2),

c the cotangent; S2b and mu2b likewise. For singular S_1 or S_2 that is the gradient for changes that keep their ranks,
as those of features do, and it is said. Eigenvalues below 64 eps of the largest, eps that of the dtype, count as 0.

Errors are relative to |c| (||I||_F + ||T||_F) and to 2 |c| (|mu1| + |mu2|): gradients vanish where the Gaussians agree.
The error is the largest change that disturbances of S_1, S_2 and L_2^H L_1 cause (`disturbed`).
References: Dowson and Landau, J. Multivariate Anal. 12 (1982); Villani, Topics in Optimal Transportation (2003).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.methods.gradients.disturbed import MARGIN, disturbed, largest, noise
from matfn_kernels.methods.gradients.program import EPS, Gradient, GradientProgram, joined
from matfn_kernels.methods.hermitian.frechet_distance import FrechetProgram
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["FrechetGradient", "candidates"]

_RANK: Final = 64.0
"""Eigenvalues below it, in eps of the largest, count as 0: eight times what is numerical rank elsewhere, since the
inverse of the smallest that is kept multiplies rounding, and disturbances must not lift a 0 over it."""
_KINDS: Final = 3
"""Disturbances of S_1, of S_2 and of L_2^H L_1."""
_SUBTRACTED: Final = 2.0
"""Rounding of 2 c (mu1 - mu2) in units of eps."""


@dataclass(frozen=True, slots=True)
class FrechetGradient(GradientProgram):
    """Gradients of Fréchet distances.

    Attributes:
        program: computes the distance.
    """

    program: FrechetProgram

    @property
    def output_dtypes(self) -> tuple[torch.dtype, ...]:
        """The distance is real, gradients are as the inputs."""
        return (*self.program.output_dtypes, *(self.dtype for _ in self.names))

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: mu1, mu2 (batch, n), s1, s2 (batch, n, n) and x (batch,)."""
        own = self.program.run(inputs)
        mu1, mu2, s1, s2, c = (inputs[name].to(self.wide) for name in ("mu1", "mu2", "s1", "s2", "x"))
        c = c.real
        scaled = normalise(torch.cat((s1, s2), dim=1))[0].chunk(2, dim=1)
        first, second = map(symmetrise, scaled)
        limit = _RANK * torch.finfo(self.dtype).eps
        found = _Maps.of(first, second, limit)
        pair = found.first, found.second
        changes = largest(pair, _disturbed(first, second, limit))
        size = c.abs()
        eye = torch.eye(self.order, dtype=self.wide, device=s1.device)
        maps = [
            _whole(
                invariant.multiplied(c[:, None, None], eye - one), size * change, size * (self.order**0.5 + norm(one))
            )
            for one, change in zip(pair, changes, strict=True)
        ]
        apart = invariant.multiplied(2 * c[:, None], mu1 - mu2)
        whole = 2 * size * (invariant.row_norm(mu1) + invariant.row_norm(mu2))
        means = [_whole(x, _SUBTRACTED / MARGIN * EPS * whole, whole) for x in (apart, invariant.negative(apart))]
        result = joined(own, [means[0], maps[0], means[1], maps[1]], self, {**inputs, "x": c})
        return replace(result, remarks={**result.remarks, "rank_deficient": found.deficient})

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """A distance in no dimensions, and empty gradients."""
        return GradientProgram.empty(self, inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a pair: the distance, and two eigh and an svd a disturbance."""
        probes = len(noise(_KINDS, max(1, self.order)))
        return self.program.seconds(profile) + 4 * (1 + probes) * profile.cost("eigh", Precision.FP64, self.order)


def _whole(value: Tensor, change: Tensor, size: Tensor) -> Gradient:
    """A gradient whose error is relative to the size of its parts, (batch,), which no cancellation makes small."""
    return disturbed(value, change, size, size)


@dataclass(frozen=True, slots=True)
class _Maps:
    """T of S_1 and of S_2, (batch, n, n) each, and whether one of the matrices has no full rank, (batch,)."""

    first: Tensor
    second: Tensor
    deficient: Tensor

    @classmethod
    def of(cls, s1: Tensor, s2: Tensor, limit: float, disturbance: Tensor | None = None) -> _Maps:
        """The maps of covariances whose largest entries are below 1."""
        one, other = _Factor.of(s1, limit), _Factor.of(s2, limit)
        cross = product(other.half.mH, one.half)
        if disturbance is not None:
            cross = cross + disturbance * invariant.matrix_norm(cross)[:, None, None]
        p, s, rh = invariant.svd(cross)
        turn = product(invariant.multiplied((s > limit * s[:, :1]).to(s.dtype)[:, None, :], p), rh)
        deficient = ~(one.keep & other.keep).all(-1)
        return cls(one.map(product(other.half, turn)), other.map(product(one.half, turn.mH)), deficient)


@dataclass(frozen=True, slots=True)
class _Factor:
    """L = V diag(w)^(1/2) on the range, with V, w and the range."""

    half: Tensor
    v: Tensor
    w: Tensor
    keep: Tensor

    @classmethod
    def of(cls, s: Tensor, limit: float) -> _Factor:
        """The factor of symmetric (Hermitian) matrices (batch, n, n)."""
        w, v = invariant.eigh(s)
        keep = w > limit * w[:, -1:].clamp_min(0)
        v = torch.where(keep[:, None, :], v, 0.0)
        w = torch.where(keep, w, 1.0)
        return cls(invariant.multiplied(w.sqrt()[:, None, :], v), v, w, keep)

    def map(self, derivative: Tensor) -> Tensor:
        """The Hermitian T with T V = Y, Y the derivative of the nuclear norm with respect to L, over the root of w."""
        y = invariant.divided(derivative, self.w.sqrt()[:, None, :])
        inner = symmetrise(product(self.v.mH, y))
        outer = product(y - product(self.v, inner) / 2, self.v.mH)
        return outer + outer.mH


def _disturbed(s1: Tensor, s2: Tensor, limit: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The maps for every disturbance, (batch, n, n) each."""
    sizes = [invariant.matrix_norm(s)[:, None, None] for s in (s1, s2)]
    for one, other, cross in noise(_KINDS, s1.shape[-1]).to(s1.device):
        found = _Maps.of(s1 + sizes[0] * (one + one.mT), s2 + sizes[1] * (other + other.mT), limit, cross)
        yield found.first, found.second


def candidates(call: Signature) -> list[FrechetGradient]:
    """The one program that serves a call."""
    call.require_double()
    order = call.sizes("s1")[-1]
    program = FrechetProgram(order, call.dtype, Precision.FP64, Precision.FP64)
    return [FrechetGradient(program, order, call.names, call.cotangents)]
