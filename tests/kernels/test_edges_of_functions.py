"""Logarithms beside the identity, and powers of nilpotent matrices."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import Array, answer
from honesty import assert_covered, estimate_of


def _logarithm(x: Array) -> Array:
    """Log(I + X) in 400 digits by its series, which the smallest X need, rounded."""
    with mpmath.workdps(400):
        small = mpmath.matrix(x.tolist())
        power, found = small, small.copy()
        for k in range(2, 24):
            power = power * small
            found = found - power / k if k % 2 == 0 else found + power / k
        entries = [[found[i, j] for j in range(len(x))] for i in range(len(x))]
        kind = complex if np.iscomplexobj(x) else float
        return np.array([[kind(entry) for entry in row] for row in entries])


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("size", [1e-5, 1e-6, 1e-9, 1e-17, 1e-100, 1e-300, 1e-318])
@pytest.mark.parametrize("structure", ["symmetric", "general"])
def test_logarithms_beside_the_identity_keep_their_digits(structure: str, size: float, *, is_complex: bool) -> None:
    """What A has beside I is what its logarithm is, however small it is."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 3)) + (1j * rng.standard_normal((3, 3)) if is_complex else 0)
    x = x + x.conj().T if structure == "symmetric" else x
    a = np.eye(3) + size / 4 * x
    a = (a + a.conj().T) / 2 if structure == "symmetric" else a

    found = answer("log", {"a": a[None]}, structure=structure)

    truth = _logarithm(a - np.eye(3))
    unit = min(1 / size, 2.0**1000)  # no square of a norm underflows
    error = np.linalg.norm((found.outputs[0][0] - truth) * unit) / np.linalg.norm(truth * unit)
    assert found.certificates[0].outcome == "converged"
    assert_covered(np.array([error]), found.certificates, slack=1e-323 / size)
    assert error < 1e-14


@pytest.mark.parametrize("structure", ["symmetric", "general"])
def test_the_logarithm_of_the_identity_is_zero(structure: str) -> None:
    """Without error, beside matrices that have one."""
    a = np.stack([np.eye(2), np.array([[2.0, 1], [1, 3]]), np.array([[1, 1e-300], [1e-300, 1]])])

    found = answer("log", {"a": a}, structure=structure)

    assert not found.outputs[0][0].any()
    np.testing.assert_array_equal(found.outputs[0][2], a[2] - np.eye(2))
    np.testing.assert_array_equal(found.outputs[0][1], answer("log", {"a": a[1:2]}, structure=structure).outputs[0][0])


def test_a_shifted_identity_has_the_logarithm_of_the_shift() -> None:
    """A shift is added before: the matrix is not beside the identity any more."""
    x = answer("log", {"a": np.eye(2)[None]}, shift=1.0, structure="general").outputs[0][0]

    np.testing.assert_allclose(x, np.log(2) * np.eye(2), rtol=1e-15)


def _strictly_triangular(order: int, seed: int) -> Array:
    """Random numbers above the diagonal, rows and columns permuted alike."""
    rng = np.random.default_rng(seed)
    order_of = rng.permutation(order)
    x = np.triu(rng.standard_normal((order, order)), 1)
    return x[order_of][:, order_of]


_SHEAR = np.array([[1.0, 0, 0, 0], [3, 1, 0, 0], [-2, 5, 1, 0], [1, 0, 4, 1]])
_SHEARED = np.rint(_SHEAR @ np.diag([1.0, 2, 3], 1) @ np.linalg.inv(_SHEAR))
NILPOTENT: dict[str, tuple[Array, int]] = {
    "shift": (np.diag([1.0, 1], 1), 3),
    "permuted": (_strictly_triangular(6, 0), 6),
    "complex": (_strictly_triangular(4, 1) * (1 + 2j), 4),
    "whole numbers": (np.array([[2.0, -1], [4, -2]]), 2),
    "small multiples": (np.array([[2.0, -1], [4, -2]]) * 2.0**-900, 2),
    "sheared": (_SHEARED, 4),
    "sheared, complex": (_SHEARED * 1j, 4),
}


@pytest.mark.parametrize("power", ["index", "more", 64])
@pytest.mark.parametrize("name", NILPOTENT)
def test_powers_of_nilpotent_matrices_vanish(name: str, power: Any) -> None:
    """A^p = 0 from the index on, exactly, and said to be so."""
    a, index = NILPOTENT[name]
    p = {"index": index, "more": index + 1}.get(power, power)

    found = answer("power", {"a": np.stack([a, np.eye(len(a))])}, p=float(p), structure="general")

    assert not found.outputs[0][0].any()
    np.testing.assert_array_equal(found.outputs[0][1], np.eye(len(a)))
    assert [(c.outcome, c.error_estimate) for c in found.certificates[:1]] == [("converged", 0.0)]


@pytest.mark.parametrize("name", NILPOTENT)
def test_powers_below_the_index_do_not(name: str) -> None:
    """The power before is no 0."""
    a, index = NILPOTENT[name]

    x = answer("power", {"a": a[None]}, p=float(index - 1), structure="general", on_failure="nan").outputs[0]

    assert x.any()


def test_products_of_nilpotent_powers_vanish() -> None:
    """G A^p of a nilpotent A is 0 too."""
    found = answer("power", {"a": np.diag([1.0, 1], 1)[None], "g": np.ones((1, 2, 3))}, p=3.0, structure="general")

    assert not found.outputs[0].any()
    assert (found.certificates[0].outcome, found.certificates[0].error_estimate) == ("converged", 0.0)


def test_a_power_that_cancels_by_rounding_is_not_called_zero() -> None:
    """Squares whose computed entries vanish while the exact ones do not have no certificate of being 0."""
    rng = np.random.default_rng(0)
    numbers, factors = rng.random(300), rng.random(300)
    a = np.stack([np.array([[x, -(x * x) / y], [y, -x]]) for x, y in zip(numbers, factors, strict=True)])

    found = answer("power", {"a": a}, p=2.0, structure="general")

    for item, (x, one, certificate) in enumerate(zip(found.outputs[0], a, found.certificates, strict=True)):
        exact = Fraction(one[0, 0]) ** 2 + Fraction(one[0, 1]) * Fraction(one[1, 0])
        if certificate.outcome == "converged" and exact:
            assert abs(Fraction(x[0, 0]) - exact) <= Fraction(estimate_of(found, item)) * abs(exact)
