"""Shared parts of the definitions: float64 copies, adjoints, functions of eigenvalues, the error of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Array", "adjoint", "each", "negligible", "relative_error", "through_eigenvalues", "wide"]

Array: TypeAlias = "NDArray[Any]"


def wide(a: Array) -> Array:
    """A copy in float64 or complex128."""
    numbers: Array = a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)
    return numbers


def adjoint(a: Array) -> Array:
    """A^H for a (batch, m, n)."""
    turned: Array = np.conj(np.swapaxes(a, -1, -2))
    return turned


def negligible(a: Array) -> float:
    """Relative size at or below which singular values or eigenvalues of a count as 0: 8 eps of its dtype."""
    return 8 * float(np.finfo(a.dtype).eps)


def through_eigenvalues(a: Array, image: Callable[[Array], Array]) -> Array:
    """V f(w) V^H of (A + A^H) / 2 for a (batch, n, n); f takes w (batch, n), ascending."""
    full = wide(a)
    w, v = np.linalg.eigh((full + adjoint(full)) / 2)
    value: Array = (v * image(w)[..., None, :]) @ adjoint(v)
    return value


def each(signature: str, function: Callable[..., Array], *arrays: Array | float) -> Array:
    """The function of one matrix after the other; the signature names core dimensions as numpy's ufuncs do."""
    values: Array = np.vectorize(function, signature=signature)(*arrays)
    return values


def relative_error(x: Array, truth: Array) -> Array:
    """||X - X*||_F / ||X*||_F over the last two dimensions, 0 where both vanish."""
    size = np.linalg.norm(truth, axis=(-2, -1))
    error = np.linalg.norm(wide(x) - truth, axis=(-2, -1))
    relative: Array = np.where(size > 0, error / np.where(size > 0, size, 1), error)
    return relative
