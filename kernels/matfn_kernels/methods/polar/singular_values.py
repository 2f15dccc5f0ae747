"""The functions of singular values that polar factors and clippings are, and the findings of their images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.backward_error import BACKWARD_ERROR
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.numbers.precision import spacing
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.polar.question import Polar
    from matfn_kernels.numbers.precision import Precision

__all__ = ["UNCHANGED", "Multiplier", "findings_of"]

UNCHANGED: Final = 4 * BACKWARD_ERROR
"""Estimate in eps for a matrix that comes back as it is: four times the backward error of an svd that checks it."""


@dataclass(frozen=True, slots=True)
class Multiplier:
    """f(sigma) / sigma for the polar factor (f = 1) or a clipping, the numerical range held fixed."""

    keep: Tensor
    bounds: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, question: Polar, precision: Precision, sigma: Tensor, exponent: Tensor) -> Multiplier:
        """The function for matrices scaled by 2^-exponent (batch,) with singular values sigma (batch, n)."""
        keep = sigma > question.threshold(precision) * sigma.amax(-1, keepdim=True)
        return cls(keep, None if question.bounds is None else question.scaled_bounds(exponent))

    def __call__(self, sigma: Tensor) -> Tensor:
        """The multipliers of singular values (batch, n), by which each is kept, dropped or clipped."""
        sigma = sigma.clamp_min(torch.finfo(torch.float64).tiny)
        if self.bounds is None:
            return torch.where(self.keep, 1 / sigma, 0.0)
        lo, hi = self.bounds
        clipped = torch.minimum(torch.where(self.keep, torch.maximum(sigma, lo), sigma), hi)
        return torch.where(clipped == sigma, 1.0, clipped / sigma)

    def lifts(self, sigma: Tensor) -> Tensor:
        """Whether singular values (batch, n) have another image where they are kept than where they are dropped."""
        kept, dropped = (replace(self, keep=torch.full_like(self.keep, side))(sigma) for side in (True, False))
        return kept != dropped

    def amplification(self, sigma: Tensor) -> Tensor:
        """By how much at most an error in singular vectors and values (batch, n) counts in the image, (batch, n).

        Beside its multiplier it is the divided difference between a value that is kept and the largest that is not.
        """
        h = self(sigma)
        if sigma.is_cpu and bool(self.keep.all()):
            return h
        f, gone = h * sigma, torch.where(self.keep, 0.0, sigma).amax(-1, keepdim=True)
        rise = f - torch.where(self.keep, 0.0, f).amax(-1, keepdim=True)
        return torch.where(self.keep, torch.maximum(h, rise / (sigma - gone)), h)

    def leaves(self, sigma: Tensor, reach: Tensor) -> Tensor:
        """Whether nothing is clipped even where singular values (batch, n) are off by `reach`, (batch,)."""
        if self.bounds is None:
            return torch.zeros(len(sigma), dtype=torch.bool, device=sigma.device)
        lo, hi = self.bounds
        return ((sigma + reach <= hi) & ((lo <= 0) | (sigma - reach >= lo))).all(-1)


def findings_of(
    question: Polar,
    precision: Precision,
    image: tuple[Tensor, Tensor, Tensor],
    sigma: Tensor,
    multiplier: Multiplier,
    errors: tuple[Tensor, Tensor],
) -> Findings:
    """The findings of M, its computed image and its residual, given the errors that remain in the image and in sigma.

    A matrix with nothing to clip comes back as it is; its estimate is what a check in that arithmetic can resolve.
    """
    (m, value, residual), (error, reach) = image, errors
    new = multiplier(sigma) * sigma
    size = norm(new)
    relative = torch.where(size > 0, error / size, torch.zeros_like(size)) + BACKWARD_ERROR * spacing(precision)
    same = multiplier.leaves(sigma, reach)
    if same.device.type != "cpu" or bool(same.any()):
        value, residual = torch.where(same[:, None, None], m, value), torch.where(same, 0.0, residual)
    return Findings(
        outputs=(value,),
        residual_name=question.residual_name,
        residual=residual,
        error=torch.where(same, UNCHANGED * spacing(precision), relative),
        condition=torch.where(size > 0, _sensitivity(multiplier, sigma, size), torch.ones_like(size)),
        rank=multiplier.keep.sum(-1),
    )


def _sensitivity(multiplier: Multiplier, sigma: Tensor, size: Tensor) -> Tensor:
    """sigma_max / sigma_min of the range, or for a clipping ||M|| / ||C|| times the largest stretch."""
    if multiplier.bounds is None:
        return sigma.amax(-1) / torch.where(multiplier.keep, sigma, math.inf).amin(-1)
    return (multiplier(sigma).amax(-1) * norm(sigma) / size).clamp_min(1.0)
