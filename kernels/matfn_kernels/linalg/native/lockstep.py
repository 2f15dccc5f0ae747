"""Eigendecompositions of small Hermitian matrices in C, one matrix in each lane of a vector (lockstep.c).

LAPACK treats a small matrix as a small large one. Here as many matrices as a vector has lanes are decomposed at once,
and a matrix's numbers are the same bits in any company, at any place of it and by vectors of any width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.native.library import is_built, run
from matfn_kernels.linalg.native.structures import LockstepPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["LANES", "LARGEST", "eigh", "serves"]

LARGEST: Final = 64
"""Largest order that is decomposed in lockstep: the order alone decides, since bits may not depend on the batch.

Sixteen matrices of order 64 take 0.4 of LAPACK's time and a lone one 1.7 times that; of order 128 the sixteen take
two thirds, and a lone one 2.3 times LAPACK's time (benchmarks/results/eigh.md; Intel Xeon, AVX-512)."""
LANES: Final = 8
"""Numbers in double precision of the widest vector: a part of a batch with fewer would waste it."""


def serves(dtype: torch.dtype, order: int) -> bool:
    """Whether matrices of that dtype and order are decomposed in lockstep, on a CPU."""
    return order <= LARGEST and dtype in lapack.KINDS and is_built()


def eigh(a: Tensor, w: Tensor, v: Tensor) -> None:
    """Writes the eigenvalues of Hermitian A (batch, n, n), ascending, to w (batch, n), and eigenvectors to rows of v.

    All arrays are without gaps. NaN where A is not finite.

    Raises:
        MemoryError: if there is none for a group of matrices.
    """
    order = a.shape[-1]
    run("eigh", LockstepPlan(len(a), order), (a, w, v), LANES)
