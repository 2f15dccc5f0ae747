"""Routes through LAPACK's eigh and svd, and what a backward error of theirs does to a function.

torch raises for the whole batch when one matrix fails, so a failed batch is repeated matrix by matrix and the failures
are marked. Each route takes scaled matrices: `normalise` brings the largest entry near 1 by a power of two, exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["eigh", "normalise", "propagated", "real_dtype", "relative_to_truth", "rescale", "rescale_power", "svd"]

BACKWARD_ERROR: Final = 8.0
"""Backward error of LAPACK's eigh and svd in units of eps times the norm, as seen up to order 2048."""

_HALF_RANGE: Final = 512


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The real dtype of the same precision."""
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def normalise(a: Tensor) -> tuple[Tensor, Tensor]:
    """A 2^-e with the largest entry in [1/2, 1), and e (batch,); exact, e = 0 for a zero matrix."""
    peak = a.abs().amax((-2, -1)) if a.numel() else a.abs().sum((-2, -1))
    exponent = torch.frexp(peak.to(torch.float64)).exponent
    return rescale(a, -exponent), exponent


def rescale(a: Tensor, exponent: Tensor) -> Tensor:
    """A 2^exponent with an integer exponent per matrix, in halves so that no factor overflows."""
    half = exponent.div(2, rounding_mode="floor")
    real = real_dtype(a.dtype)
    for part in (half, exponent - half):
        a = a * torch.exp2(part.to(torch.float64)).to(real)[:, None, None]
    return a


def rescale_power(x: Tensor, exponent: Tensor, power: float, left: Tensor | int = 0) -> Tensor:
    """X 2^(power exponent + left): undoes a scaling of A by 2^-exponent in a power of A, of a factor by 2^-left."""
    turned = power * exponent.to(torch.float64)
    whole = turned.floor()
    fraction = torch.exp2(turned - whole).to(real_dtype(x.dtype))
    return rescale(x * fraction[:, None, None], whole.to(torch.int64) + left)


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


def propagated(values: Tensor, function: Callable[[Tensor], Tensor], noise: Tensor, weights: Tensor) -> Tensor:
    """Frobenius norm of weights * L_f(E) for a backward error E whose columns have norm `noise`, (batch,).

    In the eigenbasis L_f(E)_ij = f[i, j] E_ij with the divided differences of f; close pairs take the difference over
    the noise itself, which stays finite where the derivative of a root does not.

    Args:
        values: eigenvalues (batch, n).
        function: f, elementwise.
        noise: (batch,) backward error.
        weights: (batch, n) norms of the columns that multiply f from the left, ones for none.
    """
    noise = noise[:, None]
    f = function(values)
    # An eigenvalue within its own noise of zero has lost all digits; a sixteenth of it says so without overflowing.
    below = torch.maximum(values - noise, values / 16)
    reach = torch.maximum((function(values + noise) - f).abs(), (function(below) - f).abs())
    gap = (values[:, :, None] - values[:, None, :]).abs()
    difference = (f[:, :, None] - f[:, None, :]).abs() * (
        noise[:, :, None] / gap.clamp_min(torch.finfo(gap.dtype).tiny)
    )
    nearby = torch.maximum(reach[:, :, None], reach[:, None, :])
    spread = torch.minimum(torch.where(gap > noise[:, :, None], difference, nearby), nearby)
    mixed = spread.square().mean(-1) + reach.square()
    return (weights.square() * mixed).sum(-1).sqrt()
