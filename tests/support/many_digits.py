"""Powers of matrices to forty digits, where float64 is no reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from mpmath import mp

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["power"]

Array: TypeAlias = "NDArray[Any]"


def power(a: Array, exponent: float, *, shift: float = 0.0, g: Array | None = None) -> Array:
    """((A + A^T) / 2 + shift I)^exponent for a real (n, n), eigenvalues below zero as 0, from the left times G."""
    with mp.workdps(40):
        x = mp.matrix(a.astype(float).tolist())
        w, v = mp.eigsy((x + x.T) / 2 + mp.mpf(shift) * mp.eye(len(a)))
        f = mp.diag([max(value, mp.mpf(0)) ** exponent for value in w])
        left = v if g is None else mp.matrix(g.astype(float).tolist()) * v
        return np.array((left * f * v.T).tolist(), dtype=float)
