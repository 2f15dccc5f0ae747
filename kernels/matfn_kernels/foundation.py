"""The dear first stage of a method, which programs of different functions share where it is the same.

A decomposition serves every function of its matrix: the eigenvectors of A all its powers and clippings, the singular
vectors of M its polar factor and clipping. Programs whose foundations are equal may meet in one batch. Each matrix is
scaled by itself before it is decomposed, so that an answer is the same bits whichever functions its neighbours want.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import torch

from matfn_kernels.device_policy import Kernel
from matfn_kernels.native import kernels as native
from matfn_kernels.products import gram, symmetrise
from matfn_kernels.program import Program
from matfn_kernels.scaling import narrowed
from matfn_kernels.spectral import eigh, some_eigh, svd

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.findings import Findings

__all__ = [
    "Eigen",
    "EigenFoundation",
    "Foundation",
    "Gram",
    "GramFoundation",
    "Ground",
    "Singular",
    "SingularFoundation",
    "Stacked",
    "batch_key",
    "foundation_of",
    "scaled",
]


@dataclass(frozen=True, slots=True)
class Ground:
    """What a foundation computed of a batch of matrices: tensors (batch, ...)."""

    def rows(self, start: int, stop: int) -> Self:
        """That of the matrices start..stop."""
        return type(self)(*(getattr(self, field.name)[start:stop] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Eigen(Ground):
    """Matrices scaled by 2^-exponent as given, their Hermitian parts A, and A = V diag(w) V^H, w ascending."""

    given: Tensor
    exponent: Tensor
    a: Tensor
    w: Tensor
    v: Tensor

    @classmethod
    def of_some(cls, given: Tensor, exponent: Tensor, wanted: Tensor) -> Self:
        """That of the matrices that are wanted (batch,), NaN for the others."""
        a = symmetrise(given)
        return cls(given, exponent, a, *some_eigh(a, wanted))


@dataclass(frozen=True, slots=True)
class Singular(Ground):
    """Tall matrices scaled by 2^-exponent and M = U diag(sigma) V^H, sigma descending."""

    m: Tensor
    exponent: Tensor
    u: Tensor
    sigma: Tensor
    vh: Tensor


@dataclass(frozen=True, slots=True)
class Gram(Ground):
    """Tall matrices scaled by 2^-exponent and M^H M = V diag(squares) V^H, squares ascending."""

    m: Tensor
    exponent: Tensor
    squares: Tensor
    v: Tensor


class Foundation(Protocol):
    """A first stage; frozen and hashable, the key of a batch."""

    def __hash__(self) -> int: ...

    def of(self, matrices: Sequence[Tensor]) -> Ground:
        """The stage's results for several batches of matrices, one after the other."""


@runtime_checkable
class Stacked(Program, Protocol):
    """A program that stands on a foundation."""

    @property
    def foundation(self) -> Foundation | None:
        """The stage that it shares; None where it runs alone."""

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The input that the foundation takes."""

    def finish(self, ground: Ground, inputs: Mapping[str, Tensor]) -> Findings:
        """The rest of the work, on a batch for which the foundation has been computed."""


@lru_cache(maxsize=4096)
def foundation_of(program: Program) -> Foundation | None:
    """What a program stands on; None if it stands alone."""
    return program.foundation if isinstance(program, Stacked) else None


def batch_key(program: Program) -> Hashable:
    """Programs with equal keys may be computed in one batch."""
    return foundation_of(program) or program


@dataclass(frozen=True, slots=True)
class EigenFoundation:
    """Eigendecomposition of Hermitian parts of matrices of one order in one dtype."""

    order: int
    dtype: torch.dtype

    def of(self, matrices: Sequence[Tensor]) -> Eigen:
        """Eigenvalues and eigenvectors of several batches (batch, n, n)."""
        given, exponent = scaled(matrices, self.dtype)
        a = symmetrise(given)
        return Eigen(given, exponent, a, *eigh(a))


@dataclass(frozen=True, slots=True)
class SingularFoundation:
    """Thin singular value decomposition of tall matrices of one shape in one dtype."""

    rows: int
    columns: int
    dtype: torch.dtype

    def of(self, matrices: Sequence[Tensor]) -> Singular:
        """Singular values and vectors of several batches (batch, m, n), m >= n."""
        m, exponent = scaled(matrices, self.dtype)
        return Singular(m, exponent, *svd(m))


@dataclass(frozen=True, slots=True)
class GramFoundation:
    """Eigendecomposition of the Gram matrices of tall matrices of one shape in one dtype.

    The kernels in C take matrices in float32 and make Gram matrices in float64 of them.
    """

    rows: int
    columns: int
    dtype: torch.dtype
    kernel: Kernel

    def of(self, matrices: Sequence[Tensor]) -> Gram:
        """Squared singular values and right singular vectors of several batches (batch, m, n), m >= n."""
        if self.kernel is Kernel.NATIVE:
            m, exponent = scaled(matrices, torch.float32)
            return Gram(m, exponent, *eigh(native.grams(m)))
        m, exponent = scaled(matrices, self.dtype)
        return Gram(m, exponent, *eigh(gram(m, m.new_empty(len(m), self.columns, self.columns))))

    def of_some(self, matrices: Tensor, wanted: Tensor) -> Gram:
        """That of the matrices that are wanted (batch,), by the kernels in C, NaN for the others."""
        m, exponent = scaled([matrices], torch.float32)
        return Gram(m, exponent, *some_eigh(native.grams(m), wanted))


def scaled(matrices: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Several batches in one, each matrix near 1 in size, and the powers of two taken out, (batch,)."""
    pairs = [narrowed(batch, dtype) for batch in matrices]
    one, exponent = pairs[0] if len(pairs) == 1 else (torch.cat(column) for column in zip(*pairs, strict=True))
    return one.resolve_conj().contiguous(), exponent
