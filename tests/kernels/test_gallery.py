"""Textbook matrices against 60-digit truth: every answer within 50 eps kappa and within its own estimate."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import answer
from gallery import ANY, DIGITS, POSITIVE, N, accurate, exact, general_function, plain, symmetric_function
from honesty import assert_covered

DEFECTIVE = {"jordan", "redheffer"}
_MEANS = [np.arange(N) / 4, np.ones(N)]
NO_ROOT = {*DEFECTIVE, "wilkinson", "vandermonde-gram"}


@pytest.fixture(autouse=True)
def _digits() -> Any:
    with mpmath.workdps(DIGITS):
        yield


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

    truth = symmetric_function(a, lambda x: (x + shift) ** power if x + shift > 0 else mpmath.mpf(0))

    accurate(found, truth)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ANY)
def test_polar_factors_of_textbook_matrices(name: str, dtype: str) -> None:
    """The polar factor and a clipping from both sides, on the numerical range."""
    a = ANY[name].astype(dtype)
    u, s, v = mpmath.svd_r(exact(a))
    cut = 8 * float(np.finfo(dtype).eps) * s[0]
    lo, hi = float(s[0]) / 1e3, float(s[0]) / 2
    clipped = [min(max(x, mpmath.mpf(lo)) if x > cut else x, mpmath.mpf(hi)) for x in s]

    factor, clip = answer("msign", {"m": a}), answer("mclip", {"m": a}, lo=lo, hi=hi)

    if all(not 0.1 < x / cut < 10 for x in s):
        accurate(factor, plain(u * mpmath.diag([1 if x > cut else 0 for x in s]) * v))
        accurate(clip, plain(u * mpmath.diag(clipped) * v))
    assert factor.certificates[0].rank == clip.certificates[0].rank


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(ANY.keys() - DEFECTIVE))
def test_signs_of_textbook_matrices(name: str, dtype: str) -> None:
    """The sign of the matrix less a multiple of I in the middle of its spectrum."""
    a = ANY[name].astype(dtype)
    middle = np.sort(np.linalg.eigvals(a.astype(np.float64)).real)[N // 2 - 1 : N // 2 + 1].mean()
    a = (a - np.asarray(middle, dtype) * np.eye(N, dtype=dtype)).astype(dtype)

    accurate(answer("mcsgn", {"a": a}), general_function(a, lambda x: mpmath.sign(mpmath.re(x))))


@pytest.mark.parametrize("name", sorted(ANY.keys() - NO_ROOT))
@pytest.mark.parametrize("r", [2, 3])
def test_general_roots_of_textbook_matrices(r: int, name: str) -> None:
    """Principal roots without symmetry, close to defective ones among them."""
    a = ANY[name]

    found = answer("root", {"a": a}, r=r, structure="general")

    accurate(found, general_function(a, lambda x: x ** (mpmath.mpf(1) / r)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(ANY.keys() - {"companion"}))
def test_triangular_inverses_of_textbook_matrices(name: str, dtype: str) -> None:
    """The inverse of the upper triangle, whatever the condition."""
    t = np.triu(ANY[name].astype(dtype))

    accurate(answer("tri_inv", {"t": t}, lower=False), plain(exact(t) ** -1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*POSITIVE, "wilkinson"])
def test_clipped_eigenvalues_of_textbook_matrices(name: str, dtype: str) -> None:
    """Eigenvalues clipped from both sides, in the middle of the spectrum."""
    a = ((ANY[name] + ANY[name].T) / 2).astype(dtype)
    values = np.linalg.eigvalsh(a.astype(float))
    lo, hi = float(values[N // 2]), float(values[-2])

    accurate(answer("eig_clip", {"a": a}, lo=lo, hi=hi), symmetric_function(a, lambda x: min(max(x, lo), hi)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("other", ["minij", "kac-murdock-szegoe"])
@pytest.mark.parametrize("name", sorted(POSITIVE.keys() - {"vandermonde-gram"}))
def test_geometric_means_of_textbook_matrices(name: str, other: str, dtype: str) -> None:
    """A # B through the square root of B in the basis in which A is I."""
    a, b = (((m + m.T) / 2).astype(dtype) for m in (POSITIVE[name], POSITIVE[other]))
    factor = mpmath.cholesky(exact(b))
    inverse = factor**-1
    inner = inverse * exact(a) * inverse.T
    w, v = mpmath.eigsy((inner + inner.T) / 2)

    found = answer("geometric_mean", {"a": a, "b": b})

    accurate(found, plain(factor * v * mpmath.diag([mpmath.sqrt(x) for x in w]) * v.T * factor.T))


def _root(a: mpmath.matrix) -> mpmath.matrix:
    """A^(1/2), negative eigenvalues counted as 0."""
    w, v = mpmath.eigsy(a)
    return v * mpmath.diag([mpmath.sqrt(max(x, 0)) for x in w]) * v.T


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("other", ["minij", "hilbert"])
@pytest.mark.parametrize("name", POSITIVE)
def test_distances_of_textbook_covariances(name: str, other: str, dtype: str) -> None:
    """The distance through the singular values of S1^(1/2) S2^(1/2), relative to the sum of its positive terms.

    Eigenvalues that rounding to the dtype has made negative count as 0 in the roots, and in the traces as they are.
    """
    s1, s2 = (((m + m.T) / 2).astype(dtype) for m in (POSITIVE[name], POSITIVE[other]))
    first, second = (_root(exact(s)) for s in (s1, s2))
    inner = first * second * second * first
    nuclear = mpmath.fsum(mpmath.sqrt(max(x, 0)) for x in mpmath.eigsy((inner + inner.T) / 2, eigvals_only=True))
    means = np.asarray(_MEANS, dtype)
    positive = float(np.square(means[0] - means[1], dtype=float).sum()) + float(np.trace(s1 + s2.astype(float)))

    found = answer("frechet_distance", {"mu1": means[0], "s1": s1, "mu2": means[1], "s2": s2})

    certificate = found.certificates[0]
    error = abs(float(found.outputs[0]) - (positive - 2 * float(nuclear))) / positive
    assert_covered(error, found.certificates)
    assert error <= 50 * np.finfo(dtype).eps * (certificate.condition or 0)
