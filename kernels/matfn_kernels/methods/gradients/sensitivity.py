"""How much of a gradient a backward error of a decomposition can change, to first order.

In the eigenbasis a gradient is F o S, with the cotangent S and the divided differences F. A backward error whose rows
have the norms e_i changes it by at most

    sum_k |S_ik| T_ikj |E_kj| + |E_ik| T_kij |S_kj|  <=  weight_ij ((||(F o S)_i|| + q_ij) e_j + ...),

q_ij^2 = sum_k S_ik^2 F_jk^2, by Cauchy and Schwarz, with the bounds T of `differences`. F magnifies the rounding of S.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.invariant import multiplied

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.gradients.differences import Differences

__all__ = ["moved", "multiplied"]


def moved(differences: Differences, s: Tensor, noise: Tensor) -> Tensor:
    """Bound of the change of F o S entry by entry, (batch, n, n).

    Args:
        differences: F, and the bounds of second differences.
        s: the Hermitian cotangent in the eigenbasis (batch, n, n).
        noise: (batch, n) norms of the rows of the backward error.
    """
    size, first = invariant.magnitude(s), differences.first.abs()
    half = torch.zeros_like(size)
    if differences.weights is not None:
        rows = invariant.row_norm(torch.where(size > 0, first * size, 0.0))
        crossed = invariant.product(size.square(), first.square().mT).sqrt()
        half = half + differences.weights * (rows[:, :, None] + crossed) * noise[:, None, :]
    if differences.jumps is not None:
        half = half + differences.jumps * _reached(size, differences.piece) * noise[:, None, :]
    return half + half.mT


def _reached(size: Tensor, piece: Tensor | None) -> Tensor:
    """Norms of the rows of S, for pairs of one piece without what lies in it, (batch, n, n)."""
    whole = invariant.row_norm(size)[:, :, None]
    if piece is None:
        return whole.expand_as(size)
    same = piece[:, :, None] == piece[:, None, :]
    return torch.where(same, invariant.row_norm(torch.where(same, 0.0, size))[:, :, None], whole)
