"""Functions of matrices that have been diagonalised, and the error that a backward error of eigh leaves in them.

If E is that error then f(A + E) - f(A) = F o E in the eigenbases of A and A + E, with the divided differences F of f.
Since |F_ij|^2 <= f'_i^2 + f'_j^2 (`maps`), row i of E counts with the change of f where eigenvalue i moves by the norm
of that row, once as a row and once as a column. "range" makes f jump: there the differences themselves are bounded.

The condition is that of the function, max |f'| ||A|| / ||f(A)||_F with ||A|| = sqrt(n) ||A||_2, which is what changes
of all rows by the same part of ||A||_2 amount to: rounding is no smaller in the small rows of A.
References: Higham, Functions of Matrices (2008), chapter 3; Bhatia, Matrix Analysis (1997), theorem V.3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import displaced, orthogonality, propagated
from matfn_kernels.methods.roots.by_eigh import SKEWED, cancelled
from matfn_kernels.numbers.precision import spacing

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.roots.by_eigh import Diagonalised, Left, Noise
    from matfn_kernels.methods.spectral.maps import Arguments
    from matfn_kernels.methods.spectral.question import Question

__all__ = ["Image"]


@dataclass(frozen=True, slots=True)
class Image:
    """Values of a function on the eigenvalues of diagonalised matrices.

    Attributes:
        matrices: the question, the decomposition and the rules.
        arguments: the eigenvalues in units of the function's.
        f: its values but for a power of two, (batch, n), 0 on eigenvalues that "range" drops.
    """

    matrices: Diagonalised[Question]
    arguments: Arguments
    f: Tensor

    @classmethod
    def of(cls, matrices: Diagonalised[Question]) -> Self:
        """The function's values."""
        rules, function = matrices.rules, matrices.power.function
        used = rules.keep if matrices.power.drops else torch.ones_like(rules.keep)
        arguments = function.arguments(rules.spectrum, used, matrices.eigen.exponent)
        f = arguments.scale[:, None] * function.plain(arguments.x) + arguments.offset[:, None]
        return cls(matrices, arguments, torch.where(used, f, 0.0))

    def __call__(self, x: Tensor) -> Tensor:
        """f(x) for arguments near the eigenvalues, (batch, n)."""
        question, rules, (scale, offset) = self.matrices.power, self.matrices.rules, self._line
        f = scale * question.function.plain(x) + offset
        return torch.where(rules.keep, f, 0.0) if question.drops else f

    @property
    def _line(self) -> tuple[Tensor, Tensor]:
        return self.arguments.scale[:, None], self.arguments.offset[:, None]

    def condition(self, weights: Tensor, left: Left | None) -> Tensor:
        """Relative change of the value by relative changes of A and of G, (batch,), at least 1."""
        question, rules, x = self.matrices.power, self.matrices.rules, self.arguments.x
        slope = self.arguments.scale[:, None] * question.function.slope(x)
        if question.drops:
            slope = torch.where(rules.keep, torch.maximum(slope, self.f.abs() / x.abs().clamp_min(_TINY)), 0.0)
        size = invariant.row_norm(weights * self.f)
        whole = x.shape[-1] ** 0.5 * rules.spectrum.abs().amax(-1) * self.arguments.unit.abs()
        found = _over(slope.amax(-1) * weights.amax(-1) * whole, size)
        if left is not None:
            found = torch.maximum(found, _over(left.size * invariant.row_norm(self.f), size))
        return found.clamp_min(1)

    def error(self, noise: Noise, weights: Tensor, left: Left | None) -> Tensor:
        """Relative error of the value, (batch,).

        Args:
            noise: the backward error of the decomposition.
            weights: norms of the columns that multiply f from the left, (batch, n).
            left: G, if there is one.
        """
        question, x = self.matrices.power, self.arguments.x
        size = invariant.row_norm(weights * self.f)
        norms = noise.norms * self.arguments.unit.abs()[:, None]
        limits = weights, question.function.least(x)
        if question.drops:
            moved = propagated(x, self, norms.amax(-1), limits)
        else:
            moved = displaced(x, self, norms.expand_as(x), limits)
        skewed = SKEWED if noise.norms.shape == x.shape and x.shape[-1] > 1 else 1.0
        rounding = skewed * spacing(self.matrices.precision) * orthogonality(x.shape[-1])
        error = _over(moved, size) + rounding
        return error if left is None else error + cancelled(self.matrices.precision, self.f, weights, left)


_TINY = torch.finfo(torch.float64).tiny


def _over(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole, 0 where both vanish and infinite where the whole does."""
    found = part / torch.where(whole > 0, whole, 1.0)
    return torch.where(whole > 0, found, torch.where(part > 0, torch.inf, 0.0))
