"""Stabilising solutions of Riccati equations by doubling and one Newton step in C (riccati.inc)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.native.structures import RiccatiFindings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Limits", "solutions"]

_PRODUCTS: Final = 90
"""Products of an equation: it is worth a thread of its own from order 20 on."""


class Limits(NamedTuple):
    """Where iterations end.

    Attributes:
        steps: most doublings.
        settled: a relative change of X after which doubling ends.
        exact: a relative step after which Newton's method ends.
        vanished: norm of a power of the closed loop beyond which further powers add nothing.
        diverged: norm of a power that is far from vanishing.
    """

    steps: int
    settled: float
    exact: float
    vanished: float
    diverged: float


def solutions(
    matrices: tuple[Tensor, Tensor, Tensor, Tensor], limits: Limits, *, discrete: bool, rounded: bool, gain: bool
) -> tuple[Tensor, Tensor | None, RiccatiFindings]:
    """X (batch, n, n), K (batch, m, n) if it is asked for, and what is found of them; zeros where nothing is found.

    Args:
        matrices: A, B, Q and R in double precision, real or complex; the Hermitian parts of Q and R count.
        limits: where iterations end.
        discrete: whether the equation is in discrete time.
        rounded: whether X will be rounded to single precision, after which its closed loop must be stable.
        gain: whether K is computed.

    Raises:
        MemoryError: if there is none for an equation.
    """
    a, b, q, r = (x.resolve_conj().resolve_neg().contiguous() for x in matrices)
    (items, n, m), places = b.shape, len(RiccatiFindings.__slots__)
    x, found = torch.empty_like(a), torch.empty(items, places, dtype=torch.float64)
    k = a.new_empty(items, m, n) if gain else None
    inputs = (array.data_ptr() for array in (a, b, q, r))
    outputs = (x.data_ptr(), 0 if k is None else k.data_ptr(), found.data_ptr())
    arguments = (n, m, discrete, rounded, *limits, *inputs, *outputs)
    lapack.call("riccati", a.dtype, n, items, _PRODUCTS * n**3, arguments)
    return x, k, RiccatiFindings(*found.unbind(-1))
