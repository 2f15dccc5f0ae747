"""Errors of functions of a matrix that follow from the backward error of eigh or svd.

Matrices are scaled by `scaling.normalise`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.measured import BACKWARD_ERROR, orthogonality, row_error
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.numbers.precision import FLOOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Eigen

__all__ = [
    "BACKWARD_ERROR",
    "asymmetric",
    "backward_error",
    "displaced",
    "in_double",
    "orthogonality",
    "propagated",
    "relative_to_truth",
    "row_error",
]

_PROBES: Final = 8
"""Random columns on which the norms of rows are taken: four products with them cost 32 / n of one of order n."""
_PROBE_MARGIN: Final = 2.0
"""Eight Gaussian numbers underestimate the norm of a row by more than this factor once in 50 rows (chi-square with 8
degrees of freedom), by more than twice this factor once in 7500."""


def relative_to_truth(error: Tensor) -> Tensor:
    """A bound relative to the computed value as one relative to the true value, which may be smaller by the error."""
    return torch.where(error < 1, error / (1 - error), torch.full_like(error, torch.inf))


def in_double(eigen: Eigen) -> Tensor:
    """The Hermitian part in double precision, without the rounding of the one that was diagonalised."""
    dtype = torch.complex128 if eigen.a.dtype.is_complex else torch.float64
    if eigen.a.device.type == "cpu" and torch.equal(eigen.given, eigen.a):
        return eigen.a.to(dtype)
    return symmetrise(eigen.given.to(dtype))


def backward_error(eigen: Eigen, wide: Tensor) -> Tensor:
    """Norms of the rows of V^H (A - V diag(w) V^H) V, A in float64, on random columns, (batch, n).

    Or of the rows of Q^H A Q - diag(w) where they are larger: Q is the orthonormal basis nearest to V, in which the
    eigenvalues are off by half of the skewness S = V^H V - I too, to first order (S diag(w) + diag(w) S) / 2.
    """
    z = probes.gaussian(eigen.a, eigen.a.shape[-1], _PROBES)
    v, w = eigen.v.to(z.dtype), eigen.w.to(torch.float64)[..., None]
    scaled, images = w * z, probes.times(v, torch.cat((z, w * z), dim=-1))
    turned = probes.times(v.mH, torch.cat((probes.times(wide, images[..., :_PROBES]), images), dim=-1))
    compressed, gram, gram_scaled = (turned[..., i * _PROBES : (i + 1) * _PROBES] for i in range(3))
    skewed = gram_scaled - scaled + w * (gram - z)
    missing = compressed - scaled - skewed
    norms = torch.maximum(*(invariant.row_norm(rows) for rows in (missing, missing + skewed / 2)))
    return _PROBE_MARGIN / math.sqrt(_PROBES) * norms


def propagated(
    values: Tensor,
    function: Callable[[Tensor], Tensor],
    noise: Tensor,
    limits: tuple[Tensor, Tensor],
    negligible: Tensor | None = None,
    own: Tensor | None = None,
) -> Tensor:
    """A bound on the Frobenius norm of diag(weights) L_f(E) for an E whose rows have at most norm `noise`, (batch,).

    In the eigenbasis L_f(E)_ij = f[i, j] E_ij with the divided differences of f; close pairs take the difference over
    the noise itself, which stays finite where the derivative of a root does not. E may lie wholly in the row and the
    column that do most harm: of each row the largest factor counts, or of each column if that is less.

    Args:
        values: eigenvalues (batch, n), sorted.
        function: f, elementwise.
        noise: (batch,) norm of a row of the backward error, which is Hermitian.
        limits: (batch, n) norms of the columns that multiply f from the left, and the least that each value may be
            taken for.
        negligible: (batch,) norm below which a bound that needs no divided differences will do, if f' is monotone.
        own: (batch, n) by how much each value may be off, where that is less than the noise.
    """
    noise = noise[:, None]
    f = function(values)
    weights, least = limits
    reach = _reach(values, f, function, noise, least)
    known = reach if own is None else _reach(values, f, function, own, least)
    if negligible is None or values.device.type != "cpu":
        return _carried(values, f, noise, known, weights)
    found = _without_differences(weights, reach)
    large = ~(found <= negligible)
    if bool(large.any()):
        found[large] = _carried(values[large], f[large], noise[large], known[large], weights[large])
    return found


def _weighed(weights: Tensor, squares: Tensor) -> Tensor:
    """(batch,) root of the sum of squares, each times the square of its weight."""
    return invariant.sums(weights.square() * squares).sqrt()


def displaced(
    values: Tensor, function: Callable[[Tensor], Tensor], noise: Tensor, limits: tuple[Tensor, Tensor]
) -> Tensor:
    """A bound on what `propagated` estimates, for a monotone f' and norms of each row of E, (batch, n).

    |f[i, j]| is then at most the larger of |f'| at i and j: in the norm of L_f(E) each row of E counts twice.
    """
    weights, least = limits
    return _without_differences(weights, _reach(values, function(values), function, noise, least))


def _without_differences(weights: Tensor, reach: Tensor) -> Tensor:
    """A bound for a monotone f', from the change of f where an eigenvalue moves by its own noise."""
    return _weighed((weights.square() + weights.amax(-1, keepdim=True).square()).sqrt(), reach.square())


def _reach(values: Tensor, f: Tensor, function: Callable[[Tensor], Tensor], noise: Tensor, least: Tensor) -> Tensor:
    """Largest change of f where an eigenvalue moves by the noise, (batch, n)."""
    below = torch.maximum(values - noise, least)
    return torch.maximum((function(values + noise) - f).abs(), (function(below) - f).abs())


def _carried(values: Tensor, f: Tensor, noise: Tensor, reach: Tensor, weights: Tensor) -> Tensor:
    """`propagated` by divided differences, (batch,); of a pair within the noise the larger reach counts."""
    carried = values[:, :, None] - values[:, None, :]
    carried.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    torch.div(f[:, :, None] - f[:, None, :], carried, out=carried)
    carried = carried.abs_().mul_(noise[:, :, None])
    close = (values.diff(dim=-1).abs() <= noise).any(-1)  # the values are sorted
    if bool(close.any()):
        carried[close] = _carried_by_close(values[close], f[close], noise[close], reach[close])
    carried.diagonal(dim1=-2, dim2=-1).copy_(reach)
    carried *= weights[:, :, None]
    by_rows, by_columns = (invariant.row_norm(carried.amax(side)) for side in (-1, -2))
    return torch.minimum(by_rows, by_columns)


def _carried_by_close(values: Tensor, f: Tensor, noise: Tensor, reach: Tensor) -> Tensor:
    """|f[i, j]| times the noise for matrices in which some eigenvalues lie within the noise of each other."""
    gap = (values[:, :, None] - values[:, None, :]).abs()
    difference = (f[:, :, None] - f[:, None, :]).abs() * (
        noise[:, :, None] / gap.clamp_min(torch.finfo(gap.dtype).tiny)
    )
    nearby = torch.maximum(reach[:, :, None], reach[:, None, :])
    return torch.where(gap > noise[:, :, None], difference, nearby)


def asymmetric(given: Tensor, a: Tensor, eps: float) -> Tensor:
    """Whether ||A - A^H||_F is above 8 eps ||A||_F: rounding, but more than a symmetric computation leaves."""
    if a.device.type == "cpu" and torch.equal(given, a):
        return torch.zeros(len(a), dtype=torch.bool)
    return torch.gt(2 * invariant.matrix_norm(given - a), FLOOR * eps * invariant.matrix_norm(given))
