"""Exponentials in C: errors within their bounds, conditions, what is left to other programs, and exact symmetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.linalg

from evaluating import answer
from honesty import estimate_of
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg.native.library import is_built

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Array

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

EPS = float(np.finfo(np.float64).eps)


def _truth(a: Array, t: float = 1.0) -> Array:
    """e^(t A) in numpy's extended precision, by the series of the matrix without its mean eigenvalue."""
    wide = np.longdouble(t) * a.astype(np.longdouble)
    eye = np.eye(len(a), dtype=np.longdouble)
    mean = np.trace(wide) / len(a)
    squarings = max(0, int(np.ceil(np.log2(float(np.abs(wide - mean * eye).sum(1).max()) + 1e-300))) + 3)
    x = (wide - mean * eye) / np.longdouble(2) ** squarings
    y, term = x.copy(), x.copy()
    for k in range(2, 22):
        term = term @ x / np.longdouble(k)
        y += term
    for _ in range(squarings):
        y = 2 * y + y @ y
    return np.asarray(np.exp(mean) * (y + eye))


def _error(value: Array, truth: Array) -> float:
    gap = value.astype(np.longdouble) - truth
    return float(np.sqrt((gap * gap).sum() / (truth * truth).sum()))


def _orthogonal(rng: np.random.Generator, n: int) -> Array:
    return np.asarray(np.linalg.qr(rng.standard_normal((n, n)))[0])


def _rates(rng: np.random.Generator, n: int) -> Array:
    rates = rng.random((n, n))
    return np.asarray(rates - np.diag(rates.sum(1)))


SYMMETRIC: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "equal entries": lambda _, n: np.ones((n, n)) / 3,
    "a complete graph": lambda _, n: np.ones((n, n)) - n * np.eye(n),
    "Hilbert's": lambda _, n: 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0),
    "one large eigenvalue": lambda rng, n: 40.0 * np.outer(*[_orthogonal(rng, n)[0]] * 2),
    "small": lambda rng, n: 1e-9 * np.add(*[rng.standard_normal((n, n))] * 2) * np.ones((n, n)),
    "indefinite": lambda rng, n: (q := _orthogonal(rng, n)) * (9 * rng.standard_normal(n)) @ q.T,
    "negative": lambda rng, n: (q := _orthogonal(rng, n)) * -np.exp(5 * rng.random(n)) @ q.T,
}
GENERAL: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "Gaussian": lambda rng, n: rng.standard_normal((n, n)) / n**0.5,
    "far from zero": lambda rng, n: rng.standard_normal((n, n)) - 200 * np.eye(n),
    "skew": lambda rng, n: np.subtract(a := rng.standard_normal((n, n)), a.T),
    "rates": _rates,
    "positive": lambda rng, n: rng.random((n, n)),
    "triangular": lambda rng, n: np.triu(rng.standard_normal((n, n))),
    "nilpotent": lambda rng, n: np.triu(rng.standard_normal((n, n)), 1),
    "a Jordan block": lambda _, n: np.eye(n) + 3 * np.eye(n, k=1),
    "whole numbers": lambda rng, n: rng.integers(-2, 3, (n, n)) / 2.0,
}


@pytest.mark.parametrize(("n", "t"), [(2, -0.7), (17, 1.0), (33, -0.7), (16, 1.0)])
@pytest.mark.parametrize("name", sorted(SYMMETRIC))
def test_exponentials_of_symmetric_matrices_are_within_their_estimates(name: str, n: int, t: float) -> None:
    """They converge by the default tolerance, and are exactly symmetric."""
    a = SYMMETRIC[name](np.random.default_rng(n), n)
    a = (a + a.T) / 2

    found = answer("exp", {"a": a}, t=t, method="scaling_squaring")

    (certificate,) = found.certificates
    assert _error(found.outputs[0], _truth(a, t)) <= estimate_of(found)
    assert (certificate.outcome, certificate.method) == ("converged", "scaling_squaring")
    np.testing.assert_array_equal(found.outputs[0], found.outputs[0].T)


@pytest.mark.parametrize(("n", "t"), [(2, -0.7), (17, 1.0), (33, -0.7), (16, 1.0)])
@pytest.mark.parametrize("name", sorted(GENERAL))
def test_exponentials_of_general_matrices_are_within_their_estimates(name: str, n: int, t: float) -> None:
    """They converge by the default tolerance."""
    a = GENERAL[name](np.random.default_rng(n), n)

    found = answer("exp", {"a": a}, t=t, structure="general")

    (certificate,) = found.certificates
    assert _error(found.outputs[0], _truth(a, t)) <= estimate_of(found)
    assert certificate.outcome == "converged"


