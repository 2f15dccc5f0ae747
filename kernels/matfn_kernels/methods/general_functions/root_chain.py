"""Square roots of an upper triangular matrix, repeated until they are near the identity, and their errors.

T = U_0, U_j = U_(j-1)^(1/2), Y = U_k - I. The diagonal of Y is taken from the logarithms of T's: nothing cancels
there. A direction E at T moves U_k by k equations U_j D_j + D_j U_j = D_(j-1), D_0 = E. With U_j^2 - U_(j-1) added to
the right sides, and E = 0, D_k is to first order the error of U_k.
References: Al-Mohy and Higham, SIAM J. Sci. Comput. 34 (2012); Al-Mohy, Numer. Algorithms 59 (2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from matfn_kernels.methods.roots.triangular_power import corner, has_lost_pivots, norm, prime_root
from matfn_kernels.numbers.arrays import EPS, gaussian

if TYPE_CHECKING:
    from matfn_kernels.numbers.arrays import Array

__all__ = ["REACH", "RootChain"]

REACH: Final = 0.25
"""Largest size of Y^2 and Y^3, by their roots: there the eight nodes of `near_identity` are exact to 1e-18."""
_MOST: Final = 100
"""Most square roots: eigenvalues over all of float64's range take twelve, and large entries above the diagonal not many
more."""


@dataclass(frozen=True, slots=True)
class RootChain:
    """The square roots of T.

    Attributes:
        t: T (n, n), complex upper triangular.
        logs: principal logarithms of its diagonal.
        roots: U_1..U_k.
        y: U_k - I.
    """

    t: Array
    logs: Array
    roots: tuple[Array, ...]
    y: Array

    @classmethod
    def of(cls, t: Array) -> Self:
        """The chain of T, no eigenvalue of which is on the closed negative axis."""
        logs = np.log(t.diagonal())
        roots: list[Array] = []
        y = _less_identity(t, logs, 0)
        while not _is_near(y) and len(roots) < _MOST:
            roots.append(prime_root(roots[-1] if roots else t, 2))
            y = _less_identity(roots[-1], logs, len(roots))
        return cls(t, logs, tuple(roots), y)

    @property
    def count(self) -> int:
        """Number of roots, k."""
        return len(self.roots)

    def further(self) -> RootChain:
        """The chain with one root more."""
        root = prime_root(self.roots[-1] if self.roots else self.t, 2)
        return RootChain(self.t, self.logs, (*self.roots, root), _less_identity(root, self.logs, self.count + 1))

    @property
    def is_lost(self) -> bool:
        """Whether the arithmetic cannot solve the equations of a direction."""
        return any(has_lost_pivots(root, 2) for root in self.roots)

    def moved(self, direction: Array) -> Array:
        """D_k for D_0 = `direction`."""
        for root in self.roots:
            direction = corner(root, root, direction, 2)
        return direction

    def error(self) -> Array:
        """The error of U_k, to first order.

        What is left of U_j^2 - U_(j-1) is known to rounding only, and may vanish where the same rounding made U_j: as
        much again is added at random.
        """
        shape, found, before = self.t.shape, np.zeros_like(self.t), self.t
        random = gaussian((2 * shape[0], shape[1]))
        for root in self.roots:
            size = np.abs(root)
            noise = EPS / 2 * np.triu(size @ size) * (random[: shape[0]] + 1j * random[shape[0] :])
            found, before = corner(root, root, found + (root @ root - before) + noise, 2), root
        return found


def _less_identity(u: Array, logs: Array, count: int) -> Array:
    """U - I for U = T^(2^-count)."""
    y = u.copy()
    np.fill_diagonal(y, np.expm1(np.ldexp(1.0, -count) * logs))
    return y


def _is_near(y: Array) -> bool:
    square = y @ y
    return bool(max(_size(square) ** (1 / 2), _size(square @ y) ** (1 / 3)) <= REACH)


def _size(x: Array) -> float:
    """The norm of column sums; infinite if it is not known."""
    found = float(np.linalg.norm(x, 1))
    return found if np.isfinite(found) else norm(np.full(1, np.inf))
