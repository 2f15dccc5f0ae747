"""Roots of matrices without symmetry against 60 digits, and the matrices that have none."""

from __future__ import annotations

from typing import Any, TypeAlias

import mpmath as mp
import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from evaluating import EPS, answer
from honesty import assert_covered, assert_honest, estimate_of
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.numbers.modular import is_singular
from matfn_kernels.reference import relative_error
from spectra import orthogonal

Array: TypeAlias = NDArray[Any]


def _frank(n: int) -> Array:
    i = np.arange(n)
    return np.triu(n - np.maximum.outer(i, i), -1).astype(np.float64)


def _grcar(n: int) -> Array:
    return np.triu(np.tril(np.ones((n, n)), 3)) - np.eye(n, k=-1)


def _kahan(n: int) -> Array:
    s, c = np.sin(1.2), np.cos(1.2)
    return np.asarray(s ** np.arange(n)[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1)))


def _companion(n: int) -> Array:
    found = np.eye(n, k=-1)
    found[0] = -np.poly(np.arange(1, n + 1))[1:]
    return found


def _near_axis(n: int) -> Array:
    """Eigenvalues e^(i t) up to 2 degrees from the negative axis, in an oblique basis."""
    basis = np.random.default_rng(n).standard_normal((n, n))
    return np.asarray((basis * np.exp(1j * np.linspace(-3.1, 3.1, n))) @ np.linalg.inv(basis))


GALLERY = {
    "frank": _frank(8),
    "grcar": _grcar(9),
    "kahan": _kahan(7),
    "companion": _companion(6),
    "near axis": _near_axis(6),
    "graded": np.diag([1.0, 1e-6, 1e6]) + np.triu(np.ones((3, 3)), 1),
    "rotation": np.array([[0.0, 1.0], [-1.0, 0.0]]),
    "single": np.array([[2.0]]),
}
POWERS = [("root", 2, 1), ("root", 3, 1), ("root", 6, 5), ("inv_root", 1, 1), ("inv_root", 4, 1), ("inv_root", 3, 5)]


def _precise(a: Array, exponent: Any) -> Array:
    """A^exponent by its eigenvectors with 60 digits."""
    with mp.workdps(60):
        values, vectors = mp.eig(mp.matrix(a.tolist()))
        power = vectors * mp.diag([mp.power(value, exponent) for value in values]) * vectors**-1
        return np.array([[complex(power[i, j]) for j in range(power.cols)] for i in range(power.rows)])


@pytest.mark.parametrize("dtype", ["single", "double"])
@pytest.mark.parametrize(("function", "r", "s"), POWERS)
@pytest.mark.parametrize("name", sorted(GALLERY))
def test_general_roots_meet_their_estimates(name: str, function: str, r: int, s: int, dtype: str) -> None:
    """Principal roots of textbook matrices are within 50 eps kappa and within what they certify."""
    kinds = {"single": ("float32", "complex64"), "double": ("float64", "complex128")}[dtype]
    a = GALLERY[name].astype(kinds[np.iscomplexobj(GALLERY[name])])

    found = answer(function, {"a": a}, r=r, s=s, structure="general")

    with mp.workdps(60):
        exponent = mp.mpf(s) / r * (-1 if function == "inv_root" else 1)
    error, certificate = relative_error(found.outputs[0], _precise(a, exponent)), found.certificates[0]
    assert found.outputs[0].dtype == a.dtype
    assert_covered(error, found.certificates)
    assert error <= 50 * EPS[str(a.dtype)] * (certificate.condition or 0)
    assert certificate.outcome == ("approximate" if name == "graded" and function == "inv_root" else "converged")


@pytest.mark.parametrize("exponent", [0.5, -0.5])
def test_jordan_block_has_a_root(exponent: float) -> None:
    """A defective matrix, against the binomial series, which ends."""
    nilpotent, truth = np.eye(6, k=1), np.zeros((6, 6))
    for k in range(6):
        truth += float(mp.binomial(exponent, k)) * 0.5 ** (exponent - k) * np.linalg.matrix_power(nilpotent, k)
    basis = orthogonal(np.random.default_rng(0), 6, 6)

    found = answer(
        "root" if exponent > 0 else "inv_root",
        {"a": basis @ (0.5 * np.eye(6) + nilpotent) @ basis.T},
        r=2,
        structure="general",
    )

    error = relative_error(found.outputs[0], basis @ truth @ basis.T)
    assert_covered(error, found.certificates)
    assert estimate_of(found) < 1e-11


