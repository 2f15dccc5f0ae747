"""Signs and projectors of complex matrices against 60-digit truth, and where they are undefined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest

from evaluating import EPS, Array, answer
from honesty import assert_covered
from spectra import orthogonal

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = 5


def _gaussian(rng: np.random.Generator, *shape: int) -> Array:
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def _similar(rng: np.random.Generator, values: Array, condition: float) -> Array:
    """A matrix with these eigenvalues, and eigenvectors of that condition."""
    order = len(values)
    left, right = (orthogonal(rng, order, order, is_complex=True) for _ in range(2))
    basis = left * np.geomspace(1, 1 / condition, order) @ right
    return np.asarray(basis * values @ np.linalg.inv(basis))


def _gallery() -> Iterator[tuple[str, Array]]:
    rng = np.random.default_rng(3)
    mixed = np.array([1 + 2j, -0.5 + 1j, 0.1 - 3j, -2, 4j + 0.5])
    yield "gauss", _gaussian(rng, ORDER, ORDER)
    for condition in (10.0, 1e3, 1e5):
        yield f"mixed {condition:g}", _similar(rng, mixed, condition)
        yield f"involution {condition:g}", _similar(rng, np.sign(mixed.real) + 0j, condition)
    for distance in (1e-2, 1e-5, 1e-8, 1e-11, 1e-14):
        yield f"near the axis {distance:g}", _similar(rng, np.append(mixed[:3], [distance + 1j, 2j - distance]), 5.0)
    yield "jordan", (0.1 + 1j) * np.eye(ORDER) + np.eye(ORDER, k=1)
    yield "jordan, mixed", np.diag([0.1 + 1j] * 3 + [-0.1 + 1j] * 2) + np.eye(ORDER, k=1)
    yield "graded", 10.0 ** -np.arange(ORDER)[:, None] * _gaussian(rng, ORDER, ORDER)
    yield "triangle", np.triu(_gaussian(rng, ORDER, ORDER)) * 1e3 ** np.arange(ORDER)
    yield "units", (units := 10.0 ** np.arange(ORDER))[:, None] * _gaussian(rng, ORDER, ORDER) / units
    yield "one", np.array([[-3 + 1j]])


GALLERY = dict(_gallery())


def _sign(a: Array) -> Any:
    """The sign by Newton's iteration in 90 digits."""
    with mpmath.workdps(90):
        x = mpmath.matrix(a.astype(complex).tolist())
        for _ in range(400):
            new = (x + x**-1) / 2
            change = mpmath.mnorm(new - x, "f") / mpmath.mnorm(new, "f")
            x = new
            if change < mpmath.mpf(10) ** -60:
                return x
    raise AssertionError("the sign is undefined")


def _error(x: Array, truth: Any) -> float:
    with mpmath.workdps(60):
        difference = mpmath.mnorm(mpmath.matrix(x.astype(complex).tolist()) - truth, "f")
        return float(difference / mpmath.mnorm(truth, "f"))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", GALLERY)
def test_signs_and_projectors_are_within_their_estimates(name: str, dtype: str) -> None:
    """By the planner's choice and by each method, near the axis, defective and badly scaled: or without an estimate."""
    a = GALLERY[name].astype(dtype)
    truth = _sign(a)

    for method in ("auto", "newton", "newton_schur"):
        found = answer("mcsgn", {"a": a[None]}, method=method)
        assert found.outputs[0].dtype == dtype
        assert_covered(_error(found.outputs[0][0], truth), found.certificates, estimated=range(2))
    for half, side in (("right", 1), ("left", -1)):
        projector, exact = (
            answer("spectral_projector", {"a": a[None]}, half=half),
            (mpmath.eye(len(a)) + side * truth) / 2,
        )
        rank = projector.certificates[0].rank
        assert rank == round(float(mpmath.fsum(exact[i, i] for i in range(len(a))).real))
        if rank:
            assert_covered(_error(projector.outputs[0][0], exact), projector.certificates, estimated=range(2))
        else:
            assert not projector.outputs[0].any()


@pytest.mark.parametrize("name", ["gauss", "near the axis 1e-08", "involution 1000", "units", "one"])
def test_good_problems_converge(name: str) -> None:
    """The certificate does not hesitate where the sign is well conditioned, or a change of units makes it so."""
    certificate = answer("mcsgn", {"a": GALLERY[name][None]}).certificates[0]

    assert certificate.outcome == "converged"


@pytest.mark.parametrize("function", ["mcsgn", "spectral_projector"])
@pytest.mark.parametrize("a", [np.zeros((3, 3)), np.array([[2j]]), np.diag([1 + 1j, 1j, -1]), 1j * np.eye(2)])
def test_undefined_signs_fail_alone(function: str, a: Array) -> None:
    """An eigenvalue on the imaginary axis fails its own matrix with sign_undefined, without a conjugate beside it."""
    inputs = {"a": np.stack([np.eye(len(a)), a]).astype(complex)}

    found = answer(function, inputs, on_failure="nan")

    assert [c.code for c in found.certificates] == [None, "sign_undefined"]
    np.testing.assert_array_equal(found.outputs[0][0], np.eye(len(a)))
    assert np.isnan(found.outputs[0][1]).all()


def test_sign_of_a_complex_copy_of_a_real_matrix_is_the_real_one() -> None:
    """Complex arithmetic on real numbers gives the real sign to rounding, and no imaginary part beyond it."""
    a = np.random.default_rng(4).standard_normal((6, 6))

    real, found = (answer("mcsgn", {"a": x[None]}) for x in (a, a.astype(complex)))

    estimate = found.certificates[0].error_estimate
    assert estimate is not None
    assert np.linalg.norm(found.outputs[0] - real.outputs[0]) <= 2 * estimate * np.linalg.norm(real.outputs[0])
    assert estimate < 1e4 * EPS["float64"]
