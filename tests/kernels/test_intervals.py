"""norm2 and cond: the value by 60 digits is in the interval, which is narrow where the matrix determines it."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import Array, answer
from honesty import estimate_of
from matfn_kernels import Rejection
from spectra import orthogonal

DTYPES = ["float16", "float32", "float64", "complex64", "complex128"]
SHAPES = [(1, 1), (4, 4), (6, 3), (3, 6), (1, 5), (5, 1)]
SPECTRA: dict[str, Any] = {
    "equal": np.ones,
    "graded": lambda n: np.geomspace(1, 1e-2, n),
    "ill-conditioned": lambda n: np.geomspace(1, 1e-12, n),
    "nearly singular": lambda n: np.geomspace(1, 1e-18, n),
    "of low rank": lambda n: (np.arange(n) < max(1, n // 2)) * 1.0,
}


def matrix(shape: tuple[int, int], spectrum: str, dtype: str) -> Array:
    """A matrix with these singular values to rounding."""
    rng, small, is_complex = np.random.default_rng(shape), min(shape), dtype.startswith("complex")
    left, right = (orthogonal(rng, size, small, is_complex=is_complex) for size in shape)
    return np.asarray(((left * SPECTRA[spectrum](small)) @ right.conj().T).astype(dtype))


def extremes(m: Array) -> tuple[Any, Any]:
    """The largest singular value, and its quotient by the smallest."""
    values = [mpmath.re(x) for x in mpmath.svd_c(mpmath.matrix(m.tolist()), compute_uv=False)]
    least = min(values)
    return max(values), max(values) / least if least > max(values) * mpmath.mpf(10) ** -50 else mpmath.inf


def ends(function: str, m: Array) -> tuple[Any, Any]:
    """Both ends of the interval, exactly."""
    lo, hi = answer(function, {"m": m}).outputs
    return mpmath.mpf(float(lo)), mpmath.mpf(float(hi))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_in_their_intervals(shape: tuple[int, int], spectrum: str, dtype: str) -> None:
    """Of every shape and rank, to the last bit of the dtype."""
    m = matrix(shape, spectrum, dtype)

    with mpmath.workdps(60):
        for function, value in zip(("norm2", "cond"), extremes(m), strict=True):
            lo, hi = ends(function, m)
            assert lo <= value <= hi


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3), (3, 3)], ids=str)
def test_whole_numbers_are_in_their_intervals(shape: tuple[int, int], dtype: str) -> None:
    """Also of matrices whose values are equal, or whole numbers, where an end may be the value itself."""
    rng = np.random.default_rng(shape)
    for m in rng.integers(-2, 3, (20, *shape)).astype(dtype):
        with mpmath.workdps(60):
            values = extremes(m) if m.any() else (mpmath.mpf(0),)
            for function, value in zip(("norm2", "cond"), values, strict=False):
                lo, hi = ends(function, m)
                assert lo <= value <= hi


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_intervals_of_well_conditioned_matrices_are_narrow(shape: tuple[int, int], dtype: str) -> None:
    """Both are converged at the default tolerance, and the estimate covers both ends."""
    m = matrix(shape, "graded", dtype)

    with mpmath.workdps(60):
        for function, value in zip(("norm2", "cond"), extremes(m), strict=True):
            (certificate,) = answer(function, {"m": m}).certificates
            worst = max(abs(float((end - value) / value)) for end in ends(function, m))
            assert certificate.outcome == "converged"
            assert certificate.error_estimate is not None
            assert worst <= certificate.error_estimate


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_a_singular_matrix_has_no_upper_bound(dtype: str) -> None:
    """Its condition number is infinite, which the interval says and the certificate remarks on."""
    found = answer("cond", {"m": matrix((6, 6), "of low rank", dtype)[:, [0, 1, 2, 3, 4, 0]]})
    lo, hi = found.outputs

    assert np.isposinf(hi)
    assert lo > 1 / (1000 * np.finfo(dtype).eps)
    assert found.certificates[0].outcome == "approximate"
    assert "infinite" in str(found.certificates[0].hint)


def test_a_zero_matrix_has_a_norm_and_no_condition() -> None:
    """The norm is 0 exactly, and the quotient is refused for that matrix alone."""
    m = np.stack([np.zeros((2, 3)), np.eye(2, 3)])

    norms = answer("norm2", {"m": m})
    found = answer("cond", {"m": m}, on_failure="nan")

    assert [end[0] for end in norms.outputs] == [0, 0]
    assert norms.certificates[0].outcome == "converged"
    assert [certificate.code for certificate in found.certificates] == ["singular", None]
    assert [np.isnan(end).tolist() for end in found.outputs] == [[True, False]] * 2
    with pytest.raises(Rejection, match="singular"):
        answer("cond", {"m": m})


@pytest.mark.parametrize(("scale", "dtype"), [(2.0**1000, "float64"), (2.0**-1000, "float64"), (2.0**120, "float32")])
def test_no_size_costs_a_digit(scale: float, dtype: str) -> None:
    """The norm scales with powers of two, and the condition number does not change, to the bit."""
    m = matrix((5, 4), "graded", dtype)
    scaled = (m * np.array(scale, dtype)).astype(dtype)

    for plain, large in zip(answer("norm2", {"m": m}).outputs, answer("norm2", {"m": scaled}).outputs, strict=True):
        assert large == plain * np.array(scale, dtype)
    for plain, large in zip(answer("cond", {"m": m}).outputs, answer("cond", {"m": scaled}).outputs, strict=True):
        assert large == plain


@pytest.mark.parametrize("exponent", [-1070, -1040])
def test_subnormal_numbers_are_bounded_too(exponent: int) -> None:
    """Where the norm itself has few bits, the interval holds it all the same."""
    m = matrix((3, 3), "graded", "float64") * 2.0**exponent

    with mpmath.workdps(400):
        lo, hi = ends("norm2", m)
        assert lo <= extremes(m)[0] <= hi


@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 3, 0), (0, 2, 2)], ids=str)
def test_nothing_has_norm_zero(shape: tuple[int, ...]) -> None:
    """A matrix without entries has norm 0 and condition number 1."""
    for function, value in (("norm2", 0.0), ("cond", 1.0)):
        for end in answer(function, {"m": np.zeros(shape)}).outputs:
            assert np.array_equal(end, np.full(shape[0], value))


@pytest.mark.parametrize("function", ["norm2", "cond"])
def test_a_lower_precision_is_refused(function: str) -> None:
    """The proof is in float64, whatever the dtype."""
    with pytest.raises(Rejection, match="fp64 only"):
        answer(function, {"m": np.eye(2, dtype="float32")}, precision="fp32")


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("function", ["norm2", "cond"])
def test_an_interval_is_its_own_proof(function: str, dtype: str) -> None:
    """With certify="proved" the bound is the estimate, and the outcome follows from it; nothing else changes."""
    m = np.random.default_rng(4).standard_normal((1, 9, 6)).astype(dtype)

    plain, proved = (answer(function, {"m": m}, certify=how) for how in ("estimate", "proved"))

    one, other = plain.certificates[0], proved.certificates[0]
    assert one.outcome == other.outcome == "converged"
    assert one.error_bound is None
    assert other.error_bound is not None
    assert estimate_of(proved) <= other.error_bound <= 50 * np.finfo(dtype).eps * (other.condition or 1)
    assert all(np.array_equal(x, y) for x, y in zip(plain.outputs, proved.outputs, strict=True))
