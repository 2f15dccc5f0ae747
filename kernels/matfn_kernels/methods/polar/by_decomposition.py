"""Polar factors and clippings from singular values, or from eigenvalues of the Gram matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg import probes
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import product, symmetric_product
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.linalg.spectral import BACKWARD_ERROR, propagated
from matfn_kernels.numbers.precision import spacing
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Gram, Singular
    from matfn_kernels.methods.polar.program import PolarProgram

__all__ = ["by_gram", "by_svd"]

_LOSSES: Final = 128.0
"""More of eps times the norm than bidiagonal QR has been seen to move a singular value."""
_GRAM_ERROR: Final = 2 * BACKWARD_ERROR
"""Of the Gram matrix and its eigh in eps times the norm: 12 have been seen where one singular value is small."""


@dataclass(frozen=True, slots=True)
class _Multiplier:
    """f(sigma) / sigma for the polar factor (f = 1) or a clipping, the numerical range held fixed."""

    keep: Tensor
    bounds: tuple[Tensor, Tensor] | None

    def __call__(self, sigma: Tensor) -> Tensor:
        sigma = sigma.clamp_min(torch.finfo(torch.float64).tiny)
        if self.bounds is None:
            return torch.where(self.keep, 1 / sigma, 0.0)
        lo, hi = self.bounds
        clipped = torch.minimum(torch.where(self.keep, torch.maximum(sigma, lo), sigma), hi)
        return torch.where(clipped == sigma, 1.0, clipped / sigma)

    def leaves(self, sigma: Tensor, reach: Tensor) -> Tensor:
        """Whether nothing is clipped even where singular values (batch, n) are off by `reach`, (batch,)."""
        if self.bounds is None:
            return torch.zeros(len(sigma), dtype=torch.bool, device=sigma.device)
        lo, hi = self.bounds
        return ((sigma + reach <= hi) & ((lo <= 0) | (sigma - reach >= lo))).all(-1)


def _multiplier(program: PolarProgram, sigma: Tensor, exponent: Tensor) -> _Multiplier:
    keep = sigma > program.threshold * sigma.amax(-1, keepdim=True)
    return _Multiplier(keep, None if program.bounds is None else program.scaled_bounds(exponent))


def by_svd(program: PolarProgram, ground: Singular) -> Findings:
    """Polar factor or clipping from singular values and vectors, with what the decomposition dropped measured."""
    m, u = ground.m, ground.u
    sigma = ground.sigma.to(torch.float64)
    multiplier = _multiplier(program, sigma, ground.exponent)
    h = multiplier(sigma)
    value = product(u * (h * sigma)[:, None, :].to(u.dtype), ground.vh)
    noise = BACKWARD_ERROR * spacing(program.precision) * sigma[:, 0] * norm(h) / program.small**0.5
    error = torch.maximum(4 * noise, 2 * _missed(ground, h))
    if spacing(program.precision) > torch.finfo(program.dtype).eps:
        error = torch.where(_unresolved(multiplier, sigma), math.inf, error)
    reach = _LOSSES * spacing(program.precision) * sigma[:, :1]
    return _direct(program, (m, value, program.residual(m, value)), sigma, multiplier, (error, reach))


def _unresolved(multiplier: _Multiplier, sigma: Tensor) -> Tensor:
    """Whether singular values that were dropped would have another image if rounding had hidden them, (batch,)."""
    kept = replace(multiplier, keep=torch.ones_like(multiplier.keep))
    return (kept(sigma) != multiplier(sigma)).any(-1)


def _missed(ground: Singular, h: Tensor) -> Tensor:
    """||(M V - U Sigma, M^H U - V Sigma) h||_F on columns of random signs, (batch,).

    Bidiagonal QR drops entries of up to 90 eps of the norm, rarely and in few places, so what it drops is measured.
    """
    u, v = ground.u, ground.vh.mH
    z = h[:, :, None] * probes.gaussian(h, h.shape[-1]).sign()
    z, image = z.to(u.dtype), (ground.sigma[:, :, None] * z).to(u.dtype)
    right = probes.times(ground.m, probes.times(v, z)) - probes.times(u, image)
    left = probes.times(ground.m.mH, probes.times(u, z)) - probes.times(v, image)
    return norm(torch.cat((right, left), dim=-2)) / probes.COUNT**0.5


def by_gram(program: PolarProgram, ground: Gram) -> Findings:
    """M h(M^H M) from the eigenvectors of the Gram matrix."""
    m, vectors = ground.m, ground.v
    squares = ground.squares.to(torch.float64)
    sigma = squares.clamp_min(0).sqrt()
    multiplier = _multiplier(program, sigma, ground.exponent)
    h = multiplier(sigma)
    noise = _GRAM_ERROR * spacing(program.precision) * squares[:, -1]
    limits = (squares.clamp_min(0) + noise[:, None]).sqrt(), torch.zeros_like(squares)
    error = propagated(squares, lambda squared: multiplier(squared.clamp_min(0).sqrt()), noise, limits)
    errors = torch.where(_is_borderline(program, multiplier, squares, noise), math.inf, error), limits[0] - sigma
    if program.kernel is Kernel.NATIVE:
        image, found = native.images(m, vectors.mT.contiguous(), h)
        residual = found.residual if program.bounds is None else found.skew
        findings = _direct(program, (m, image, residual), sigma, multiplier, errors)
        return replace(findings, error=findings.error + found.rounding)
    value = product(m, symmetric_product(vectors * h[:, None, :].to(vectors.dtype), vectors.mH))
    return _direct(program, (m, value, program.residual(m, value)), sigma, multiplier, errors)


def _is_borderline(program: PolarProgram, multiplier: _Multiplier, squares: Tensor, noise: Tensor) -> Tensor:
    """Whether the noise in sigma^2 hides on which side of the threshold one lies that it matters for, (batch,)."""
    sigma, edge = squares.clamp_min(0).sqrt(), program.threshold**2 * squares[:, -1:]
    most, least = (replace(multiplier, keep=squares > edge + shift * noise[:, None]) for shift in (-1, 1))
    return (most(sigma) != least(sigma)).any(-1)


def _direct(
    program: PolarProgram,
    image: tuple[Tensor, Tensor, Tensor],
    sigma: Tensor,
    multiplier: _Multiplier,
    errors: tuple[Tensor, Tensor],
) -> Findings:
    """The findings of M, its computed image and its residual, given the errors that remain in the image and in sigma.

    A matrix with nothing to clip comes back as it is; its estimate is what a check in that arithmetic can resolve.
    """
    (m, value, residual), (error, reach) = image, errors
    new = multiplier(sigma) * sigma
    size = norm(new)
    relative = torch.where(size > 0, error / size, torch.zeros_like(size)) + BACKWARD_ERROR * spacing(program.precision)
    same = multiplier.leaves(sigma, reach)
    if same.device.type != "cpu" or bool(same.any()):
        value, residual = torch.where(same[:, None, None], m, value), torch.where(same, 0.0, residual)
    return Findings(
        outputs=(value,),
        residual_name=program.residual_name,
        residual=residual,
        error=torch.where(same, 4 * BACKWARD_ERROR * spacing(program.precision), relative),
        condition=torch.where(size > 0, _sensitivity(multiplier, sigma, size), torch.ones_like(size)),
        rank=multiplier.keep.sum(-1),
    )


def _sensitivity(multiplier: _Multiplier, sigma: Tensor, size: Tensor) -> Tensor:
    """sigma_max / sigma_min of the range, or for a clipping ||M|| / ||C|| times the largest stretch."""
    if multiplier.bounds is None:
        return sigma.amax(-1) / torch.where(multiplier.keep, sigma, math.inf).amin(-1)
    return (multiplier(sigma).amax(-1) * norm(sigma) / size).clamp_min(1.0)
