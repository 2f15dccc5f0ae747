"""Matrices built by their spectrum, so that every test knows their condition and their factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SHAPES", "orthogonal", "positive", "rectangular", "spectrum"]

Array: TypeAlias = "NDArray[Any]"

SHAPES = ("geometric", "one_small", "many_small", "linear")


def spectrum(order: int, shape: str, condition: float) -> Array:
    """Values from 1 down to 1 / condition."""
    t = np.linspace(0, 1, order)
    if shape == "geometric":
        return np.asarray(condition ** (-t))
    if shape == "linear":
        return np.asarray(1 / condition + (1 - 1 / condition) * (1 - t))
    values = np.ones(order) if shape == "one_small" else np.full(order, 1 / condition)
    values[-1], values[0] = 1 / condition, 1.0
    return values


def orthogonal(rng: np.random.Generator, rows: int, columns: int, *, is_complex: bool = False) -> Array:
    """Orthonormal columns (rows, columns), unitary if complex."""
    x = rng.standard_normal((rows, columns))
    if is_complex:
        x = x + 1j * rng.standard_normal((rows, columns))
    q: Array = np.linalg.qr(x)[0]
    return q


def positive(
    order: int,
    shape: str = "geometric",
    condition: float = 1e2,
    *,
    seed: int = 0,
    items: int = 1,
    is_complex: bool = False,
) -> Array:
    """Symmetric (Hermitian) positive definite matrices (items, order, order) of that condition number."""
    rng = np.random.default_rng(seed)
    values = spectrum(order, shape, condition)
    bases = [orthogonal(rng, order, order, is_complex=is_complex) for _ in range(items)]
    a = np.stack([(q * values) @ q.conj().T for q in bases])
    symmetric: Array = (a + a.conj().swapaxes(-1, -2)) / 2
    return symmetric


def rectangular(
    shape: tuple[int, int], kind: str = "geometric", condition: float = 1e2, *, seed: int = 0, items: int = 1
) -> Array:
    """Matrices (items, m, n) with those singular values."""
    rng = np.random.default_rng(seed)
    small = min(shape)
    values = spectrum(small, kind, condition)
    return np.stack(
        [(orthogonal(rng, shape[0], small) * values) @ orthogonal(rng, shape[1], small).T for _ in range(items)]
    )
