"""Results of proofs for each matrix, and the reading and scaling of inputs and outputs for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import scaling
from matfn_kernels.proofs.balls import Ball, exact, sum_of, symmetric_part, up

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LARGEST_DEFECT",
    "Proof",
    "complement",
    "least_norm",
    "out_of_range",
    "peak_exponent",
    "read",
    "symmetric",
    "together",
]

LARGEST_DEFECT: Final = 0.9
"""A residual relative to the identity above it proves nothing of use, and 1 minus it would lose digits."""
_LEAST: Final = 1e-100
"""Entries of a scaled matrix above it, and below its inverse, are far from under- and overflow."""
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
    """X (batch, m, n) in float64, a complex one as [[Re X, -Im X], [Im X, Re X]] (batch, 2m, 2n).

    The embedding is exact, keeps products, adjoints and functions, and multiplies every Frobenius norm by 2^(1/2).
    """
    if not x.is_complex():
        return x.to(torch.float64)
    real, imaginary = x.real.to(torch.float64), x.imag.to(torch.float64)
    return torch.cat([torch.cat([real, -imaginary], -1), torch.cat([imaginary, real], -1)], -2)


def peak_exponent(x: Tensor) -> Tensor:
    """The exponent e of the largest entry of X (batch, ...), which is in [1/2, 1) 2^e; 0 for zeros, (batch,)."""
    return torch.frexp(_peak(x)).exponent.to(torch.int64)


def _peak(x: Tensor) -> Tensor:
    """The largest absolute value of X (batch, ...), 0 where there is nothing, (batch,)."""
    flat = x.reshape(len(x), -1)
    return torch.maximum(flat.amax(-1), -flat.amin(-1)) if x.numel() else x.new_zeros(len(x))


def out_of_range(*matrices: Tensor) -> dict[str, Tensor]:
    """The doubt about matrices (batch, m, n) whose largest entries are zero, not finite or far from 1."""
    peaks = torch.stack([_peak(x) for x in matrices])
    return {_RANGE: ~((peaks > _LEAST) & (peaks < 1 / _LEAST)).all(0)}


def least_norm(x: Tensor) -> Tensor:
    """A lower bound of the Frobenius norm of X (batch, m, n), (batch,)."""
    return scaling.norm(x) * (1 - 2.0**-52 * (x.shape[-1] * x.shape[-2] + 64))


def symmetric(a: Tensor, shift: Tensor | None, exponent: Tensor, *, doubled: bool) -> Ball:
    """((A + A^T) / 2 + shift I) 2^-exponent of A (batch, n, n)."""
    part = symmetric_part(exact(scaling.rescale(a, -exponent), doubled=doubled))
    if shift is None:
        return part
    added = scaling.rescale(shift.to(torch.float64), -exponent)
    return sum_of(part, exact(added[:, None, None] * torch.eye(a.shape[-1], dtype=torch.float64)))