@pytest.mark.parametrize("name", sorted(GENERAL))
def test_conditions_are_near_those_of_the_derivative(name: str) -> None:
    """Of general matrices within a factor of three of scipy's condition number, or 1 where that is less."""
    a = GENERAL[name](np.random.default_rng(0), 5)

    condition = answer("exp", {"a": a}, structure="general").certificates[0].condition or 0.0

    exact = max(1.0, scipy.linalg.expm_cond(a))
    assert exact / 3 <= condition <= 3 * exact


def test_matrices_with_known_numbers_are_left_to_eigenvalues() -> None:
    """A number alone in its row and column has its own exponential beside matrices that are answered by products."""
    full = SYMMETRIC["indefinite"](np.random.default_rng(1), 20)
    full = (full + full.T) / 8
    alone = full.copy()
    alone[1] = alone[:, 1] = 0
    alone[1, 1] = -1.3

    found = answer("exp", {"a": np.stack([full, alone, full])})

    assert [one.fallback is None for one in found.certificates] == [True, False, True]
    assert found.certificates[1].method == "eigh"
    assert abs(found.outputs[0][1, 1, 1] - np.exp(-1.3)) <= EPS * np.exp(-1.3)
    assert found.outputs[0][1, 0, 1] == 0
    np.testing.assert_array_equal(found.outputs[0][0], found.outputs[0][2])


def test_a_matrix_whose_exponential_has_grown_and_shrunk_is_left_to_derivatives() -> None:
    """Its estimate holds, and it does not change the answers beside it."""
    rng = np.random.default_rng(3)
    grown = np.diag([-1.0, -2.0, -3.0]) + np.triu(60 * rng.standard_normal((3, 3)), 1)
    usual = rng.standard_normal((3, 3))

    found = answer("exp", {"a": np.stack([usual, grown])}, structure="general")
    alone = answer("exp", {"a": usual}, structure="general")

    assert _error(found.outputs[0][1], _truth(grown)) <= estimate_of(found, 1)
    np.testing.assert_array_equal(found.outputs[0][0], alone.outputs[0])


@pytest.mark.parametrize("keywords", [{}, {"structure": "general"}])
def test_only_what_leaves_the_range_is_refused(keywords: dict[str, str]) -> None:
    """Of large matrices with positive, negative and mixed eigenvalues each is judged by its own exponential."""
    rng = np.random.default_rng(1)
    q = _orthogonal(rng, 20)
    ends = ((900.0, 0.0), (-900.0, 0.0), (-710.0, -650.0), (700.0, 690.0))
    spectra = [np.linspace(first, last, 20) for first, last in ends]
    a = np.stack([q * w @ q.T for w in spectra])

    found = answer("exp", {"a": (a + a.swapaxes(1, 2)) / 2}, on_failure="nan", **keywords)

    assert found.certificates[0].code == "out_of_range"
    assert found.certificates[1].outcome == "converged"
    for item in range(1, 4):
        truth = _truth((a[item] + a[item].T) / 2)
        assert _error(found.outputs[0][item], truth) <= estimate_of(found, item)


def test_a_tolerance_below_the_bound_goes_to_eigenvalues() -> None:
    """What the bound of products does not meet is computed again, and the certificate names both methods."""
    a = SYMMETRIC["indefinite"](np.random.default_rng(2), 24)

    found = answer("exp", {"a": (a + a.T) / 2}, tol=1e-15, on_failure="nan")

    assert found.certificates[0].error_estimate is not None
    assert _error(found.outputs[0], _truth((a + a.T) / 2)) <= found.certificates[0].error_estimate


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_asymmetry_is_said_by_products_too(dtype: str) -> None:
    """A matrix that is further from its transpose than a symmetric computation leaves is answered, approximately."""
    a = np.add(*[np.random.default_rng(0).standard_normal((5, 5))] * 2).astype(dtype)
    a = a + a.T
    a[0, 1] += a.dtype.type(16 * np.finfo(dtype).eps * np.linalg.norm(a.astype(float)))

    certificate = answer("exp", {"a": a}, tol=1e-2, method="scaling_squaring").certificates[0]

    assert certificate.outcome == "approximate"


def test_the_method_serves_real_symmetric_matrices_alone() -> None:
    """Complex ones have no products in C."""
    with pytest.raises(Rejection) as caught:
        answer("exp", {"a": np.eye(3, dtype=complex)}, method="scaling_squaring")

    assert caught.value.code == "invalid_parameter"
