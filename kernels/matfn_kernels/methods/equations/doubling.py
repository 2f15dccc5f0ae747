"""Stabilising solutions by structure-preserving doubling of a symplectic pencil.

The stable subspace [I; X] belongs to a pencil [[E, 0], [-X_0, I]] - s [[I, G_0], [0, E^H]]. Squaring the pencil keeps
its form: E <- E (I + G X)^-1 E, G <- G + E (I + G X)^-1 G E^H, X <- X + E^H X (I + G X)^-1 E. Then X converges
quadratically to the solution, through products and one system of order n a step. It may break down for an indefinite Q
or R.
References: Chu, Fan and Lin, Linear Algebra Appl. 396 (2005); Chu, Fan, Lin and Wang, Int. J. Control 77 (2004).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from matfn_kernels.numbers.arrays import Array, adjoint, norm

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["doubling"]

_MAX_STEPS: Final = 60
"""Steps without convergence after which the other route is tried; 3400 random equations took 7 in the median, 16 at
most."""
_SETTLED: Final = 1e-8
"""A relative change after which the next, its square, is rounding."""


def doubling(start: Sequence[Array]) -> Array | None:
    """X up to the rounding of the iteration from (E, G_0, X_0), or None where it does not converge."""
    e, g, x = start
    order = len(x)
    for _ in range(_MAX_STEPS):
        solved = np.linalg.solve(np.eye(order) + g @ x, np.hstack([e, g]))
        change = adjoint(e) @ x @ solved[:, :order]
        x = np.asarray(x + (change + adjoint(change)) / 2)
        if not np.isfinite(x).all():
            return None
        if norm(change) <= _SETTLED * norm(x):
            return x
        growth = e @ solved[:, order:] @ adjoint(e)
        e, g = e @ solved[:, :order], g + (growth + adjoint(growth)) / 2
    return None
