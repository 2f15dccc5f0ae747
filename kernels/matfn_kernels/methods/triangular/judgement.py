"""Residual, error and condition of triangular inverses, by products where their range allows and else by substitution.

The error is the first-order correction on random columns: with R = I - T X, X R to first order is the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.linalg.triangles import PROBE_MARGIN, Problem, condition_number, corrected_on
from matfn_kernels.numbers.precision import Precision, double, multiplying

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["Judgement", "by_products", "by_substitution", "is_tame", "problem"]


_FIRST_ORDER: Final = 0.5
"""Largest ||I - T X||_F at which X R stands for the error of X."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Residual, error and condition of each matrix, (batch,)."""

    residual: Tensor
    error: Tensor
    condition: Tensor

    def where(self, trusted: Tensor, other: Callable[[Tensor], Judgement]) -> Judgement:
        """This judgement of the matrices for which it is trusted (batch,), another one of those in a mask."""
        if bool(trusted.all()):
            return self
        doubtful = ~trusted
        found = other(doubtful)
        return Judgement(
            self.residual.masked_scatter(doubtful, found.residual),
            self.error.masked_scatter(doubtful, found.error),
            self.condition.masked_scatter(doubtful, found.condition),
        )


def by_products(t: Tensor, x: Tensor, precision: Precision) -> tuple[Judgement, Tensor]:
    """Judgement of X = T^-1 by products with X alone, and whether it is to be trusted, (batch,).

    X stands for the inverse in the first-order correction, which says nothing where ||R||_F is large: X may have lost
    the rows in which it is wrong. The error is then infinite. The residual's rounding is as large as what it measures
    and is carried along, as in `corrected`. Norms are by two or three half rounds of power iteration. All is in the
    arithmetic of T and X, so it is trusted where no product of a few such matrices leaves its range.
    """
    z = probes.spread(t, t.shape[-1]).to(t.dtype).mT
    image = product(z, x.mT)
    again, forward = torch.chunk(product(torch.cat([image, z], dim=1), t.mT), 2, dim=1)
    missing = z - again
    sizes_of_terms = product(invariant.magnitude(image), invariant.magnitude(t.mT))
    rounding = (multiplying(precision, t.dtype) * sizes_of_terms * z.real.sign()).to(t.dtype)
    turned = _directions(product(_directions(image), x.conj()))
    together = product(torch.cat([missing, rounding, turned], dim=1), x.mT)
    wrong, rounded, inverse = torch.chunk(together, 3, dim=1)
    pieces = torch.stack([missing, z, wrong, rounded, image])
    lengths = invariant.matrix_norm(pieces, torch.float64)
    error = PROBE_MARGIN * (lengths[2] + lengths[3]) / lengths[4]
    error = torch.where(lengths[0] <= _FIRST_ORDER, error, math.inf)
    sizes = torch.stack([_longest(product(_directions(forward), t.conj())), _longest(inverse)])
    return Judgement(lengths[0] / lengths[1], error, sizes.prod(0).clamp_min(1.0)), is_tame(sizes, error, t)


def by_substitution(t: Tensor, x: Tensor, precision: Precision, *, lower: bool) -> Judgement:
    """Judgement of X = T^-1 by substitution in float64, whose range holds all products.

    A CPU judges float32 inverses on all columns: what four combinations see of an error in several of them is left to
    chance.
    """
    wide = t.to(double(t.dtype))
    right = torch.eye(t.shape[-1], dtype=wide.dtype, device=wide.device).expand_as(wide)
    every = t.device.type == "cpu" and precision is not Precision.FP64
    z = right if every else probes.spread(right, t.shape[-1])
    residual, error = corrected_on(z, x, right, problem(wide, lower=lower), precision)
    return Judgement(residual, error, condition_number(normalise(wide)[0], lower=lower))


def problem(t: Tensor, *, lower: bool) -> Problem:
    """Triangular T (batch, n, n) as operators on columns."""
    return Problem(
        lambda x: probes.times(t, x),
        lambda y: invariant.solve_triangular(t, y, upper=not lower),
        lambda x: probes.times(invariant.magnitude(t), x),
    )


def is_tame(sizes: Tensor, error: Tensor, t: Tensor) -> Tensor:
    """Whether products of a few matrices with norms (2, batch) stay in the range of T's dtype, (batch,)."""
    reach = math.sqrt(math.sqrt(torch.finfo(t.dtype).max)) / t.shape[-1]
    return ((sizes < reach) & (sizes > t.shape[-1] / reach)).all(0) & error.isfinite()


def _directions(rows: Tensor) -> Tensor:
    """Rows (batch, k, n) divided by their lengths."""
    return invariant.divided(rows, invariant.row_norm(rows)[..., None].clamp_min(torch.finfo(rows.dtype).tiny))


def _longest(rows: Tensor) -> Tensor:
    """Largest length of a matrix's rows (batch, k, n), (batch,) float64."""
    return invariant.row_norm(rows, torch.float64).amax(-1)
