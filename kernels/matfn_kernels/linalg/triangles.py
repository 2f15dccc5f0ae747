"""Inverses of triangular matrices by blocks, and the first-order error of solutions with them.

inv [[A, 0], [C, B]] = [[A^-1, 0], [-B^-1 C A^-1, B^-1]], doubled from diagonal blocks that substitution inverts.
Reference: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 8 and 14.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import invert_leaf, large_product
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.numbers.precision import Precision, double, multiplying

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = [
    "LEAF",
    "PROBE_MARGIN",
    "Problem",
    "condition_number",
    "corrected",
    "corrected_on",
    "invert_lower",
    "lacking",
    "read_triangle",
]

LEAF: Final = 32
"""Largest order of a diagonal block on a GPU, and the one at which profiles price the kernels for it."""
_LEAF_ON_CPU: Final = 16
"""Largest order of a diagonal block on a CPU.

From order 512 up blocks of 16, 32 and 64 take the same time to 6 %. At orders that the kernels in C usually take larger
blocks are faster: at order 64, by 15 to 60 %."""
_NORM_ROUNDS: Final = 3
"""Rounds of power iteration for the norms of T and T^-1, on four columns; they enter the condition alone."""
_LEAST_CONDITION: Final = 0.5
"""A power iteration is within a factor 2 of the true number, which is 1 at least, unless it under- or overflows."""
PROBE_MARGIN: Final = 4.0
"""Four columns see an error that lies in one column as it is, in several by chance less of it."""


def invert_lower(t: Tensor, kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """Inverse of lower triangular T (batch, n, n): its diagonal blocks' inverses, doubled until one is left."""
    order, limit = t.shape[-1], _LEAF_ON_CPU if t.device.type == "cpu" else LEAF
    doublings = max(0, math.ceil(math.log2(order / limit)))
    size = -(-order // 2**doublings)
    t = _padded(t, size * 2**doublings)
    inverse = invert_leaf(_blocks(t, size).flatten(0, 1), kernel)
    while size < t.shape[-1]:
        inverse = _doubled(inverse, _blocks(t, 2 * size)[..., size:, :size].flatten(0, 1))
        size *= 2
    return inverse[:, :order, :order]


def _padded(t: Tensor, order: int) -> Tensor:
    """T with ones added on its diagonal up to that order."""
    extra = order - t.shape[-1]
    if not extra:
        return t
    t = torch.nn.functional.pad(t, (0, extra, 0, extra))
    t.diagonal(dim1=-2, dim2=-1)[:, -extra:].fill_(1)
    return t


def _blocks(t: Tensor, size: int) -> Tensor:
    """The diagonal blocks (batch, n / size, size, size) of T (batch, n, n), as a view."""
    blocks = t.unfold(1, size, size).unfold(2, size, size)  # (batch, i, j, size, size)
    return blocks.diagonal(dim1=1, dim2=2).movedim(-1, 1)


def _doubled(inverses: Tensor, corners: Tensor) -> Tensor:
    """Inverses of [[A, 0], [C, B]] from A^-1, B^-1, A'^-1, B'^-1, ... and C, C', ..."""
    size = inverses.shape[-1]
    first, last = inverses[::2], inverses[1::2]
    whole = inverses.new_zeros(len(corners), 2 * size, 2 * size)
    whole[:, :size, :size] = first
    whole[:, size:, size:] = last
    whole[:, size:, :size] = invariant.negative(large_product(large_product(last, corners), first))
    return whole


@dataclass(frozen=True, slots=True)
class Problem:
    """T as operators on columns, in double precision: T x, T^-1 y, and |T| x entrywise for real x."""

    apply: Callable[[Tensor], Tensor]
    solve: Callable[[Tensor], Tensor]
    magnify: Callable[[Tensor], Tensor]


def corrected(value: Tensor, right: Tensor, problem: Problem, precision: Precision) -> tuple[Tensor, Tensor]:
    """Relative residual and first-order relative error of X = T^-1 B, on random combinations of columns, (batch,) each.

    In float64 the residual's own rounding, eps |T| |X|, is as large as what it measures and is carried along. A
    correction that leaves half of the residual is none: the error is then infinite.
    """
    return corrected_on(probes.spread(right, right.shape[-1]), value, right, problem, precision)


def corrected_on(
    z: Tensor, value: Tensor, right: Tensor, problem: Problem, precision: Precision
) -> tuple[Tensor, Tensor]:
    """`corrected` on the combinations of columns that are the columns of Z."""
    x = probes.times(value.to(double(value.dtype)), z)
    target = probes.times(right, z)
    missing = target - problem.apply(x)
    step = problem.solve(missing)
    error = PROBE_MARGIN * probes.ratio(step, value)
    if precision is Precision.FP64:
        size = multiplying(precision, x.dtype) * problem.magnify(invariant.magnitude(x))
        rounding = size * probes.gaussian(x, x.shape[-2]).real.sign()
        error = error + PROBE_MARGIN * probes.ratio(problem.solve(rounding.to(x.dtype)), value)
    vanished = (norm(x) == 0) & (norm(target) > 0)
    unsolved = norm(missing - problem.apply(step)) > norm(missing) / 2
    return probes.ratio(missing, target), torch.where(vanished | unsolved, math.inf, error)


def condition_number(t: Tensor, *, lower: bool) -> Tensor:
    """||T||_2 ||T^-1||_2 by power iteration on T^H T and its inverse; infinite where that leaves float64's range."""
    z, adjoint = probes.gaussian(t, t.shape[-1]), t.mH

    def inverse(y: Tensor) -> Tensor:
        inner = invariant.solve_triangular(adjoint, y, upper=lower)
        return invariant.solve_triangular(t, inner, upper=not lower)

    large = probes.growth(lambda y: probes.times(adjoint, probes.times(t, y)), z, _NORM_ROUNDS)
    found = (large * probes.growth(inverse, z, _NORM_ROUNDS)).sqrt()
    return torch.where(found > _LEAST_CONDITION, found.clamp_min(1.0), math.inf)


def lacking(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    """The power of two that T^-1 B lacks where T was scaled by 2^-left and B by 2^-right."""
    if left is None:
        return right
    return -left if right is None else right - left


def read_triangle(t: Tensor, *, lower: bool, unit: bool) -> Tensor:
    """The triangle that a function may read, zero elsewhere (ones on a unit diagonal), (batch, n, n)."""
    offset = 1 if unit else 0
    clean = t.tril(-offset) if lower else t.triu(offset)
    if unit:
        clean.diagonal(dim1=-2, dim2=-1).fill_(1)
    return clean
