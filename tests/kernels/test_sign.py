"""Matrix signs and spectral projectors against 60-digit truth, and where they are undefined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import scipy.linalg

from evaluating import EPS, Array, answer
from honesty import assert_covered
from spectra import orthogonal

if TYPE_CHECKING:
    from matfn_kernels.contract.certificate import Certificate

RNG = np.random.default_rng(20)
ORDER = 8


def _similar(values: Array, condition: float) -> Array:
    """A matrix with these eigenvalues, or with this block as its form, and eigenvectors of that condition."""
    order = len(values)
    basis = orthogonal(RNG, order, order) * np.geomspace(1, 1 / condition, order) @ orthogonal(RNG, order, order)
    return np.asarray(basis @ (np.diag(values) if values.ndim == 1 else values) @ np.linalg.inv(basis))


def _rotation(real: float, imaginary: float) -> Array:
    return np.array([[real, imaginary], [-imaginary, real]])


def _near_axis(distance: float) -> Array:
    blocks = (_rotation(distance, 1), _rotation(-1, 2), _rotation(0.5, 0.1), _rotation(-distance, 0.3))
    return _similar(scipy.linalg.block_diag(*blocks), 5.0)


MIXED = np.array([1, 2, -3, -0.5, 0.1, -1.5, 4, -0.01])
GALLERY: dict[str, Array] = {
    "gauss": RNG.standard_normal((ORDER, ORDER)),
    **{f"mixed {c:g}": _similar(MIXED, c) for c in (10.0, 1e3, 1e5)},
    **{f"near the axis {d:g}": _near_axis(d) for d in (1e-2, 1e-5, 1e-8, 1e-11, 1e-13)},
    **{f"involution {c:g}": _similar(np.repeat([1.0, -1.0], 4), c) for c in (10.0, 1e3, 1e5)},
    "jordan": 0.1 * np.eye(ORDER) + np.eye(ORDER, k=1),
    "jordan, mixed": np.diag([0.1] * 4 + [-0.1] * 4) + np.eye(ORDER, k=1),
    "jordan, near the axis": np.kron(np.eye(4), _rotation(1e-3, 1)) + np.eye(ORDER, k=2),
    "signed hilbert": np.diag([1, -1] * 4) @ scipy.linalg.hilbert(ORDER),
    "hilbert": scipy.linalg.hilbert(ORDER),
    "pascal": scipy.linalg.pascal(ORDER).astype(float),
    "grcar": sum(np.eye(ORDER, k=k) for k in range(4)) - np.eye(ORDER, k=-1),
    "frank": np.minimum.outer(np.arange(1.0, 9), np.arange(1.0, 9)) * np.triu(np.ones((ORDER, ORDER)), -1),
    "companion": scipy.linalg.companion(np.poly([1, 2, 3, -4, -5, 0.5, -0.2, 7])),
    "vandermonde": np.vander(np.linspace(-1, 1, ORDER)),
    "graded": 10.0 ** -np.arange(ORDER)[:, None] * RNG.standard_normal((ORDER, ORDER)),
    "one": np.array([[-3.0]]),
}
RANK_5 = RNG.standard_normal((ORDER, 5)) @ RNG.standard_normal((5, ORDER))


def _sign(a: Array) -> Any:
    """The sign by Newton's iteration in 90 digits."""
    with mpmath.workdps(90):
        x = mpmath.matrix(a.astype(float).tolist())
        for _ in range(400):
            new = (x + x**-1) / 2
            change = mpmath.mnorm(new - x, "f") / mpmath.mnorm(new, "f")
            x = new
            if change < mpmath.mpf(10) ** -60:
                return x
    raise AssertionError("the sign is undefined")


def _error(x: Array, truth: Any) -> float:
    with mpmath.workdps(60):
        difference = mpmath.mnorm(mpmath.matrix(x.astype(float).tolist()) - truth, "f")
        return float(difference / mpmath.mnorm(truth, "f"))


def _check(error: float, certificate: Certificate, dtype: str) -> None:
    """An error is within its estimate and within 50 eps kappa, and an answer without estimate says so."""
    if certificate.error_estimate is None:
        assert certificate.outcome == "approximate"
        assert certificate.hint is not None
        assert "no error estimate" in certificate.hint
        return
    assert certificate.condition is not None
    assert_covered(error, [certificate])
    assert error <= 50 * EPS[dtype] * certificate.condition


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GALLERY)
def test_sign_is_within_its_estimate(name: str, dtype: str) -> None:
    """Near-imaginary, Jordan-like and involutory matrices: the error is known, or said not to be."""
    a = GALLERY[name].astype(dtype)

    found = answer("mcsgn", {"a": a[None]})

    assert found.outputs[0].dtype == dtype
    assert np.isfinite(found.outputs[0]).all()
    _check(_error(found.outputs[0][0], _sign(a)), found.certificates[0], dtype)


@pytest.mark.parametrize("name", ["mixed 1000", "mixed 100000", "involution 1000", "involution 100000"])
def test_estimates_of_skew_signs_are_near_their_errors(name: str) -> None:
    """A sign of norm up to 1e5 has an estimate below 1000 times its error, if that is above eps."""
    a = GALLERY[name]

    found = answer("mcsgn", {"a": a[None]}, method="newton_schur")

    estimate = found.certificates[0].error_estimate
    assert estimate is not None
    assert estimate < 1000 * max(_error(found.outputs[0][0], _sign(a)), EPS["float64"])


@pytest.mark.parametrize("name", ["gauss", "near the axis 1e-08", "involution 1000", "companion", "one"])
def test_good_problems_converge(name: str) -> None:
    """Where the sign is well conditioned the certificate does not hesitate, however near the axis eigenvalues are."""
    certificate = answer("mcsgn", {"a": GALLERY[name][None]}).certificates[0]

    assert certificate.outcome == "converged"
    assert certificate.steps <= 50


