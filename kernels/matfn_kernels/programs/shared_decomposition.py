"""The decomposition that begins a method, computed once for programs of different functions that share it.

A decomposition serves every function of its matrix: the eigenvectors of A all its powers and clippings, the singular
vectors of M its polar factor and clipping. Programs that share one may meet in a batch. Each matrix is scaled by
itself before it is decomposed, so that the bits of an answer do not depend on the functions of the other matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.decompositions import Decomposition, Eigen, Gram, Singular, scaled
from matfn_kernels.linalg.products import gram
from matfn_kernels.programs.program import Program

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings

__all__ = [
    "SharedDecomposition",
    "SharedEigen",
    "SharedGram",
    "SharedNativeGram",
    "SharedSingular",
    "Sharing",
    "batch_key",
    "shared_by",
    "sharing_of",
]


class SharedDecomposition(Protocol):
    """A shared decomposition; frozen and hashable, the key of a batch."""

    def __hash__(self) -> int: ...

    def of(self, matrices: Sequence[Tensor]) -> Decomposition:
        """The decomposition of several batches of matrices as one batch, in order."""


@runtime_checkable
class Sharing(Program, Protocol):
    """A program that begins with a shared decomposition."""

    @property
    def shared(self) -> SharedDecomposition | None:
        """The decomposition that it shares; None where it shares none."""

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The input that is decomposed."""

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Findings of a batch that has been decomposed."""


@lru_cache(maxsize=4096)
def sharing_of(program: Program) -> Sharing | None:
    """The program, if it begins with a decomposition that it may share."""
    return program if isinstance(program, Sharing) else None


def shared_by(program: Program) -> SharedDecomposition | None:
    """The shared decomposition of a program; None if it has none."""
    sharing = sharing_of(program)
    return None if sharing is None else sharing.shared


@lru_cache(maxsize=4096)
def batch_key(program: Program) -> Hashable:
    """The key of a batch: programs with equal keys may be computed together."""
    return _Key(shared_by(program) or program)


class _Key:
    """A hashable value whose hash is computed once; that of a program takes microseconds."""

    __slots__ = ("_hash", "_value")

    def __init__(self, value: Hashable) -> None:
        self._value = value
        self._hash = hash(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._value == other._value

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class SharedEigen:
    """Eigendecomposition of Hermitian parts of matrices of one order in one dtype."""

    order: int
    dtype: torch.dtype

    def of(self, matrices: Sequence[Tensor]) -> Eigen:
        """Eigenvalues and eigenvectors of several batches (batch, n, n)."""
        return Eigen.of(matrices, self.dtype)


@dataclass(frozen=True, slots=True)
class SharedSingular:
    """Thin singular value decomposition of tall matrices of one shape in one dtype."""

    rows: int
    columns: int
    dtype: torch.dtype

    def of(self, matrices: Sequence[Tensor]) -> Singular:
        """Singular values and vectors of several batches (batch, m, n), m >= n."""
        return Singular.of(*scaled(matrices, self.dtype))


@dataclass(frozen=True, slots=True)
class SharedGram:
    """Eigendecomposition of the Gram matrices of tall matrices of one shape in one dtype."""

    rows: int
    columns: int
    dtype: torch.dtype

    def of(self, matrices: Sequence[Tensor]) -> Gram:
        """Squared singular values and right singular vectors of several batches (batch, m, n), m >= n."""
        m, exponent = scaled(matrices, self.dtype)
        return Gram.of(m, exponent, gram(m, m.new_empty(len(m), self.columns, self.columns)))


@dataclass(frozen=True, slots=True)
class SharedNativeGram:
    """Eigendecomposition of float64 Gram matrices that the kernels in C make of tall float32 matrices of one shape."""

    rows: int
    columns: int

    def of(self, matrices: Sequence[Tensor]) -> Gram:
        """Squared singular values and right singular vectors of several batches (batch, m, n), m >= n."""
        m, exponent = scaled(matrices, torch.float32)
        return Gram.of(m, exponent, native.grams(m))

    def of_some(self, matrices: Tensor, wanted: Tensor) -> Gram:
        """The decomposition of matrices where `wanted` (batch,) holds, NaN for the others."""
        m, exponent = scaled([matrices], torch.float32)
        return Gram.of(m, exponent, native.grams(m), wanted)