BAD = {
    "simple": np.diag([1.0, -1.0]),
    "minus identity": -np.eye(3),
    "lotkin": np.vstack([np.ones(6), scipy.linalg.hilbert(6)[1:]]),
    "clement": np.diag(np.arange(1.0, 6), 1) + np.diag(np.arange(5.0, 0, -1), -1),
}
DEFECTIVE = {
    "defective": np.array([[-1.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]]),
    "chain of four": np.diag([-1.0] * 4 + [1.0]) + np.diag([1.0] * 3 + [0.0], 1),
}
SINGULAR = {
    "zero": np.zeros((2, 2)),
    "ones": np.ones((3, 3)),
    "nilpotent": np.eye(4, k=1),
    "counting": np.arange(1.0, 10).reshape(3, 3),
    "spread": np.array([[1e-30, 1.0], [1e-30, 1.0]]),
}


def _turned(a: Array) -> Array:
    basis = orthogonal(np.random.default_rng(1), len(a), len(a))
    return np.asarray(basis @ a @ basis.T)


NEARLY_SINGULAR = {
    "hilbert 13": scipy.linalg.hilbert(13),
    "hilbert 20": scipy.linalg.hilbert(20),
    "inverse hilbert": scipy.linalg.invhilbert(13),
    "spread": np.diag([1e300, 1e-300]),
    "turned ones": _turned(SINGULAR["ones"]),
    "turned nilpotent": _turned(SINGULAR["nilpotent"]),
}


def _two_lost(size: float) -> Array:
    """[[P, P K], [size R, size (R K - D)]]: nearly -size D is the spectrum of the small part, and det A > 0."""
    p, k, r = np.array([[2.0, 1], [0, 3]]), np.array([[1.0, 2], [1, 1]]), np.array([[1.0, 1], [1, 2]])
    return np.block([[p, p @ k], [size * r, size * (r @ k - np.diag([1.0, 2.0]))]])


_DOUBLE = _turned(np.diag([-1.0, -1.0, 2.0, 3.0]))
KNOWN_EXACTLY = {
    "diagonal": np.diag([1.0, 2.0, 3.0, -1e-18]),
    "lower triangular": np.array([[-1e-18, 0.0], [1.0, 1.0]]),
    "permuted triangular": np.array([[1.0, 0.0, 5.0], [7.0, -1e-14, 9.0], [0.0, 0.0, 2.0]]),
    "block triangular": np.array([[-1e-18, 0.0, 0.0], [1.0, 1.0, 2.0], [1.0, -1.0, 1.0]]),
    "spread": np.diag([1e300, -1e-300]),
    "complex": np.diag([1.0 + 1j, -1e-18]),
    "negative determinant": np.array([[1e-20, 2e-20], [2.0, 1.0]]),
    "symmetric": (_DOUBLE + _DOUBLE.T) / 2,
    **BAD,
    **DEFECTIVE,
}
OPEN = {
    "turned defective": _turned(DEFECTIVE["defective"]),
    "turned chain": _turned(DEFECTIVE["chain of four"]),
    "turned double": _DOUBLE,
    "half turn": np.array([[np.cos(np.pi), -np.sin(np.pi)], [np.sin(np.pi), np.cos(np.pi)]]),
    "turned small": _turned(np.diag([1.0, 2.0, 3.0, -1e-18])),
    "two lost": _two_lost(1e-20),
}


@pytest.mark.parametrize(("function", "r"), [("root", 2), ("root", 3), ("inv_root", 3)])
@pytest.mark.parametrize("name", sorted(KNOWN_EXACTLY))
def test_negative_axis_is_refused(name: str, function: str, r: int) -> None:
    """A negative eigenvalue, however small, double or defective, that rounding leaves no doubt of."""
    with pytest.raises(Rejection) as caught:
        answer(function, {"a": KNOWN_EXACTLY[name]}, r=r, structure="general")

    assert caught.value.code == "not_positive"
    assert "real and negative" in (caught.value.hint or "")


@pytest.mark.parametrize("function", ["root", "inv_root"])
@pytest.mark.parametrize("name", sorted(BAD))
def test_negative_axis_is_refused_in_another_basis(name: str, function: str) -> None:
    """A negative eigenvalue that no rounding moves off the axis."""
    with pytest.raises(Rejection) as caught:
        answer(function, {"a": _turned(BAD[name])}, r=2, structure="general")

    assert caught.value.code == "not_positive"


