"""The dear first stage of a method, which programs of different functions share where it is the same.

A decomposition serves every function of its matrix: the eigenvectors of A all its powers and clippings, the singular
vectors of M its polar factor and clipping. Programs whose foundations are equal may meet in one batch. Each matrix is
scaled by itself before it is decomposed, so that an answer is the same bits whichever functions its neighbours want.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.decompositions import Eigen, Gram, Ground, Singular, scaled, some_eigh
from matfn_kernels.linalg.products import gram, symmetrise
from matfn_kernels.linalg.spectral import eigh, svd
from matfn_kernels.programs.program import Program

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings

__all__ = [
    "EigenFoundation",
    "Foundation",
    "GramFoundation",
    "NativeGramFoundation",
    "SingularFoundation",
    "Stacked",
    "batch_key",
    "foundation_of",
]


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
    """Eigendecomposition of the Gram matrices of tall matrices of one shape in one dtype."""

    rows: int
    columns: int
    dtype: torch.dtype

    def of(self, matrices: Sequence[Tensor]) -> Gram:
        """Squared singular values and right singular vectors of several batches (batch, m, n), m >= n."""
        m, exponent = scaled(matrices, self.dtype)
        return Gram(m, exponent, *eigh(gram(m, m.new_empty(len(m), self.columns, self.columns))))


@dataclass(frozen=True, slots=True)
class NativeGramFoundation:
    """Eigendecomposition of float64 Gram matrices that the kernels in C make of tall float32 matrices of one shape."""

    rows: int
    columns: int

    def of(self, matrices: Sequence[Tensor]) -> Gram:
        """Squared singular values and right singular vectors of several batches (batch, m, n), m >= n."""
        m, exponent = scaled(matrices, torch.float32)
        return Gram(m, exponent, *eigh(native.grams(m)))

    def of_some(self, matrices: Tensor, wanted: Tensor) -> Gram:
        """Those of the matrices that are wanted (batch,), NaN for the others."""
        m, exponent = scaled([matrices], torch.float32)
        return Gram(m, exponent, *some_eigh(native.grams(m), wanted))
