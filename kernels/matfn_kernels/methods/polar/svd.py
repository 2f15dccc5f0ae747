"""Polar factors and clippings from the singular value decomposition."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.decompositions import Decomposition, Singular
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.methods.polar.question import PolarProgram
from matfn_kernels.methods.polar.singular_values import Multiplier, findings_of
from matfn_kernels.numbers.precision import Precision, at_least_single, spacing, working
from matfn_kernels.programs.shared_decomposition import SharedSingular

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
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
        del inputs
        assert isinstance(decomposition, Singular)
        m, u = decomposition.m, decomposition.u
        sigma = decomposition.sigma.to(torch.float64)
        multiplier = Multiplier.of(self.question, self.precision, sigma, decomposition.exponent)
        h = multiplier(sigma)
        value = product(u * (h * sigma)[:, None, :].to(u.dtype), decomposition.vh)
        errors = self._error(decomposition, multiplier, sigma), _LOSSES * spacing(self.precision) * sigma[:, :1]
        image = m, value, self.question.residual(m, value)
        found = findings_of(self.question, self.precision, image, sigma, multiplier, errors)
        return self.question.of_scaled(found, decomposition.exponent)

    def _error(self, decomposition: Singular, multiplier: Multiplier, sigma: Tensor) -> Tensor:
        """Error of the image, (batch,)."""
        h, eps = multiplier(sigma), spacing(self.precision)
        noise = BACKWARD_ERROR * eps * sigma[:, 0] * norm(h) / self.question.small**0.5
        error = torch.maximum(NOISE_MARGIN * noise, MISSED_MARGIN * missed(decomposition, h))
        if eps > torch.finfo(self.dtype).eps:
            error = torch.where(_unresolved(multiplier, sigma), math.inf, error)
        return error

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
    kept = replace(multiplier, keep=torch.ones_like(multiplier.keep))
    return (kept(sigma) != multiplier(sigma)).any(-1)


def missed(decomposition: Singular, h: Tensor) -> Tensor:
    """||(M V - U Sigma, M^H U - V Sigma) h||_F on columns of random signs, (batch,).

    Bidiagonal QR drops entries of up to 90 eps of the norm, rarely and in few places, so what it drops is measured.
    """
    u, v = decomposition.u, decomposition.vh.mH
    z = h[:, :, None] * probes.gaussian(h, h.shape[-1]).sign()
    z, image = z.to(u.dtype), (decomposition.sigma[:, :, None] * z).to(u.dtype)
    right = probes.times(decomposition.m, probes.times(v, z)) - probes.times(u, image)
    left = probes.times(decomposition.m.mH, probes.times(u, z)) - probes.times(v, image)
    return norm(torch.cat((right, left), dim=-2)) / probes.COUNT**0.5
