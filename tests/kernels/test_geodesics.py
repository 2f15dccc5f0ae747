"""A #_t B for t other than 1/2: within the estimate of 60 digits, exact at the ends, symmetric as the geodesic is."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import Array, answer
from honesty import assert_covered, estimate_of
from matfn_kernels import Rejection
from spectra import positive

PLACES = [-8.0, -1.0, 1e-9, 0.1, 0.499, 0.75, 1.0001, 2.5, 8.0]


def pair(dtype: str, condition: float, *, order: int = 5) -> tuple[Array, Array]:
    """Two positive definite matrices of different sizes that do not commute."""
    is_complex = dtype.startswith("complex")
    a = positive(order, "geometric", condition, seed=1, is_complex=is_complex)
    b = positive(order, "one_small", condition, seed=2, is_complex=is_complex)
    return (8 * a).astype(dtype), (b / 4).astype(dtype)


def _power(a: Any, exponent: Any) -> Any:
    w, v = mpmath.eighe(a)
    return v * mpmath.diag([x**exponent for x in w]) * v.H


def exact(a: Array, b: Array, t: float) -> Any:
    """The definition by 60 digits."""
    first, second = (mpmath.matrix(x.tolist()) for x in (a, b))
    root, inverse = _power(first, mpmath.mpf("0.5")), _power(first, mpmath.mpf("-0.5"))
    return root * _power(inverse * second * inverse, mpmath.mpf(t)) * root


def error(x: Array, truth: Any) -> float:
    """The relative error in the Frobenius norm."""
    return float(mpmath.mnorm(mpmath.matrix(x.tolist()) - truth, "f") / mpmath.mnorm(truth, "f"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("condition", [3.0, 1e3])
@pytest.mark.parametrize("t", PLACES)
def test_points_are_within_the_estimate(t: float, condition: float, dtype: str) -> None:
    """Between and beyond the matrices, and converged."""
    a, b = pair(dtype, condition)

    found = answer("geometric_mean", {"a": a, "b": b}, t=t)

    with mpmath.workdps(60):
        assert_covered(error(found.outputs[0][0], exact(a[0], b[0], t)), found.certificates)
    assert found.certificates[0].outcome == "converged"
    assert np.array_equal(found.outputs[0], found.outputs[0].conj().swapaxes(-1, -2))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_the_ends_are_the_matrices_to_the_bit(dtype: str) -> None:
    """The point at 0 is A and that at 1 is B, without an error; both must be positive definite all the same."""
    a, b = pair(dtype, 10.0)

    ends = [answer("geometric_mean", {"a": a, "b": b}, t=t) for t in (0.0, 1.0)]

    for found, one in zip(ends, (a, b), strict=True):
        assert np.array_equal(found.outputs[0], one)
        assert found.certificates[0].error_estimate == 0
    with pytest.raises(Rejection, match="negative"):
        answer("geometric_mean", {"a": a, "b": -b}, t=0.0)


def test_the_middle_is_the_geometric_mean() -> None:
    """The point at 1/2 has the bits of the mean, which is the default."""
    a, b = pair("float64", 1e3)

    middle, mean = answer("geometric_mean", {"a": a, "b": b}, t=0.5), answer("geometric_mean", {"a": a, "b": b})

    assert np.array_equal(middle.outputs[0], mean.outputs[0])
    assert middle.certificates == mean.certificates


@pytest.mark.parametrize("t", [0.3, -0.5, 4.0])
def test_the_geodesic_runs_both_ways(t: float) -> None:
    """A #_t B = B #_(1-t) A, to the estimates of both."""
    a, b = pair("float64", 1e2)

    there, back = (
        answer("geometric_mean", dict(zip("ab", both, strict=True)), t=place)
        for both, place in (((a, b), t), ((b, a), 1 - t))
    )

    estimates = [estimate_of(found) for found in (there, back)]
    gap = np.linalg.norm(there.outputs[0] - back.outputs[0]) / np.linalg.norm(there.outputs[0])
    assert gap <= 2 * sum(estimates)


@pytest.mark.parametrize("t", [0.25, -1.0, 3.0])
def test_powers_of_two_cost_no_digit(t: float) -> None:
    """Matrices times 2^200 and 2^-120 have the point times 2^(200 (1 - t) - 120 t), to the bit."""
    a, b = pair("float64", 1e2)

    plain, scaled = (
        answer("geometric_mean", {"a": x, "b": y}, t=t) for x, y in ((a, b), (a * 2.0**200, b * 2.0**-120))
    )

    assert np.array_equal(scaled.outputs[0], plain.outputs[0] * 2.0 ** (200 * (1 - t) - 120 * t))


@pytest.mark.parametrize("t", [8.1, -9.0, float("nan"), "half"])
def test_places_beyond_the_domain_are_refused(t: object) -> None:
    """The place is a number from -8 to 8."""
    with pytest.raises(Rejection, match="t="):
        answer("geometric_mean", {"a": np.eye(2), "b": np.eye(2)}, t=t)


def test_a_point_far_out_is_more_sensitive() -> None:
    """Beyond the matrices the condition grows with the quotient of their eigenvalues."""
    a, b = pair("float64", 1e3)

    inside, outside = (
        answer("geometric_mean", {"a": a, "b": b}, t=t).certificates[0].condition or 0 for t in (0.75, 4.0)
    )

    assert outside > 1e3 * inside
