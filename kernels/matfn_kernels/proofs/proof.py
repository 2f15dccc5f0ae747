"""Results of proofs for each matrix, and the reading and scaling of inputs and outputs for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import scaling
from matfn_kernels.proofs.balls import symmetric_part, up

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball, Source

__all__ = [
    "LARGEST_DEFECT",
    "Proof",
    "complement",
    "exponent_of",
    "in_range",
    "least_norm",
    "near",
    "out_of_range",
    "peak_exponent",
    "read",
    "symmetric",
    "together",
]

LARGEST_DEFECT: Final = 0.9
"""A residual relative to the identity above it proves nothing of use, and 1 minus it would lose digits."""
_LEAST: Final = 1e-95
"""Norms of a scaled matrix above it, and below its inverse, are far from under- and overflow."""
_RANGE: Final = "the matrix or the answer leaves the range in which the proof computes"


@dataclass(frozen=True, slots=True)
class Proof:
    """An absolute bound of one output, all (batch,).

    Attributes:
        absolute: upper bound of ||X - X*||_F; where a doubt holds it means nothing.
        size: lower bound of ||X||_F.
        doubts: where there is no proof, by reason; the first that holds is said.
    """

    absolute: Tensor
    size: Tensor
    doubts: dict[str, Tensor]


def together(*proofs: Proof) -> tuple[Tensor, dict[str, Tensor]]:
    """The relative bound of a pair, which is the larger one, and the doubts about either."""
    doubts = {reason: mask for proof in proofs for reason, mask in proof.doubts.items()}
    for reason in doubts:
        masks = [proof.doubts[reason] for proof in proofs if reason in proof.doubts]
        doubts[reason] = torch.stack(masks).any(0)
    return torch.stack([_relative(proof) for proof in proofs]).amax(0), doubts


def _relative(proof: Proof) -> Tensor:
    """||X - X*||_F / ||X*||_F is at most the absolute bound over ||X||_F less that bound."""
    below = (proof.size - proof.absolute) * (1 - 2.0**-40)
    return torch.where(below > proof.absolute, up(proof.absolute / below), torch.inf)


def complement(defect: Tensor) -> Tensor:
    """A lower bound of 1 - defect, NaN for a defect above `LARGEST_DEFECT`."""
    return torch.where(defect <= LARGEST_DEFECT, (1 - defect) * (1 - 2.0**-45), torch.nan)


def read(x: Tensor) -> Tensor:
    """X (batch, m, n) in float32 or float64, a complex one as [[Re X, -Im X], [Im X, Re X]] (batch, 2m, 2n) in float64.

    The embedding is exact, keeps products, adjoints and functions, and multiplies every Frobenius norm by 2^(1/2).
    """
    if not x.is_complex():
        return x if x.dtype == torch.float32 else x.to(torch.float64)
    real, imaginary = x.real.to(torch.float64), x.imag.to(torch.float64)
    return torch.cat([torch.cat([real, -imaginary], -1), torch.cat([imaginary, real], -1)], -2)


def peak_exponent(x: Tensor) -> Tensor:
    """The exponent e of the largest entry of X (batch, ...), which is in [1/2, 1) 2^e; 0 for zeros, (batch,)."""
    return torch.frexp(_peak(x)).exponent.to(torch.int64)


def exponent_of(a: Tensor, shift: Tensor | None) -> Tensor:
    """That of the larger of A's entries and the shift, (batch,)."""
    found = peak_exponent(a)
    return found if shift is None else torch.maximum(found, peak_exponent(shift.to(torch.float64)[:, None]))


def _peak(x: Tensor) -> Tensor:
    """The largest absolute value of X (batch, ...), 0 where there is nothing, (batch,)."""
    flat = x.reshape(len(x), -1)
    return torch.maximum(flat.amax(-1), -flat.amin(-1)) if x.numel() else x.new_zeros(len(x))


def out_of_range(*matrices: Ball) -> dict[str, Tensor]:
    """The doubt about given matrices whose norms are zero, not finite or far from 1."""
    return in_range(*(x.frobenius for x in matrices))


def in_range(*norms: Tensor) -> dict[str, Tensor]:
    """The doubt about matrices of norms (batch,) that are zero, not finite or far from 1."""
    sizes = torch.stack(norms)
    return {_RANGE: ~((sizes > _LEAST) & (sizes < 1 / _LEAST)).all(0)}


def least_norm(x: Ball) -> Tensor:
    """A lower bound of the Frobenius norm of a matrix that was given exactly, (batch,).

    The upper bound is at most 1 + 2^-45 + 4 (N + 64) u times as large for N entries, padding included, and 1e-149 more.
    """
    entries = x.shape[0] * (x.shape[1] + 16)
    least: Tensor = x.frobenius * (1 - 2.0**-40 - 2.0**-50 * (entries + 64)) - 1e-149
    return least


def symmetric(a: Tensor, shift: Tensor | None, exponent: Tensor, by: Source, *, doubled: bool) -> Ball:
    """((A + A^T) / 2 + shift I) 2^-exponent of A (batch, n, n)."""
    part = symmetric_part(by.given(a, -exponent, doubled=doubled))
    if shift is None:
        return part
    added = scaling.rescale(shift.to(torch.float64), -exponent)[:, None].expand(a.shape[:-1])
    return part.plus(by.diagonal(added, a.shape[-1], doubled=doubled), sign=1.0, factor=1.0)


def near(a: Tensor, shift: Tensor | None, exponent: Tensor) -> Tensor:
    """The matrix of `symmetric` as float64 computes it, without a bound of its error."""
    a = scaling.rescale(a.to(torch.float64), -exponent)
    a = (a + a.mT) / 2
    if shift is not None:
        a.diagonal(dim1=-2, dim2=-1).add_(scaling.rescale(shift.to(torch.float64), -exponent)[:, None])
    return a
