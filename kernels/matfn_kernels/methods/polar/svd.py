"""Polar factors and clippings from the singular value decomposition."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.decompositions import Decomposition, Singular
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.methods.polar.lockstep_svd import LockstepSvdClip
from matfn_kernels.methods.polar.question import PolarProgram
from matfn_kernels.methods.polar.singular_values import Multiplier, findings_of
from matfn_kernels.numbers.precision import Precision, at_least_single, spacing, working
from matfn_kernels.programs.shared_decomposition import SharedSingular

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.kernel_prices import Tunable
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["MISSED_MARGIN", "NOISE_MARGIN", "SvdPolar", "missed"]

_LOSSES: Final = 128.0
"""More of eps times the norm than bidiagonal QR has been seen to move a singular value."""
NOISE_MARGIN: Final = 4.0
"""How often the error that LAPACK's backward error stands for, spread evenly over the entries, counts in the estimate.

Chosen so that estimates cover the errors that the tests find against truth of more digits."""
MISSED_MARGIN: Final = 2.0
"""How often what the decomposition dropped counts: four random columns give its norm to within a quarter as a rule."""
_MOVED: Final = 6.0
"""By how many eps of the norm rounding moves a singular value: 4 by divide and conquer, which deflates what is below,
and up to 5 at order 512."""
_ROUNDS: Final = 2
"""Rounds of power iteration, which found no less than 0.73 of the norm of what rounding leaves at orders 30 to 400."""
_GROWTH_MARGIN: Final = 1.4
"""How often the norm that they find counts: 1.4 times 0.73 is above 1."""
_PASSES: Final = 12.0
"""Work beside products and decompositions, in units of a product at order 64.

