"""Textbook matrices of order 8 by their definitions, and 60-digit functions of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import scipy.linalg

from honesty import assert_covered

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Answer, Array

__all__ = ["ANY", "DIGITS", "POSITIVE", "N", "accurate", "exact", "general_function", "plain", "symmetric_function"]

N = 8
DIGITS = 60
_INDEX = np.arange(1, N + 1)


def _moler() -> Array:
    lower = np.tril(-np.ones((N, N)), -1) + np.eye(N)
    product: Array = lower @ lower.T
    return product


def _vandermonde_gram() -> Array:
    v = np.vander(np.linspace(0, 1, N))
    gram: Array = v @ v.T
    return gram


def _graded() -> Array:
    d = 10.0 ** -np.arange(N)
    return np.asarray(np.minimum.outer(d, d) + np.diag(d))


def _kahan() -> Array:
    return np.asarray(np.diag(np.sin(1.2) ** np.arange(N)) @ (np.eye(N) - np.cos(1.2) * np.triu(np.ones((N, N)), 1)))


def _frank() -> Array:
    return np.array([[N - max(i, j) if j >= i - 1 else 0 for j in range(N)] for i in range(N)], float)


def _grcar() -> Array:
    return np.eye(N) - np.eye(N, k=-1) + np.eye(N, k=1) + np.eye(N, k=2) + np.eye(N, k=3)


def _companion() -> Array:
    """Of the polynomial with the roots 1 to 8."""
    return np.asarray(scipy.linalg.companion(np.poly(_INDEX)))


def _clustered() -> Array:
    """Eigenvalues 1, 1 + 1e-9, ... and 3, 3 + 1e-9, ... in an oblique basis."""
    basis = np.eye(N) + 0.5 * np.eye(N, k=1) - 0.25 * np.eye(N, k=-2)
    values = np.where(_INDEX <= N // 2, 1, 3) + 1e-9 * _INDEX
    return np.asarray(basis * values @ np.linalg.inv(basis))


def _redheffer() -> Array:
    divides = np.mod.outer(_INDEX, _INDEX).T == 0
    divides[:, 0] = True
    return np.asarray(divides, float)


POSITIVE: dict[str, Array] = {
    "hilbert": scipy.linalg.hilbert(N),
    "moler": _moler(),
    "pascal": scipy.linalg.pascal(N).astype(float),
    "lehmer": np.minimum.outer(_INDEX, _INDEX) / np.maximum.outer(_INDEX, _INDEX),
    "minij": np.minimum.outer(_INDEX, _INDEX).astype(float),
    "kac-murdock-szegoe": 0.9 ** np.abs(np.subtract.outer(_INDEX, _INDEX)),
    "vandermonde-gram": _vandermonde_gram(),
    "graded": _graded(),
}
ANY: dict[str, Array] = POSITIVE | {
    "kahan": _kahan(),
    "frank": _frank(),
    "grcar": _grcar(),
    "cauchy": 1 / np.add.outer(_INDEX - 0.5, _INDEX),
    "companion": _companion(),
    "clustered": _clustered(),
    "toeplitz": scipy.linalg.toeplitz(3.0 ** -np.arange(N), 2.0 ** -np.arange(N)),
    "jordan": 0.75 * np.eye(N) + np.eye(N, k=1),
    "redheffer": _redheffer(),
    "wilkinson": np.diag(np.abs(np.arange(N) - (N - 1) / 2)) + np.eye(N, k=1) + np.eye(N, k=-1),
}


def plain(x: Any) -> Array:
    """The real parts in float64."""
    return np.array([[float(mpmath.re(x[i, j])) for j in range(x.cols)] for i in range(x.rows)])


def exact(a: Array) -> Any:
    """The same numbers."""
    return mpmath.matrix(a.astype(np.float64).tolist())


def symmetric_function(a: Array, f: Callable[[Any], Any]) -> Array:
    """F of the eigenvalues of a symmetric matrix."""
    w, v = mpmath.eigsy(exact(a))
    return plain(v * mpmath.diag([f(x) for x in w]) * v.T)


def general_function(a: Array, f: Callable[[Any], Any]) -> Array:
    """F of the eigenvalues of a matrix that is not defective."""
    w, v = mpmath.eig(exact(a))
    return plain(v * mpmath.diag([f(x) for x in w]) * mpmath.inverse(v))


def accurate(
    found: Answer, truth: Array, condition: float | None = None, *, estimated: int | range | None = None
) -> None:
    """Within 50 eps kappa where that says anything, and never outside the certificate's estimate."""
    certificate, value = found.certificates[0], found.outputs[0]
    kappa = max(1.0, condition or certificate.condition or np.inf)
    error = np.linalg.norm(value.astype(np.float64) - truth) / np.linalg.norm(truth)
    assert np.isfinite(value).all()
    assert error <= 50 * float(np.finfo(value.dtype).eps) * kappa
    assert_covered(error, found.certificates, estimated=estimated)
