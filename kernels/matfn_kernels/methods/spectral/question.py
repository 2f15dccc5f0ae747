"""Questions: which function is wanted of which symmetric matrices, and the rules of their eigenvalues.

Logarithms and powers to an exponent that is not a whole number have the rules of roots (`roots.damping`), those of an
inverse root where an eigenvalue 0 has no value. Exponentials and powers to a whole number p take any symmetric matrix:

* p < 0: a matrix with an eigenvalue that rounding cannot tell from 0 is singular; it is never damped unasked.
* damping = d: A + d max(lambda_max, 0) I. shift = s: A + s I, negative eigenvalues counted as 0 before, as for roots.
* damping = "range": 0 on eigenvalues whose magnitude is at most 8 eps of the largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from matfn_kernels.methods.roots.by_eigh import Diagonalised, law
from matfn_kernels.methods.roots.damping import NEAR, Regularised, added
from matfn_kernels.numbers.precision import FLOOR, Precision, spacing, working

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Eigen
    from matfn_kernels.methods.spectral.maps import Scalar

__all__ = ["Question", "admitted"]


@dataclass(frozen=True, slots=True)
class Question:
    """A function of symmetric matrices, alone or multiplied from the left by G.

    Attributes:
        function: of the eigenvalues.
        order: n.
        rows: rows of G, or None without G.
        damping: as the caller gave it.
        shift: the number to add to the diagonal, where the caller gave one in place of a damping.
        dtype: of the inputs and outputs.
    """

    function: Scalar
    order: int
    rows: int | None
    damping: float | str | None
    shift: float | None
    dtype: torch.dtype

    @property
    def signs(self) -> tuple[int, ...]:
        """-1 where an eigenvalue 0 has no value, and else +1, of the one output."""
        return (self.function.sign,)

    @property
    def drops(self) -> bool:
        """Whether it is 0 on eigenvalues below the threshold of rank."""
        return self.damping == "range"

    @property
    def damps_by_default(self) -> bool:
        """Whether matrices that are not positive definite to rounding are shifted, as far as they need it."""
        function = self.function
        return self.damping is None and self.shift is None and function.is_definite and function.sign < 0

    @property
    def is_shifted(self) -> bool:
        """Whether the caller adds something to the diagonal."""
        return self.shift is not None or (isinstance(self.damping, float) and self.damping > 0)

    def eps(self, precision: Precision) -> float:
        """The coarser spacing of the dtype and of the arithmetic in which eigenvalues are known."""
        return max(torch.finfo(self.dtype).eps, spacing(precision))

    def working(self, precision: Precision) -> torch.dtype:
        """The dtype that is computed in."""
        return working(precision, self.dtype)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The output where some dimension is zero: a product over an empty dimension is zero, all else is empty."""
        return (torch.zeros(inputs["g" if "g" in inputs else "a"].shape, dtype=self.dtype),)


def admitted(question: Question, precision: Precision, eigen: Eigen) -> Diagonalised[Question]:
    """Matrices that have been diagonalised, under the rules of their function."""
    if question.function.is_definite:
        return Diagonalised.of(question, precision, eigen)
    values, eps, noise = eigen.w.to(torch.float64), question.eps(precision), law(precision, eigen)
    rules = _unrestricted(question, eps, values, noise, eigen.exponent)
    return Diagonalised(question, precision, eigen, rules, eps, torch.full_like(noise, math.inf))


def _unrestricted(question: Question, eps: float, values: Tensor, noise: Tensor, exponent: Tensor) -> Regularised:
    """The rules of functions that take negative eigenvalues too, of eigenvalues (batch, n) ascending."""
    bottom, top = values[:, 0], values[:, -1]
    largest = top.clamp_min(0)
    relative = torch.where(top > 0, bottom / torch.where(top > 0, top, 1.0), 0.0)
    damping, shift, far = added(question, eps, (relative, largest), exponent)
    lifted = (bottom < -FLOOR * eps * largest - noise) & (question.shift is not None)
    spectrum = torch.where(lifted[:, None], values.clamp_min(0), values) + shift[:, None]
    size = spectrum.abs()
    cut = FLOOR * eps * size.amax(-1)
    near = (size - cut[:, None]).abs() <= noise[:, None] * NEAR
    failures = {"far_shift": far} if question.shift is not None else {}
    if question.function.sign < 0:
        failures["zero_matrix"] = (size[:, -1] == 0) & (size[:, 0] == 0)
        if not question.drops:
            failures["singular"] = size.amin(-1) <= noise
    return Regularised(
        spectrum=spectrum,
        keep=size > cut[:, None],
        damping=damping,
        shift=shift,
        condition=torch.ones_like(top),
        failures=failures,
        remarks={"negative": lifted} if question.shift is not None else {},
        ambiguous=near.any(-1) if question.drops else torch.zeros_like(far),
    )
