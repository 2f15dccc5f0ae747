"""Solutions and norms by a Cholesky factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.triangles import invert_lower

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["inverse_norm", "solver"]


def solver(factor: Tensor) -> Callable[[Tensor], Tensor]:
    """(L L^H)^-1 of lower factors L (batch, n, n) as an operator on columns.

    On a GPU the factor is inverted once: to substitute takes as many steps as there are rows, each of them too small
    for the device (0.3 ms for one matrix of order 1024 on an H100), and may wait for it, which a recording cannot.
    """
    if factor.device.type == "cpu":
        return lambda y: invariant.cholesky_solve(y, factor)
    inverse = invert_lower(factor)
    return lambda y: probes.times(inverse.mH, probes.times(inverse, y))


def inverse_norm(factor: Tensor, start: Tensor, rounds: int) -> Tensor:
    """||(L L^H)^-1||_2 of lower L (batch, n, n) by power iteration from some columns; a lower bound, (batch,)."""
    return probes.growth(solver(factor), start, rounds)
