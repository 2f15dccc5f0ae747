"""Decompositions of batches of matrices, each matrix scaled by itself before it is decomposed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.invariant import eigh, svd
from matfn_kernels.linalg.measured import skewness, unexplained
from matfn_kernels.linalg.narrowing import holds, loss
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.linalg.scaling import narrowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Decomposition", "Eigen", "Gram", "Singular", "scaled"]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The shared decomposition of a batch of matrices: tensors (batch, ...)."""

    def rows(self, start: int, stop: int) -> Self:
        """The decomposition of the matrices start..stop."""
        return type(self)(*(getattr(self, field.name)[start:stop] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Eigen(Decomposition):
    """Matrices scaled by 2^-exponent, their Hermitian parts A, and A = V diag(w) V^H, w ascending.

    `lost` is the norm of what rounding to the dtype took from each matrix, (batch,), in the units of A. `backward` and
    `skew` are 0 where LAPACK's law holds, else the errors that `measured.unexplained` found, (batch,).
    """

    given: Tensor
    exponent: Tensor
    lost: Tensor
    a: Tensor
    w: Tensor
    v: Tensor
    backward: Tensor
    skew: Tensor

    @classmethod
    def of(cls, matrices: Sequence[Tensor], dtype: torch.dtype, wanted: Tensor | None = None) -> Self:
        """The decomposition of several batches as one; NaN where `wanted` (batch,), if given, does not hold."""
        given, exponent = scaled(matrices, dtype)
        a = symmetrise(given)
        return cls(given, exponent, _lost(matrices, given), a, *_checked_eigh(a, wanted))


@dataclass(frozen=True, slots=True)
class Singular(Decomposition):
    """Tall matrices scaled by 2^-exponent and M = U diag(sigma) V^H, sigma descending.

    `skew` is 0 where LAPACK's law holds for U and V, else what `measured.skewness` found of both, (batch,).
    """

    m: Tensor
    exponent: Tensor
    u: Tensor
    sigma: Tensor
    vh: Tensor
    skew: Tensor

    @classmethod
    def of(cls, m: Tensor, exponent: Tensor) -> Self:
        """The decomposition of tall matrices, scaled."""
        u, sigma, vh = svd(m)
        return cls(m, exponent, u, sigma, vh, skewness(u) + skewness(vh))  # V^H is square


@dataclass(frozen=True, slots=True)
class Gram(Decomposition):
    """Tall matrices scaled by 2^-exponent and M^H M = V diag(squares) V^H, squares ascending.

    `backward` and `skew` are 0 where LAPACK's law holds, else the errors that `measured.unexplained` found, (batch,).
    """

    m: Tensor
    exponent: Tensor
    squares: Tensor
    v: Tensor
    backward: Tensor
    skew: Tensor

    @classmethod
    def of(cls, m: Tensor, exponent: Tensor, gram: Tensor, wanted: Tensor | None = None) -> Self:
        """The decomposition of Gram matrices of tall ones, scaled; NaN where `wanted` (batch,), if given, is not."""
        return cls(m, exponent, *_checked_eigh(gram, wanted))


def _lost(matrices: Sequence[Tensor], given: Tensor) -> Tensor:
    """Norm of what rounding to the dtype of `given` took from several batches, in its units, (batch,) float64."""
    if all(holds(given.dtype, batch.dtype) for batch in matrices):
        return torch.zeros(len(given), dtype=torch.float64, device=given.device)
    return torch.cat([loss(batch, given.dtype) for batch in matrices]) * invariant.matrix_norm(given, torch.float64)


def scaled(matrices: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Several batches in one, each matrix near 1 in size, and the powers of two taken out, (batch,)."""
    pairs = [narrowed(batch, dtype) for batch in matrices]
    one, exponent = pairs[0] if len(pairs) == 1 else (torch.cat(column) for column in zip(*pairs, strict=True))
    return one.resolve_conj().contiguous(), exponent


def _checked_eigh(a: Tensor, wanted: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eigenvalues and eigenvectors, and what LAPACK's law does not explain of their error."""
    w, v = eigh(a) if wanted is None else _some_eigh(a, wanted)
    return w, v, *unexplained(a, w, v)


def _some_eigh(a: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """`eigh` of the matrices where `wanted` (batch,) holds, NaN for the others."""
    if bool(wanted.all()):
        return eigh(a)
    w, v = torch.full_like(a[..., 0], math.nan).real, torch.full_like(a, math.nan).mT  # laid out as LAPACK does
    if bool(wanted.any()):
        w[wanted], v[wanted] = eigh(a[wanted])
    return w, v