@pytest.mark.parametrize(("function", "r"), [("root", 2), ("inv_root", 3)])
@pytest.mark.parametrize("name", sorted(OPEN))
def test_eigenvalues_that_rounding_may_carry_across_the_axis(name: str, function: str, r: int) -> None:
    """Where rounding leaves open whether there is a root the answer is finite, and its condition says so."""
    found = answer(function, {"a": OPEN[name]}, r=r, structure="general")

    certificate = found.certificates[0]
    assert np.isfinite(found.outputs[0]).all()
    assert certificate.outcome == "approximate"
    assert certificate.error_estimate is None
    assert (certificate.condition or 0) * EPS["float64"] > 1e-2


@pytest.mark.parametrize("digits", [10, 20, 25, 30, 35, 40, 44])
@pytest.mark.parametrize("function", ["root", "inv_root"])
def test_a_pair_off_the_axis_is_answered(function: str, digits: int) -> None:
    """-1 +- 2^-digits i, exactly, in an oblique basis of integers: never refused, and never wrong in silence."""
    lower, upper = np.tril(np.arange(1.0, 5)[:, None] - np.arange(4), -1), np.triu(np.arange(4) - 2.0, 1)
    basis = (np.eye(4) + lower) @ (np.eye(4) + upper)
    block = np.diag([-1.0, -1, 1, 2])
    block[0, 1], block[1, 0] = 2.0**-digits, -(2.0**-digits)
    a = basis @ block @ np.linalg.inv(basis).round()

    found = answer(function, {"a": a}, r=2, structure="general")

    certificate = found.certificates[0]
    error = relative_error(found.outputs[0], _precise(a, mp.mpf(0.5 if function == "root" else -0.5)))
    assert np.isfinite(found.outputs[0]).all()
    hopeless = (certificate.condition or 0) * EPS["float64"] > 1e-2
    assert_covered(error, found.certificates, estimated=range(2) if hopeless else 1)


def test_a_determinant_tells_the_sign_of_a_small_eigenvalue() -> None:
    """Alone in being lost beside the largest one it has the sign of the determinant, which scaled rows give."""
    a = np.array([[2e-20, 1e-20], [1.0, 2.0]])

    found = answer("root", {"a": a}, r=2, structure="general")

    assert_honest(found, _precise(a, mp.mpf(0.5)))


def _singular(name: str, dtype: str) -> Array:
    a = SINGULAR[name].astype(dtype)
    return a * np.asarray(1 + 2j, dtype) if dtype.startswith("complex") else a


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("name", sorted(SINGULAR))
def test_inverse_of_a_singular_matrix_is_refused(name: str, dtype: str) -> None:
    """Singular matrices are known as such whatever rounding makes of them."""
    with pytest.raises(Rejection) as caught:
        answer("inv_root", {"a": _singular(name, dtype)}, r=2, structure="general")

    assert caught.value.code == "singular"


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("name", sorted(SINGULAR))
def test_root_of_a_singular_matrix_is_its_principal_root_or_refused(name: str, dtype: str) -> None:
    """The root squares to A, no eigenvalue on the left; one that is negative, or a Jordan block at 0, has no root."""
    a = _singular(name, dtype)
    found = answer("root", {"a": a}, r=2, structure="general", on_failure="nan")
    certificate = found.certificates[0]
    values = np.linalg.eigvals(a.astype(complex))
    if name == "nilpotent" or ((np.abs(values.imag) < 1e-6) & (values.real < -1e-6)).any():
        assert certificate.code == "not_positive"
        return

    x = found.outputs[0].astype(complex)
    assert certificate.error_estimate is not None
    assert relative_error(x @ x, a.astype(complex)) <= 8 * max(certificate.error_estimate, EPS[dtype])
    assert np.linalg.eigvals(x).real.min() >= -1e-5 * np.linalg.norm(x)


@pytest.mark.parametrize(("function", "r"), [("root", 2), ("root", 8), ("inv_root", 1), ("inv_root", 2)])
@pytest.mark.parametrize("name", sorted(NEARLY_SINGULAR))
def test_singular_to_rounding_is_answered_without_an_estimate(name: str, function: str, r: int) -> None:
    """What only rounding calls singular has a finite answer whose condition says how little it is worth."""
    found = answer(function, {"a": NEARLY_SINGULAR[name]}, r=r, structure="general")

    certificate = found.certificates[0]
    assert np.isfinite(found.outputs[0]).all()
    assert certificate.outcome == "approximate"
    assert certificate.error_estimate is None
    assert (certificate.condition or 0) * EPS["float64"] > 1e-2


