"""Logarithms and powers of a whole batch of matrices without symmetry, where nothing about them is in question.

Schur forms, and the functions of their triangles, are computed in C (`linalg.native.upper`), in the way of `triangular`
and with the same error. A matrix is left to `by_schur` where its Schur form breaks the law of backward errors, where it
might be singular or meet the negative axis, and where the triangle takes more care than C does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.native import upper
from matfn_kernels.linalg.scaling import rescale
from matfn_kernels.methods.general_functions.near_identity import NODES, PAIR, TERMS
from matfn_kernels.methods.general_functions.root_chain import REACH
from matfn_kernels.methods.general_functions.triangular import MARGIN
from matfn_kernels.methods.roots.negative_axis import NEAR
from matfn_kernels.methods.roots.schur_form import SLACK, law
from matfn_kernels.numbers.arrays import EPS, gaussian

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AtOnce"]

_CLEAR: Final = 64.0
"""How far from singular a triangle is at least, in units of the law: four times what a Schur form may be off by before
it breaks it. The smallest singular value of the matrix is then beyond all thresholds of `negative_axis`, none of which
exceeds the law, and no backward error changes the sign of a determinant."""


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Functions of the scaled matrices of a batch, (batch,) each, with NaN where a matrix is left out.

    Attributes:
        is_served: whether a matrix is not left out.
        value: (batch, n, n), real for real matrices.
        shift: the number that was added to the scaled diagonal.
        damping: that relative to the spectral radius.
        seen: the imaginary part of the function of a real matrix, relative to it, which is error.
        condition: of the function at T.
        own: relative error of the function of T.
        steps: square roots.
    """

    is_served: Tensor
    value: Tensor
    shift: Tensor
    damping: Tensor
    seen: Tensor
    condition: Tensor
    own: Tensor
    steps: Tensor

    @staticmethod
    def serves(a: Tensor, exponent: float | None) -> bool:
        """Whether matrices (batch, n, n) and a function, the logarithm without an exponent, are of the kind."""
        return upper.serves(a) and (exponent is None or abs(exponent) < 1)

    @classmethod
    def of(cls, sent: Tensor, units: Tensor, exponent: float | None, damping: float, shift: float | None) -> Self:
        """The functions of A 2^-units plus a shift, for A (batch, n, n) as it was sent."""
        a = rescale(sent, -units)
        t, q = upper.schur_forms(a)
        lawful = _is_lawful(a, t, q)
        added, relative = _shifts(t, units, damping, shift)
        if damping or shift:
            a, t = (x + added[:, None, None] * torch.eye(a.shape[-1], dtype=torch.float64) for x in (a, t))
        function = upper.UpperFunction(exponent, REACH, MARGIN, NODES, PAIR, TERMS)
        inner, found = upper.functions(function, t.contiguous())
        value = invariant.product(invariant.product(q, inner), q.mH)
        size = invariant.matrix_norm(value)
        seen = torch.zeros_like(size) if a.dtype.is_complex else invariant.matrix_norm(value.imag.contiguous()) / size
        value = value if a.dtype.is_complex else value.real.contiguous()
        served = (found.open == 0) & lawful & _is_clear(a if damping or shift else sent, t, found.inverse_norm)
        served &= size.isfinite() & (size > 0)
        return cls(served, value, added, relative, seen, found.condition, found.error, found.steps)


def _is_lawful(a: Tensor, t: Tensor, q: Tensor) -> Tensor:
    """Whether A = Q T Q^H and Q^H Q = I within the law, on random columns: `schur_form.unexplained` is 0."""
    n = a.shape[-1]
    z = torch.from_numpy(gaussian((n, probes.COUNT))).to(q.dtype).expand(len(a), -1, -1)
    turned = invariant.product(q.mH, z)
    missing = invariant.product(a.to(q.dtype), z) - invariant.product(q, invariant.product(t, turned))
    allowed = SLACK * law(EPS, n) * math.sqrt(probes.COUNT)
    skew = invariant.matrix_norm(z - invariant.product(q, turned))
    return (invariant.matrix_norm(missing) <= allowed * invariant.matrix_norm(t)) & (skew <= allowed * math.sqrt(n))


def _shifts(t: Tensor, units: Tensor, damping: float, shift: float | None) -> tuple[Tensor, Tensor]:
    """The number to add to each scaled diagonal, and its size relative to the spectral radius."""
    largest = invariant.magnitude(t.diagonal(dim1=-2, dim2=-1)).amax(-1)
    if shift is None:
        return damping * largest, torch.full_like(largest, damping)
    added = invariant.ldexp(torch.full_like(largest, shift), -units)
    return added, torch.where((largest > 0) & added.isfinite(), added / largest, 0.0)


def _is_clear(exact: Tensor, t: Tensor, inverse_norm: Tensor) -> Tensor:
    """Whether a matrix is known to be nonsingular and no eigenvalue to meet the negative axis."""
    values, entries = t.diagonal(dim1=-2, dim2=-1), exact.diagonal(dim1=-2, dim2=-1)
    near = (values.real < 0) & (values.imag.abs() <= NEAR * invariant.magnitude(values))
    # an entry of the diagonal can only be an eigenvalue of a reducible matrix, which has zeros
    negative = (entries.real < 0) if not entries.is_complex() else (entries.real < 0) & (entries.imag == 0)
    reducible = negative.any(-1) & (exact == 0).flatten(1).any(-1)
    regular = inverse_norm * invariant.matrix_norm(t) * (_CLEAR * law(EPS, t.shape[-1])) <= 1
    return ~near.any(-1) & ~reducible & regular
