"""Textbook matrices against 60-digit truth: every answer within 50 eps kappa and within its own estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import scipy.linalg

from evaluating import Array, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Answer

N = 8
DIGITS = 60
ROOTS = [("root", 2), ("root", 3), ("inv_root", 1), ("inv_root", 2), ("inv_root", 4)]


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


_INDEX = np.arange(1, N + 1)
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
}


@pytest.fixture(autouse=True)
def _digits() -> Any:
    with mpmath.workdps(DIGITS):
        yield


def _plain(x: Any) -> Array:
    return np.array([[float(mpmath.re(x[i, j])) for j in range(x.cols)] for i in range(x.rows)])


def _exact(a: Array) -> Any:
    return mpmath.matrix(a.astype(np.float64).tolist())


def _symmetric_function(a: Array, f: Callable[[Any], Any]) -> Array:
    w, v = mpmath.eigsy(_exact(a))
    return _plain(v * mpmath.diag([f(x) for x in w]) * v.T)


def _general_function(a: Array, f: Callable[[Any], Any]) -> Array:
    w, v = mpmath.eig(_exact(a))
    return _plain(v * mpmath.diag([f(x) for x in w]) * mpmath.inverse(v))


def _accurate(found: Answer, truth: Array, condition: float | None = None) -> None:
    """Within 50 eps kappa where that says anything, and never outside the certificate's estimate."""
    certificate = found.certificates[0]
    value = found.outputs[0]
    kappa = max(1.0, condition or certificate.condition or np.inf)
    error = np.linalg.norm(value.astype(np.float64) - truth) / np.linalg.norm(truth)
    assert np.isfinite(value).all()
    assert error <= 50 * np.finfo(value.dtype).eps * kappa
    assert certificate.error_estimate is None or error <= certificate.error_estimate


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize(
    ("function", "r"), [("root", 2), ("root", 3), ("inv_root", 1), ("inv_root", 2), ("inv_root", 4)]
)
def test_roots_of_textbook_matrices(function: str, r: int, name: str, dtype: str) -> None:
    """Roots and inverse roots answer for A + shift I with the shift that they state."""
    a = ((POSITIVE[name] + POSITIVE[name].T) / 2).astype(dtype)
    found = answer(function, {"a": a}, r=r)
    shift = mpmath.mpf(found.certificates[0].shift)
    power = mpmath.mpf(1 if function == "root" else -1) / r

    truth = _symmetric_function(a, lambda x: (x + shift) ** power if x + shift > 0 else mpmath.mpf(0))

    _accurate(found, truth)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ANY)
def test_polar_factors_of_textbook_matrices(name: str, dtype: str) -> None:
    """The polar factor and a clipping from both sides, on the numerical range."""
    a = ANY[name].astype(dtype)
    u, s, v = mpmath.svd_r(_exact(a))
    cut = 8 * float(np.finfo(dtype).eps) * s[0]
    lo, hi = float(s[0]) / 1e3, float(s[0]) / 2
    clipped = [min(max(x, mpmath.mpf(lo)) if x > cut else x, mpmath.mpf(hi)) for x in s]

    factor, clip = answer("msign", {"m": a}), answer("mclip", {"m": a}, lo=lo, hi=hi)

    if all(not 0.1 < x / cut < 10 for x in s):
        _accurate(factor, _plain(u * mpmath.diag([1 if x > cut else 0 for x in s]) * v))
        _accurate(clip, _plain(u * mpmath.diag(clipped) * v))
    assert factor.certificates[0].rank == clip.certificates[0].rank


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ANY)
def test_signs_of_textbook_matrices(name: str, dtype: str) -> None:
    """The sign of the matrix less a multiple of I in the middle of its spectrum."""
    a = ANY[name].astype(dtype)
    middle = np.sort(np.linalg.eigvals(a.astype(np.float64)).real)[N // 2 - 1 : N // 2 + 1].mean()
    a = (a - np.asarray(middle, dtype) * np.eye(N, dtype=dtype)).astype(dtype)

    _accurate(answer("mcsgn", {"a": a}), _general_function(a, lambda x: mpmath.sign(mpmath.re(x))))


@pytest.mark.parametrize("name", [name for name in ANY if name != "vandermonde-gram"])
@pytest.mark.parametrize("r", [2, 3])
def test_general_roots_of_textbook_matrices(r: int, name: str) -> None:
    """Principal roots without symmetry, close to defective ones among them."""
    a = ANY[name]

    found = answer("root", {"a": a}, r=r, structure="general")

    _accurate(found, _general_function(a, lambda x: x ** (mpmath.mpf(1) / r)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ANY)
def test_triangular_inverses_of_textbook_matrices(name: str, dtype: str) -> None:
    """The inverse of the upper triangle, whatever the condition."""
    t = np.triu(ANY[name].astype(dtype))

    _accurate(answer("tri_inv", {"t": t}, lower=False), _plain(_exact(t) ** -1))