A price, on which no answer rests. It is that of the Gram matrix too; how it was found is not recorded."""


@dataclass(frozen=True, slots=True)
class SvdPolar(PolarProgram):
    """U h(Sigma) V^H from singular values and vectors.

    Attributes:
        precision: the arithmetic.
    """

    precision: Precision

    method: ClassVar[str] = "svd"
    kernel: ClassVar[Kernel] = Kernel.LIBRARY

    @property
    def ceiling(self) -> Precision:
        """The arithmetic; nothing is left to fall back on."""
        return self.precision

    @property
    def shared(self) -> SharedSingular:
        """The singular value decomposition, which serves any clipping of the singular values."""
        dtype = working(at_least_single(self.precision), self.dtype)
        return SharedSingular(self.question.large, self.question.small, dtype)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        return self.finish(self.shared.of([self.matrices(inputs)]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Polar factor or clipping of matrices that have been decomposed, with what that dropped measured."""
        assert isinstance(decomposition, Singular)
        m, u = decomposition.m, decomposition.u
        sigma = decomposition.sigma.to(torch.float64)
        multiplier = Multiplier.of(self.question, self.precision, sigma, decomposition.exponent)
        h = multiplier(sigma)
        value = product(u * (h * sigma)[:, None, :].to(u.dtype), decomposition.vh)
        sent = self.question.sent(m, decomposition.exponent, inputs, self.precision)
        errors = self._error(decomposition, multiplier, sigma, sent), _LOSSES * spacing(self.precision) * sigma[:, :1]
        image = m, value, self.question.residual(m, value)
        found = findings_of(self.question, self.precision, image, sigma, multiplier, errors)
        return self.question.of_scaled(found, decomposition.exponent)

    def _error(self, decomposition: Singular, multiplier: Multiplier, sigma: Tensor, sent: Tensor) -> Tensor:
        """Error of the image, (batch,); infinite where rounding may have decided what is kept."""
        weights, eps = multiplier.amplification(sigma), spacing(self.precision)
        noise = BACKWARD_ERROR * eps * sigma[:, 0] * norm(weights) / self.question.small**0.5
        error = torch.maximum(NOISE_MARGIN * noise, MISSED_MARGIN * missed(decomposition, weights, sent))
        error = error + decomposition.skew * norm(weights * sigma)
        threshold = self.question.threshold(self.precision) * sigma[:, 0]
        doubtful = _undecided(decomposition, multiplier, sigma, threshold)
        if self.question.is_narrowed(self.precision):
            doubtful = doubtful | _unresolved(multiplier, sigma)
        return torch.where(doubtful, math.inf, error)

    def variants(self) -> tuple[Tunable, ...]:
        """Itself, and all of it in C where that serves."""
        serves = LockstepSvdClip.serves(self.question, self.precision)
        return (self, LockstepSvdClip(self.question, self, pinned=self.pinned)) if serves else (self,)

    def fallbacks(self) -> tuple[Program, ...]:
        """None: the svd is the last resort."""
        return ()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, products and passes."""
        asked = self.question
        wide = profile.cost("gemm", Precision.FP64, asked.small)
        decomposed = profile.cost("svd", self.precision, asked.small) * math.sqrt(asked.aspect)
        return decomposed + 2 * asked.aspect * wide + _PASSES * asked.seconds_a_pass(profile)


def _unresolved(multiplier: Multiplier, sigma: Tensor) -> Tensor:
    """Whether singular values that were dropped would have another image if rounding had hidden them, (batch,)."""
    return (~multiplier.keep & multiplier.lifts(sigma)).any(-1)


def _undecided(decomposition: Singular, multiplier: Multiplier, sigma: Tensor, threshold: Tensor) -> Tensor:
    """Whether rounding may have moved a singular value over the threshold that matters, (batch,)."""
    reach = (_MOVED * torch.finfo(decomposition.sigma.dtype).eps * sigma[:, 0])[:, None]
    near = (sigma - threshold[:, None]).abs() <= reach
    if near.is_cpu and not bool(near.any()):
        return torch.zeros_like(threshold, dtype=torch.bool)
    near &= multiplier.lifts(sigma)
    kept, dropped = (near & multiplier.keep).any(-1), (near & ~multiplier.keep).any(-1)
    if dropped.device.type != "cpu":
        return kept | (dropped & (_GROWTH_MARGIN * _size_of(decomposition, ~multiplier.keep) > threshold))
    if bool(dropped.any()):
        some = Singular(*(getattr(decomposition, field.name)[dropped] for field in fields(decomposition)))
        size = _size_of(some, ~multiplier.keep[dropped])
        kept[dropped] |= _GROWTH_MARGIN * size > threshold[dropped]
    return kept


def _size_of(decomposition: Singular, wanted: Tensor) -> Tensor:
    """||M V||_2 over the right singular vectors that are wanted, (batch,): no fewer singular values are as small."""
    m, v, some = decomposition.m, decomposition.vh.mH, wanted[:, :, None]

    def squared(y: Tensor) -> Tensor:
        image = probes.times(m, probes.times(v, some * y))
        return some * probes.times(v.mH, probes.times(m.mH, image))

    return probes.growth(squared, probes.gaussian(m, m.shape[-1]).to(m.dtype), _ROUNDS).sqrt()


def missed(decomposition: Singular, h: Tensor, m: Tensor) -> Tensor:
    """||(M V - U Sigma, M^H U - V Sigma) h||_F on columns of random signs, (batch,), of M as it was sent.

    Bidiagonal QR drops entries of up to 90 eps of the norm, rarely and in few places, so what it drops is measured.
    """
    u, v = decomposition.u.to(m.dtype), decomposition.vh.mH.to(m.dtype)
    z = h[:, :, None] * probes.gaussian(h, h.shape[-1]).sign()
    z, image = z.to(u.dtype), (decomposition.sigma[:, :, None] * z).to(u.dtype)
    right = probes.times(m, probes.times(v, z)) - probes.times(u, image)
    left = probes.times(m.mH, probes.times(u, z)) - probes.times(v, image)
    return norm(torch.cat((right, left), dim=-2)) / probes.COUNT**0.5
