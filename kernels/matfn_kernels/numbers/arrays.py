"""Norms and probes of real and complex double numpy arrays, for methods that take one matrix at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["EPS", "Array", "adjoint", "demand_form", "demand_small", "gaussian", "growth", "norm", "shifted", "solved"]

Array: TypeAlias = "NDArray[Any]"
EPS: Final = float(np.finfo(np.float64).eps)
_ROUNDS: Final = 4
"""Most power steps of `growth`.

With them 1 / sep of 300 random Sylvester equations was too small by 2.0 at most, by 1.34 in one of a hundred."""
_LAW: Final = 32.0
"""Largest residual of LAPACK in units of n eps and of the norms of what was multiplied: 2 or less as a rule."""
_GROWS: Final = 1.1
"""A step that gains less than this factor is the last."""
_SEED: Final = 20240901
"""Any number: it makes the matrices the same in every process."""


def norm(x: Array) -> float:
    """Frobenius norm, or the 2-norm of a vector."""
    return float(np.linalg.norm(x))


def adjoint(x: Array) -> Array:
    """X^H of X (m, n)."""
    return np.asarray(x.conj().T)


def shifted(x: Array, exponent: int | Array) -> Array:
    """X 2^exponent, which rounds nothing within float64's range, for real or complex X."""
    if not np.iscomplexobj(x):
        return np.asarray(np.ldexp(x, exponent))
    return np.asarray(np.ldexp(x.real, exponent) + 1j * np.ldexp(x.imag, exponent))


def demand_small(residual: Array, scale: float, order: int) -> None:
    """Checks that a residual is rounding of terms of a size.

    Raises:
        numpy.linalg.LinAlgError: if it is larger, so that a library has returned a wrong result.
    """
    if norm(residual) > _LAW * order * float(np.finfo(residual.dtype).eps) * scale:
        raise np.linalg.LinAlgError("a library returned a wrong result")


def demand_form(a: Array, t: Array, u: Array) -> None:
    """Checks that A = U T U^H and U^H U = I to rounding.

    Raises:
        numpy.linalg.LinAlgError: if not.
    """
    demand_small(a - u @ t @ u.conj().T, norm(a), len(a))
    demand_small(u.conj().T @ u - np.eye(len(a), dtype=u.dtype), 1.0, len(a))


def solved(a: Array, b: Array) -> Array:
    """A^-1 B.

    Raises:
        numpy.linalg.LinAlgError: if A is singular, or the residual is more than rounding.
    """
    x = np.linalg.solve(a, b)
    demand_small(b - a @ x, norm(a) * norm(x), len(a))
    return x


def growth(apply: Callable[[Array], Array], adjoint: Callable[[Array], Array], shape: tuple[int, int]) -> float:
    """Norm of a linear operator on matrices by power iteration: a lower bound, mostly within a factor 1.5."""
    x = gaussian(shape)
    size = 0.0
    for _ in range(_ROUNDS):
        y = apply(x / norm(x))
        before, size = size, norm(y)
        if not _GROWS * before < size < np.inf:
            return size
        x = adjoint(y / size)
        if not 0 < norm(x) < np.inf:
            return size
    return size


@lru_cache(maxsize=64)
def gaussian(shape: tuple[int, int]) -> Array:
    """A Gaussian matrix that depends on the shape alone."""
    return np.random.default_rng(_SEED).standard_normal(shape)
