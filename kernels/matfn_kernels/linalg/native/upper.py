"""Complex Schur forms by LAPACK, and logarithms and powers of upper triangles in C (lapack.c, upper_functions.inc)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.native.library import run
from matfn_kernels.linalg.native.structures import UpperFindings, UpperPlan
from matfn_kernels.numbers.arrays import gaussian

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.numbers.arrays import Array

__all__ = ["UpperFunction", "functions", "schur_forms", "serves"]

LARGEST: Final = 512
"""Largest order that is served: a matrix of it takes some 200 MB on each thread, and Python's calls are few beside the
work then."""


@dataclass(frozen=True)
class UpperFunction:
    """The logarithm or a power of upper triangles by square roots, as `upper_plan` of native.h has it.

    Attributes:
        exponent: of the power, above -1 and below 1, or None for the logarithm.
        reach: how near the identity the last square root has to come.
        margin: how often the error counts.
        nodes: (place, weight) of the logarithm near 1.
        pair: two places for its derivative.
        terms: of the exponential near 0.
    """

    exponent: float | None
    reach: float
    margin: float
    nodes: tuple[tuple[float, float], ...]
    pair: tuple[float, float]
    terms: int

    @cached_property
    def tables(self) -> tuple[Array, Array]:
        """The nodes and the pair."""
        return np.array(self.nodes), np.array(self.pair)


def serves(a: Tensor) -> bool:
    """Whether matrices (batch, n, n) are of a kind that is served here."""
    return a.is_cpu and a.dtype in {torch.float64, torch.complex128} and a.shape[-1] <= LARGEST and lapack.is_ready()


def schur_forms(a: Tensor) -> tuple[Tensor, Tensor]:
    """T and Q of A = Q T Q^H for A (batch, n, n) in double precision, complex upper triangular T; NaN without them.

    A real matrix is brought to its real Schur form first, so that a simple real eigenvalue is exactly real.

    Raises:
        MemoryError: if there is none for two matrices.
    """
    a, n = a.resolve_conj().contiguous(), a.shape[-1]
    t, q = (torch.empty(a.shape, dtype=torch.complex128) for _ in range(2))
    lapack.call("schur", a.dtype, n, len(a), 25 * n**3, (n, a.data_ptr(), t.data_ptr(), q.data_ptr()))
    return t, q


def functions(wanted: UpperFunction, t: Tensor) -> tuple[Tensor, UpperFindings]:
    """The function of upper triangular T (batch, n, n), complex128 without gaps; NaN where `open` is 1.

    Raises:
        MemoryError: if there is none for some matrices.
    """
    out, found = torch.empty_like(t), torch.empty(len(t), len(fields(UpperFindings)), dtype=torch.float64)
    order, (node, pair), random = t.shape[-1], wanted.tables, _random(t.shape[-1])
    numbers = (wanted.exponent is None, len(node), wanted.terms, wanted.exponent or 0.0, wanted.reach, wanted.margin)
    pointers = (array.ctypes.data for array in (node, pair, random))
    run("upper_functions", UpperPlan(len(t), order, *numbers, *pointers), (t, out, found))
    return out, UpperFindings(*found.unbind(-1))


@lru_cache(maxsize=8)
def _random(order: int) -> Array:
    """Real and imaginary parts, one below the other."""
    return gaussian((2 * order, order))
