"""Routes through LAPACK's eigh and svd, and what a backward error of theirs does to a function.

torch raises for the whole batch when one matrix fails, so a failed batch is repeated matrix by matrix and the failures
are marked. Each route takes matrices scaled by `scaling.normalise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["BACKWARD_ERROR", "eigh", "propagated", "relative_to_truth", "svd"]

BACKWARD_ERROR: Final = 8.0
"""Backward error of LAPACK's eigh and svd in units of eps times the norm, as seen up to order 2048.

Bidiagonal QR may drop more in a few places: who needs a bound for svd in double precision measures it."""


def relative_to_truth(error: Tensor) -> Tensor:
    """A bound relative to the computed value as one relative to the true value, which may be smaller by the error."""
    return torch.where(error < 1, error / (1 - error), torch.full_like(error, torch.inf))


def eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ascending (batch, n) and eigenvectors (batch, n, n); NaN where LAPACK gives up."""
    w, v = _isolated(torch.linalg.eigh, a)
    return w, v


def svd(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin U (batch, m, k), descending values (batch, k), V^H (batch, k, n); NaN where LAPACK gives up."""
    u, sigma, vh = _isolated(lambda x: torch.linalg.svd(x, full_matrices=False), m)
    return u, sigma, vh


def _isolated(decompose: Callable[[Tensor], tuple[Tensor, ...]], a: Tensor) -> tuple[Tensor, ...]:
    try:
        return tuple(decompose(a))
    except LinAlgError:
        if a.shape[0] == 1:
            return tuple(torch.full_like(part, float("nan")) for part in decompose(torch.zeros_like(a)))
    parts = [_isolated(decompose, a[i : i + 1]) for i in range(a.shape[0])]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def propagated(
    values: Tensor, function: Callable[[Tensor], Tensor], noise: Tensor, limits: tuple[Tensor, Tensor]
) -> Tensor:
    """Frobenius norm of weights * L_f(E) for a backward error E whose columns have norm `noise`, (batch,).

    In the eigenbasis L_f(E)_ij = f[i, j] E_ij with the divided differences of f; close pairs take the difference over
    the noise itself, which stays finite where the derivative of a root does not.

    Args:
        values: eigenvalues (batch, n), sorted.
        function: f, elementwise.
        noise: (batch,) backward error.
        limits: (batch, n) norms of the columns that multiply f from the left, and the least that each value may be
            taken for.
    """
    noise = noise[:, None]
    f = function(values)
    weights, least = limits
    below = torch.maximum(values - noise, least)
    reach = torch.maximum((function(values + noise) - f).abs(), (function(below) - f).abs())
    mixed = _squares(values, f, noise, reach) / values.shape[-1] + reach.square()
    return (weights.square() * mixed).sum(-1).sqrt()


def _squares(values: Tensor, f: Tensor, noise: Tensor, reach: Tensor) -> Tensor:
    """Sums over j of (f[i, j] noise)^2, (batch, n); a pair within the noise counts as what either may be moved."""
    slope = values[:, :, None] - values[:, None, :]
    slope.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    torch.div(f[:, :, None] - f[:, None, :], slope, out=slope)
    found: Tensor = (torch.linalg.vector_norm(slope, dim=-1) * noise).square() + reach.square()
    close = (values.diff(dim=-1).abs() <= noise).any(-1)  # the values are sorted
    if bool(close.any()):
        found[close] = _squares_of_close(values[close], f[close], noise[close], reach[close])
    return found


def _squares_of_close(values: Tensor, f: Tensor, noise: Tensor, reach: Tensor) -> Tensor:
    """The same for matrices in which some eigenvalues lie within the noise of each other."""
    gap = (values[:, :, None] - values[:, None, :]).abs()
    difference = (f[:, :, None] - f[:, None, :]).abs() * (
        noise[:, :, None] / gap.clamp_min(torch.finfo(gap.dtype).tiny)
    )
    nearby = torch.maximum(reach[:, :, None], reach[:, None, :])
    return torch.where(gap > noise[:, :, None], difference, nearby).square().sum(-1)
