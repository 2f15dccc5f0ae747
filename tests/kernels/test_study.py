"""A reduced form of the study of certificates: no estimate is below the true error."""

from __future__ import annotations

import secrets
from fractions import Fraction
from typing import Final

import numpy as np
import pytest
import torch

import long_double
from certificate_claims import judged
from certificate_inputs import ORDERS, Sample
from certificate_truth import Truth
from many_digits import power
from matfn_kernels import DTYPES, FUNCTIONS
from matfn_kernels.reference import relative_error, value
from spectra import positive, rectangular
from study_certificates import Draw, findings, pairs

SEEDS: Final = {"fixed": 16, "fresh": secrets.randbits(32)}
SMALL: Final = tuple(order for order in ORDERS if order <= 5)


def _dtypes(function: str, seed: int) -> list[str]:
    """float64 and one other dtype, which the seed chooses."""
    taken = [dtype for name, dtype in pairs() if name == function and dtype != "float64"]
    return ["float64", taken[seed % len(taken)]]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_answer_is_further_from_the_truth_than_its_estimate(seed: str, function: str) -> None:
    """Answers by every method to random calls are within their estimates, and a converged one has an estimate."""
    for dtype in _dtypes(function, SEEDS[seed]):
        for one in findings(Draw(function, dtype, SEEDS[seed], 0), SMALL):
            assert not one.violates, str(one)


@pytest.mark.parametrize("seed", SEEDS)
def test_claims_are_accepted_where_they_are_right(seed: str) -> None:
    """Answers by numpy and SciPy are accepted, planted wrong ones rejected, and no perturbation understated."""
    for one in judged(SEEDS[seed], (5,)):
        assert one.accepted == (one.kind == "right"), one
        assert not one.violates, one


def test_equal_draws_are_equal_answers() -> None:
    """A violation can be repeated from what its message says."""
    draw = Draw("inv_root", "float32", 3, 1)
    first, second = ([(one.kind, one.true, one.certificate) for one in findings(draw, SMALL)] for _ in range(2))
    assert first == second
    assert len(first) > 0


def test_every_function_takes_part_in_each_dtype_that_it_takes() -> None:
    """The study leaves out no function and no dtype."""
    assert {name for name, _ in pairs()} == set(FUNCTIONS)
    assert {dtype for _, dtype in pairs()} == set(DTYPES)


@pytest.mark.parametrize("shape", ["geometric", "many_small"])
@pytest.mark.parametrize("function", ["root", "inv_root"])
def test_truth_is_as_near_to_forty_digits_as_it_says(function: str, shape: str) -> None:
    """The study's square roots are within their own error of 40 digits, and far nearer than float64's."""
    a = positive(12, shape, 1e10)
    truth = Truth(function, Sample({"a": torch.as_tensor(a)}, ("one",))).of({"r": 2, "damping": 0.0}, np.zeros(1))
    exact = power(a[0], 0.5 if function == "root" else -0.5)
    plain = value(function, {"a": a}, {"r": 2})[0]
    errors = [float(relative_error(x[0], exact)) for x in (long_double.plain(truth.outputs[0]), plain)]
    assert errors[0] <= truth.error[0] + 1e-16
    assert errors[0] < errors[1] / 30


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_singular_vectors_in_extended_precision_are_orthonormal(shape: tuple[int, int]) -> None:
    """Also those of singular values that are 1e-12 of the largest."""
    m = rectangular(shape, "geometric", 1e12)
    u, s, vh = long_double.svd(m)
    one = np.eye(5)
    assert np.abs((u * s[:, None, :]) @ vh - m).max() < 1e-18
    assert np.abs(long_double.adjoint(u) @ u - one).max() < 1e-18
    assert np.abs(vh @ long_double.adjoint(vh) - one).max() < 1e-17


def test_sums_of_products_have_twice_the_digits_of_long_doubles() -> None:
    """A product less its own rounding to long doubles is exact to the digits of what is left."""
    rng = np.random.default_rng(5)
    x, y = (long_double.extended(rng.standard_normal((5, 5)) * 10.0 ** rng.integers(-3, 3, (5, 5))) for _ in range(2))
    x = x / 3

    found = long_double.added(-(x @ y), [(x, y)])

    parts = np.vectorize(lambda value: Fraction(*value.as_integer_ratio()), otypes=[object])
    exact = parts(x) @ parts(y) - parts(x @ y)
    assert (
        max(abs(float((left - right) / right)) for left, right in zip(parts(found).flat, exact.flat, strict=True))
        < 1e-9
    )
