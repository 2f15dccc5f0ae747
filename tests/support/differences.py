"""Gradients by central differences in 60 digits, the truth that gradients in float64 are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import mpmath as mp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

__all__ = ["clip", "frechet", "gradient", "mean", "power", "singular", "through_eigenvalues"]

Array: TypeAlias = "NDArray[Any]"
Matrix: TypeAlias = Any
_DIGITS = 60
_STEP = "1e-22"
"""Differences are then right to 44 digits, and rounding leaves 38 of them."""


def gradient(
    function: Callable[[Mapping[str, Matrix]], tuple[Matrix, ...]],
    inputs: Mapping[str, Array],
    cotangents: tuple[Array | None, ...],
    name: str,
    *,
    symmetric: bool = False,
) -> Array:
    """The gradient of sum of tr(cotangent^T output) for one real input.

    Args:
        function: outputs of matrices of mpmath by name.
        inputs: by name.
        cotangents: of the outputs, None for 0.
        name: of the input that is varied.
        symmetric: whether only its symmetric part counts.
    """
    with mp.workdps(_DIGITS):
        step = mp.mpf(_STEP)
        weights = [None if c is None else mp.matrix(c.tolist()) for c in cotangents]
        given = {key: mp.matrix(value.tolist()) for key, value in inputs.items()}

        def loss(moved: Matrix) -> Any:
            outputs = function({**given, name: moved})
            return mp.fsum(
                weight[i] * output[i]
                for weight, output in zip(weights, outputs, strict=True)
                if weight is not None
                for i in [(row, column) for row in range(output.rows) for column in range(output.cols)]
            )

        found = np.zeros((given[name].rows, given[name].cols))
        for i, j in np.ndindex(*found.shape):
            if symmetric and j > i:
                continue
            slopes = []
            for sign in (1, -1):
                moved = given[name].copy()
                moved[i, j] += sign * step / (2 if symmetric else 1)
                if symmetric:
                    moved[j, i] += sign * step / 2
                slopes.append(loss(moved))
            found[i, j] = (slopes[0] - slopes[1]) / (2 * step)
        found = found if not symmetric else np.tril(found) + np.tril(found, -1).T
        return found.reshape(inputs[name].shape)


def through_eigenvalues(f: Callable[[Any], Any]) -> Callable[[Matrix], Matrix]:
    """A -> V diag(f(w)) V^T of the symmetric part V diag(w) V^T."""

    def mapped(a: Matrix) -> Matrix:
        w, v = mp.eigsy((a + a.T) / 2)
        return v * mp.diag([f(value) for value in w]) * v.T

    return mapped


def power(exponent: Any, *, shift: float = 0.0, rank: int | None = None) -> Callable[[Matrix], Matrix]:
    """A -> (A + shift I)^exponent on the largest eigenvalues, as many as the rank."""

    def powered(a: Matrix) -> Matrix:
        w, v = mp.eigsy((a + a.T) / 2)
        dropped = 0 if rank is None else len(w) - rank
        f = [mp.mpf(0) if i < dropped else (w[i] + shift) ** exponent for i in range(len(w))]
        return v * mp.diag(f) * v.T

    return powered


def clip(lo: float, hi: float) -> Callable[[Matrix], Matrix]:
    """A -> its eigenvalues clipped."""

    def clipped(a: Matrix) -> Matrix:
        w, v = mp.eigsy((a + a.T) / 2)
        return v * mp.diag([min(max(x, mp.mpf(lo)), mp.mpf(hi)) for x in w]) * v.T

    return clipped


def singular(f: Callable[[Any], Any], rank: int | None = None) -> Callable[[Matrix], Matrix]:
    """M -> U f(Sigma) V^T on the largest singular values, as many as the rank."""

    def mapped(m: Matrix) -> Matrix:
        tall = m if m.rows >= m.cols else m.T
        u, sigma, vt = mp.svd_r(tall)
        values = [f(s) if rank is None or i < rank else mp.mpf(0) for i, s in enumerate(sigma)]
        found = u * mp.diag(values) * vt
        return found if m.rows >= m.cols else found.T

    return mapped


def mean(a: Matrix, b: Matrix, t: Any) -> Matrix:
    """A point of the geodesic of positive definite matrices, at 1/2 their geometric mean."""
    root, inverse, middle = power(mp.mpf(1) / 2)(a), power(-mp.mpf(1) / 2)(a), power(t)
    return root * middle(inverse * b * inverse) * root


def frechet(mu1: Matrix, s1: Matrix, mu2: Matrix, s2: Matrix) -> Matrix:
    """The squared Fréchet distance, 1 x 1."""
    root = power(mp.mpf(1) / 2)(s1)
    values = mp.eigsy(root * ((s2 + s2.T) / 2) * root, eigvals_only=True)
    nuclear = mp.fsum(mp.sqrt(value) for value in values if value > mp.mpf(10) ** -30)
    traces = mp.fsum(s1[i, i] + s2[i, i] for i in range(s1.rows))
    return mp.matrix([[mp.fsum(x * x for x in mu1 - mu2) + traces - 2 * nuclear]])
