"""Eigendecompositions of small Hermitian matrices in C, one matrix in each lane of a vector (lockstep.c).

Singular value decompositions of small real matrices are made of them (singular.inc).

LAPACK treats a small matrix as a small large one. Here as many matrices as a vector has lanes are decomposed at once,
and a matrix's numbers are the same bits in any company, at any place of it and by vectors of any width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.native.library import is_built, run
from matfn_kernels.linalg.native.structures import LockstepPlan, TallPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["LANES", "LARGEST", "TALLEST", "decomposes", "eigh", "serves", "svd"]

LARGEST: Final = 64
"""Largest order that is decomposed in lockstep: the order alone decides, since bits may not depend on the batch.

Sixteen matrices of order 64 take 0.4 of LAPACK's time and a lone one 1.7 times that; of order 128 the sixteen take
two thirds, and a lone one 2.3 times LAPACK's time (benchmarks/results/eigh.md; Intel Xeon, AVX-512)."""
TALLEST: Final = 256
"""Larger dimension up to which singular value decompositions are made of eigendecompositions; of matrices that are
taller LAPACK decomposes a triangle, once it has one."""
LANES: Final = 8
"""Numbers in double precision of the widest vector: a part of a batch with fewer would waste it."""


def serves(dtype: torch.dtype, order: int) -> bool:
    """Whether matrices of that dtype and order are decomposed in lockstep, on a CPU."""
    return order <= LARGEST and dtype in lapack.KINDS and is_built()


def decomposes(dtype: torch.dtype, rows: int, columns: int) -> bool:
    """Whether singular value decompositions of that dtype and shape are made of eigendecompositions, on a CPU.

    Of order 64, Gaussian matrices take 0.45 of LAPACK's time, singular ones as much, those with values down to the
    rounding error of the largest 1.3 times that; of order 16, 0.2, 0.5 and 0.9 (Intel Xeon, AVX-512).
    """
    return not dtype.is_complex and max(rows, columns) <= TALLEST and serves(dtype, min(rows, columns))


def eigh(a: Tensor, w: Tensor, v: Tensor) -> None:
    """Writes the eigenvalues of Hermitian A (batch, n, n), ascending, to w (batch, n), and eigenvectors to rows of v.

    All arrays are without gaps. NaN where A is not finite.

    Raises:
        MemoryError: if there is none for a group of matrices.
    """
    order = a.shape[-1]
    run("eigh", LockstepPlan(len(a), order), (a, w, v), LANES)


def svd(m: Tensor, u: Tensor, sigma: Tensor, vh: Tensor) -> None:
    """Writes U (batch, m, n), sigma (batch, n) and V^T (batch, n, n) of tall M (batch, m, n) = U diag(sigma) V^T.

    All arrays are without gaps, real and of one dtype. NaN where M is not finite.

    Raises:
        MemoryError: if there is none for a group of matrices.
    """
    run("svd", TallPlan(*m.shape, None), (m, u, sigma, vh), LANES)