@pytest.mark.parametrize("half", ["right", "left"])
@pytest.mark.parametrize(
    "name", ["gauss", "mixed 1000", "near the axis 1e-08", "companion", "hilbert", "pascal", "one"]
)
def test_projectors_are_within_their_estimate(name: str, half: str) -> None:
    """(I + S) / 2 and (I - S) / 2, zero to the last bit where no eigenvalue is in the half plane, with their rank."""
    a = GALLERY[name]
    values = np.linalg.eigvals(a).real
    rank = int((values > 0).sum() if half == "right" else (values < 0).sum())

    found = answer("spectral_projector", {"a": a[None]}, half=half)

    assert found.certificates[0].rank == rank
    if rank == 0:
        assert not found.outputs[0].any()
        return
    truth = (mpmath.eye(len(a)) + (1 if half == "right" else -1) * _sign(a)) / 2
    _check(_error(found.outputs[0][0], truth), found.certificates[0], "float64")


@pytest.mark.parametrize("function", ["mcsgn", "spectral_projector"])
@pytest.mark.parametrize("a", [np.zeros((3, 3)), np.zeros((1, 1)), _rotation(0, 2), np.diag([1.0, 0, -1])])
def test_undefined_signs_fail_alone(function: str, a: Array) -> None:
    """An eigenvalue on the imaginary axis fails its own matrix with sign_undefined."""
    inputs = {"a": np.stack([np.eye(len(a)), a])}

    found = answer(function, inputs, on_failure="nan")

    assert [c.code for c in found.certificates] == [None, "sign_undefined"]
    np.testing.assert_array_equal(found.outputs[0][0], np.eye(len(a)))
    assert np.isnan(found.outputs[0][1]).all()


def test_rank_deficient_sign_has_no_estimate() -> None:
    """A rank-deficient nonsymmetric matrix has no sign: it is refused, or has no estimate where rounding hides it."""
    certificate = answer("mcsgn", {"a": RANK_5[None]}, on_failure="nan").certificates[0]

    assert (certificate.outcome, certificate.code) in {("approximate", "not_converged"), ("failed", "sign_undefined")}
    assert certificate.error_estimate is None


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float64", 1e300), ("float64", 1e-300), ("float32", 1e35), ("float32", 1e-35)]
)
def test_scale_does_not_matter(dtype: str, scale: float) -> None:
    """The sign of c A is that of A up to the ends of the dtype's range, and the input is not written."""
    a = (GALLERY["gauss"] * scale).astype(dtype)
    kept = a.copy()

    found = answer("mcsgn", {"a": a[None]})

    assert found.certificates[0].outcome == "converged"
    assert np.abs(found.outputs[0][0] - _sign_of_gauss()).max() < 1e-5
    np.testing.assert_array_equal(a, kept)


def _sign_of_gauss() -> Array:
    return np.asarray(answer("mcsgn", {"a": GALLERY["gauss"][None]}).outputs[0][0])


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0)])
def test_empty_matrices_have_empty_signs(shape: tuple[int, ...]) -> None:
    """No matrices and empty matrices are answered."""
    assert answer("mcsgn", {"a": np.zeros(shape)}).outputs[0].shape == shape


_FAR: dict[str, tuple[Array, Array]] = {
    "diagonal": (np.diag([1e-200, -1e200]), np.diag([1.0, -1.0])),
    "three scales": (np.diag([-1e-300, 1.0, 1e300]), np.diag([-1.0, 1.0, 1.0])),
    "triangle": (np.array([[1e-200, 1.0], [0.0, -1e200]]), np.array([[1.0, 2e-200], [0.0, -1.0]])),
    "lower triangle": (np.array([[-1e20, 0.0], [1.0, 1e-20]]), np.array([[-1.0, 0.0], [2e-20, 1.0]])),
    "one sign": (np.array([[1e-200, 1e100], [0.0, 1e200]]), np.eye(2)),
    "two parts": (
        np.kron(np.diag([1e-150, -1e150]), np.array([[0.0, 1.0], [4.0, 0.0]])),
        np.kron(np.diag([1.0, -1.0]), np.array([[0.0, 0.5], [2.0, 0.0]])),
    ),
    "states in other units": (
        np.array([[0.0, 1e150], [4e-150, 0.0]]),
        np.array([[0.0, 0.5e150], [2e-150, 0.0]]),
    ),
}


@pytest.mark.parametrize("name", _FAR)
def test_parts_of_very_different_size_have_their_signs(name: str) -> None:
    """What rounds to 0 beside a larger part has a sign by itself, within its estimate."""
    a, exact = _FAR[name]

    found = answer("mcsgn", {"a": a})

    np.testing.assert_allclose(found.outputs[0], exact, rtol=1e-14)
    assert found.certificates[0].outcome == "converged"
    projector = answer("spectral_projector", {"a": a}, half="right")
    np.testing.assert_allclose(projector.outputs[0], (np.eye(len(a)) + exact) / 2, rtol=1e-14)


@pytest.mark.parametrize("a", [np.diag([0.0, 1e200]), np.kron(np.diag([1e-200, 1.0]), [[0.0, 1.0], [-1.0, 0.0]])])
def test_no_scale_gives_an_imaginary_eigenvalue_a_sign(a: Array) -> None:
    """A part without a sign leaves the whole without one, and the refusal speaks of rounding."""
    found = answer("mcsgn", {"a": a}, on_failure="nan")

    assert found.certificates[0].code == "sign_undefined"
    assert "rounding" in (found.certificates[0].hint or "")