@pytest.mark.parametrize("exponent", [0, 1000, -1060])
def test_determinants_are_exact(exponent: int) -> None:
    """One unit in the last place of one entry makes a matrix nonsingular, real or complex, at any scale."""
    a = np.ldexp(SINGULAR["counting"], exponent)
    moved = a.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], np.inf)

    assert is_singular(a)
    assert is_singular(a + 2j * a)
    assert not is_singular(moved)
    assert not is_singular(moved + 2j * moved)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_general_root_scales(scale: float, dtype: str) -> None:
    """Entries at either end of the range of float32 cost no digit, with G too."""
    a, g = _grcar(8).astype(dtype), np.random.default_rng(0).standard_normal((3, 8)).astype(dtype)

    found = answer("inv_root", {"a": (a * scale).astype(dtype), "g": g}, r=4, structure="general").outputs[0]

    plain = answer("inv_root", {"a": a, "g": g}, r=4, structure="general").outputs[0]
    assert relative_error(found * np.float64(scale) ** 0.25, plain.astype(np.float64)) < 20 * EPS[dtype]


def test_a_named_precision_has_no_say_in_what_was_sent() -> None:
    """In single precision too a float64 matrix beyond its range has a root, and one below it is not zero."""
    large, small = 1e60 * np.array([[4.0, 1], [0, 9]]), np.diag([1.0, 1e-60])

    found = answer("root", {"a": large}, r=2, structure="general", precision="fp32")
    faint = answer("root", {"a": small}, r=2, structure="general", precision="fp32")

    np.testing.assert_allclose(found.outputs[0], 1e30 * np.array([[2, 0.2], [0, 3]]), rtol=1e-6)
    assert found.certificates[0].outcome == "converged"
    assert faint.certificates[0].outcome == "approximate"
    assert faint.certificates[0].error_estimate is None


def test_damped_root_is_that_of_the_shifted_matrix() -> None:
    """The shift is damping times the spectral radius, and the certificate says how much was added."""
    a = np.diag([4.0, -1.0]) + np.eye(2, k=1)

    found = answer("root", {"a": a}, r=2, structure="general", damping=0.5)

    assert found.certificates[0].shift == pytest.approx(2)
    np.testing.assert_allclose(found.outputs[0] @ found.outputs[0], a + 2 * np.eye(2), atol=1e-14)


def test_pair_is_a_root_and_its_inverse() -> None:
    """Both halves come from one Schur form."""
    x, y = answer("sqrt_pair", {"a": _grcar(10)}, structure="general").outputs

    np.testing.assert_allclose(x @ x, _grcar(10), atol=1e-13)
    np.testing.assert_allclose(x @ y, np.eye(10), atol=1e-13)


def test_symmetric_structure_gives_the_same_root() -> None:
    """On a symmetric matrix the declared structure changes the way, not the answer."""
    a = _grcar(9) @ _grcar(9).T

    general = answer("inv_root", {"a": a}, r=3, structure="general").outputs[0]

    assert relative_error(general, answer("inv_root", {"a": a}, r=3).outputs[0]) < 1e-13


def test_pseudo_inverse_of_a_general_matrix_is_refused() -> None:
    """damping="range" belongs to symmetric matrices."""
    with pytest.raises(Rejection) as caught:
        answer("inv_root", {"a": _grcar(3)}, r=2, structure="general", damping="range")

    assert caught.value.code == "invalid_parameter"


def test_whole_powers_exist_for_every_spectrum() -> None:
    """No root is taken of A^-1 and A^2: negative eigenvalues are no obstacle."""
    a = np.diag([2.0, -4.0]) + np.eye(2, k=1)

    np.testing.assert_allclose(answer("inv_root", {"a": a}, r=1, structure="general").outputs[0], np.linalg.inv(a))
    np.testing.assert_allclose(answer("root", {"a": a}, r=3, s=6, structure="general").outputs[0], a @ a)


@pytest.mark.parametrize("r", [1, 2, 6])
def test_estimate_grows_with_the_order(r: int) -> None:
    """At order 300 rounding adds up to more than at order 10, and the estimate covers it."""
    a = (2 * np.eye(300) + np.random.default_rng(0).standard_normal((300, 300)) / 35).astype("float32")
    exact = answer("inv_root", {"a": a.astype(float)}, r=r, structure="general").outputs[0]

    found = answer("inv_root", {"a": a}, r=r, structure="general", precision="fp32")

    assert_honest(found, exact)
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("scale", [1e8, 1e100, 1e300])
def test_badly_scaled_matrices_say_so(scale: float) -> None:
    """Where float64 cannot solve the equations of the derivative, the answer is finite and the condition tells."""
    certificate = answer("root", {"a": np.array([[1, scale], [1 / scale, 3]])}, r=2, structure="general").certificates[
        0
    ]

    assert certificate.outcome == "approximate"
    assert certificate.error_estimate is None
    assert (certificate.condition or 0) > 1e14
