"""Exponentials, logarithms and powers of matrices without symmetry, against 60 digits and by their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath as mp
import numpy as np
import pytest
import scipy.linalg

from evaluating import EPS, Array, answer
from gallery import ANY
from honesty import assert_covered, assert_honest, estimate_of
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.reference import relative_error
from spectra import orthogonal

if TYPE_CHECKING:
    from collections.abc import Callable

GENERAL: dict[str, Any] = {"structure": "general"}
DTYPES = ("float32", "float64", "complex64", "complex128")


def _turned(a: Array, seed: int = 0) -> Array:
    q = orthogonal(np.random.default_rng(seed), len(a), len(a))
    return np.asarray(q @ a @ q.T)


def _skew(n: int) -> Array:
    a = np.random.default_rng(n).standard_normal((n, n))
    return np.asarray(a - a.T)


def _oblique(values: Array, condition: float, seed: int = 1) -> Array:
    """A matrix with these eigenvalues in a basis of that condition number."""
    rng, n = np.random.default_rng(seed), len(values)
    left, right = orthogonal(rng, n, n), orthogonal(rng, n, n)
    basis = (left * condition ** -np.linspace(0, 1, n)) @ right
    return np.asarray((basis * values) @ np.linalg.inv(basis))


def _pairs(*values: complex) -> Array:
    """A real matrix with these eigenvalues and their conjugates."""
    return np.asarray(scipy.linalg.block_diag(*([[z.real, z.imag], [-z.imag, z.real]] for z in map(complex, values))))


def _jordan(value: float, n: int, above: float = 1.0) -> Array:
    return np.asarray(value * np.eye(n) + above * np.eye(n, k=1))


EXPONENTS: dict[str, Array] = {
    "zero": np.zeros((3, 3)),
    "number": np.array([[-1.5]]),
    "diagonal": np.diag([-50.0, -1.0, 0.0, 3.0]),
    "triangular": np.triu(np.random.default_rng(0).standard_normal((6, 6))),
    "nilpotent": 1e3 * np.eye(5, k=1),
    "turned nilpotent": _turned(10 * np.eye(5, k=1)),
    "companion": ANY["companion"],
    "grcar": ANY["grcar"],
    "skew": 20 * _skew(7),
    "stiff": _oblique(-(10.0 ** np.linspace(-2, 2.5, 6)), 10.0),
    "oblique": _oblique(np.linspace(-1, 1, 6), 1e3),
    "overscaled": np.array([[1.0, 1e6], [0.0, -1.0]]),
    "turned overscaled": _turned(np.array([[1.0, 1e3], [0.0, -1.0]])),
    "badly scaled": np.array([[1.0, 1e6, 0], [1e-6, 2.0, 1e-3], [0, 10.0, -1.0]]),
    "tiny": 1e-200 * ANY["grcar"],
    "whole numbers": np.arange(9.0).reshape(3, 3) - 4,
}
REGULAR: dict[str, Array] = {
    "number": np.array([[2.0]]),
    "diagonal": np.diag([1e-4, 1.0, 1e4]),
    "triangular": np.triu(np.ones((5, 5)), 1) + np.diag([1.0, 1e-3, 2.0, 3.0, 1e3]),
    "close": np.eye(5) + 1e-9 * np.random.default_rng(3).standard_normal((5, 5)),
    "rotation": np.array([[np.cos(3.0), np.sin(3.0)], [-np.sin(3.0), np.cos(3.0)]]),
    "jordan": _turned(_jordan(0.5, 4)),
    "grcar": ANY["grcar"],
    "companion": ANY["companion"],
    "kahan": ANY["kahan"],
    "clustered": ANY["clustered"],
    "oblique": _oblique(np.geomspace(0.01, 10, 6), 1e2),
    "pairs": _turned(_pairs(1 + 2j, -1 + 0.5j, 0.1j)),
    "near the axis": _turned(_pairs(-1 + 1e-3j, -2 + 0.1j)),
    "large": 1e200 * ANY["grcar"],
    "small": 1e-200 * ANY["grcar"],
}
POWERS = (0.5, -0.5, 1 / 3, 0.999, 1e-9, 2.5, -3.3, 11.7)
WHOLE = (0, 1, 2, 3, 7, -1, -2, -5)


def _plain(x: Any, like: Array) -> Array:
    found = np.array([[complex(x[i, j]) for j in range(x.cols)] for i in range(x.rows)])
    return found if np.iscomplexobj(like) else found.real


def _exact(a: Array) -> Any:
    return mp.matrix(a.astype(complex).tolist())


def _through_eigenvectors(a: Array, f: Callable[[Any], Any]) -> Any:
    """F of a matrix whose eigenvalues a change of the 80th digit has made simple."""
    noise = mp.matrix(np.random.default_rng(0).standard_normal(a.shape).tolist())
    values, vectors = mp.eig(_exact(a) + mp.mpf(10) ** -80 * mp.mpf(float(np.abs(a).max())) * noise)
    return vectors * mp.diag([f(value) for value in values]) * mp.inverse(vectors)


def _truth(a: Array, f: Callable[[Any], Any]) -> Array:
    """F of A by 160 digits."""
    with mp.workdps(160):
        return _plain(_through_eigenvectors(a, f), a)


def _exponential(a: Array, t: float = 1.0) -> Array:
    """E^(t A) by the series in 400 digits."""
    with mp.workdps(400):
        return _plain(mp.expm(mp.mpf(t) * _exact(a), method="taylor"), a)


def _check(function: str, a: Array, truth: Array, outcome: str = "converged", **keywords: Any) -> None:
    """The error is within the estimate, and the outcome as expected."""
    found = answer(function, {"a": a}, **GENERAL, **keywords)
    (certificate,) = found.certificates
    unit = np.abs(truth).max() or 1.0
    wide = found.outputs[0].astype(np.result_type(truth, np.float64))

    assert_covered(relative_error(wide / unit, truth / unit), found.certificates)
    assert found.outputs[0].dtype == a.dtype
    assert certificate.outcome == outcome
    assert (certificate.condition or 0) >= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(EXPONENTS))
def test_exponentials_are_within_their_estimates(name: str, dtype: str) -> None:
    """In every dtype, of matrices that are hard to scale too."""
    single = dtype in {"float32", "complex64"}
    a = (np.clip(EXPONENTS[name], -80, 80) if single else EXPONENTS[name]).astype(dtype)  # in the range of the dtype

    _check("exp", a, _exponential(a))


@pytest.mark.parametrize("t", [0.0, -2.0, 1e-3, 7.5])
def test_exponentials_take_a_factor(t: float) -> None:
    """T A is rounded to float64, which the estimate counts."""
    a = ANY["grcar"]

    found = answer("exp", {"a": a}, t=t, **GENERAL)

    assert_honest(found, _exponential(a, t))


def test_an_exponential_over_the_range_is_said_of_its_matrix() -> None:
    """One matrix of a batch overflows in its dtype, and the others are answered."""
    a = np.stack([np.eye(2), 100 * np.eye(2), np.array([[0.0, 1], [-1, 0]])]).astype("float32")

    found = answer("exp", {"a": a}, on_failure="nan", **GENERAL)

    assert [certificate.code for certificate in found.certificates] == [None, "out_of_range", None]
    assert np.isnan(found.outputs[0][1]).all()
    assert np.isfinite(found.outputs[0][[0, 2]]).all()
    with pytest.raises(Rejection) as caught:
        answer("exp", {"a": 1e5 * np.eye(2)}, **GENERAL)
    assert caught.value.code == "out_of_range"


@pytest.mark.parametrize("a", [-1e30 * np.eye(2), 1e30 * (np.eye(2, k=1) - np.eye(2, k=-1))])
def test_an_exponential_that_no_squaring_reaches_has_no_answer(a: Array) -> None:
    """Nothing is claimed of it, and no range is named that it would leave."""
    certificate = answer("exp", {"a": a}, on_failure="nan", **GENERAL).certificates[0]

    assert (certificate.outcome, certificate.code) == ("failed", "not_converged")


def test_an_exponential_of_a_huge_nilpotent_matrix_is_its_series() -> None:
    """E^A = I + A, of which no estimate is given where the condition number leaves no digit."""
    found = answer("exp", {"a": 1e100 * np.eye(2, k=1)}, **GENERAL)

    np.testing.assert_array_equal(found.outputs[0], np.array([[1, 1e100], [0, 1]]))
    assert found.certificates[0].error_estimate is None


def test_an_exponential_below_the_range_has_its_loss_in_the_estimate() -> None:
    """What underflows is zero, and no digit of it is claimed."""
    certificate = answer("exp", {"a": -1e4 * np.eye(2)}, **GENERAL).certificates[0]

    assert certificate.outcome == "approximate"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(REGULAR))
def test_logarithms_are_within_their_estimates(name: str, dtype: str) -> None:
    """In every dtype, real of real matrices, near and far from the identity and from the axis."""
    a = REGULAR[name]
    if dtype in {"float32", "complex64"}:
        a = a / 2.0 ** max(0, np.log2(np.abs(a).max()) - 60) if np.abs(a).max() > 1 else np.where(a, a, 0)
        a = a * 2.0**600 if np.abs(a).max() < 1e-30 else a
    a = a.astype(dtype)

    _check("log", a, _truth(a, mp.log))


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("name", sorted(set(REGULAR) - {"large", "small"}))
@pytest.mark.sampled(3)
def test_powers_are_within_their_estimates(name: str, p: float) -> None:
    """Of either sign, fractions near 0 and 1 among them."""
    a = REGULAR[name]
    truth = _truth(a, lambda value: mp.power(value, mp.mpf(p)))

    found = answer("power", {"a": a}, p=p, **GENERAL)

    assert_covered(relative_error(found.outputs[0], truth), found.certificates)
    assert np.isrealobj(found.outputs[0])


@pytest.mark.parametrize("p", WHOLE)
@pytest.mark.parametrize("name", sorted(EXPONENTS))
@pytest.mark.sampled(3)
def test_whole_powers_are_those_of_numpy(name: str, p: int) -> None:
    """Whatever the spectrum: only inverses need a nonsingular matrix."""
    a = EXPONENTS[name]
    if p < 0 and name in {"zero", "diagonal", "nilpotent", "whole numbers"}:
        with pytest.raises(Rejection) as caught:
            answer("power", {"a": a}, p=p, **GENERAL)
        assert caught.value.code == "singular"
        return
    if name == "tiny":
        a = a * 1e195  # in the range of its powers

    found = answer("power", {"a": a}, p=p, **GENERAL)

    with mp.workdps(120):
        truth = _plain(_exact(a) ** p, a)
    assert_covered(relative_error(found.outputs[0], truth), found.certificates, estimated=range(2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_zero_and_one_are_exact(dtype: str) -> None:
    """A^0 is I and A^1 is A, bit for bit, of singular matrices too."""
    a = (np.arange(9.0).reshape(3, 3) / 7).astype(dtype)

    np.testing.assert_array_equal(answer("power", {"a": a}, p=1, **GENERAL).outputs[0], a)
    np.testing.assert_array_equal(answer("power", {"a": a}, p=0, **GENERAL).outputs[0], np.eye(3))


def test_powers_of_whole_numbers_are_exact() -> None:
    """As numpy's matrix_power of integers is."""
    a = np.array([[1, 1], [1, 0]])

    found = answer("power", {"a": a.astype(float)}, p=60, **GENERAL)

    np.testing.assert_array_equal(found.outputs[0], np.linalg.matrix_power(a, 60))


@pytest.mark.parametrize("p", [0.5, -1.5, 3.0, -2.0])
def test_powers_multiply_from_the_left(p: float) -> None:
    """G A^p, with the estimate of the product."""
    a, g = REGULAR["pairs"], np.random.default_rng(5).standard_normal((2, 6))

    found = answer("power", {"a": a, "g": g}, p=p, **GENERAL)

    assert_honest(found, g @ _truth(a, lambda value: mp.power(value, mp.mpf(p))), slack=1e-15)


@pytest.mark.parametrize(("function", "keywords"), [("log", {}), ("power", {"p": 0.5}), ("power", {"p": -0.3})])
@pytest.mark.parametrize("a", [np.diag([1.0, -1.0]), _turned(np.diag([1.0, 2.0, -3.0])), -np.eye(3)])
def test_the_negative_axis_is_refused(function: str, keywords: dict[str, Any], a: Array) -> None:
    """A negative eigenvalue has no principal logarithm or power; the hint asks what may be meant."""
    with pytest.raises(Rejection) as caught:
        answer(function, {"a": a}, **keywords, **GENERAL)

    assert caught.value.code == "not_positive"
    assert "is the matrix symmetric?" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("function", "keywords"), [("log", {}), ("power", {"p": -0.5}), ("power", {"p": -1}), ("power", {"p": -4})]
)
@pytest.mark.parametrize("a", [np.zeros((2, 2)), np.ones((3, 3)), np.eye(4, k=1), np.arange(1.0, 10).reshape(3, 3)])
def test_singular_matrices_are_refused(function: str, keywords: dict[str, Any], a: Array) -> None:
    """Whatever rounding makes of them."""
    with pytest.raises(Rejection) as caught:
        answer(function, {"a": a}, **keywords, **GENERAL)

    assert caught.value.code == "singular"


def test_a_semisimple_zero_has_positive_powers() -> None:
    """The power is 0 on the kernel, and that of the rest beside it; a Jordan block at 0 has none."""
    basis = np.array([[1.0, 2, 0], [0, 1, 3], [1, 0, 1]])
    a = basis @ np.diag([4.0, 9.0, 0.0]) @ np.round(7 * np.linalg.inv(basis))

    found = answer("power", {"a": a}, p=1.5, **GENERAL)

    values = np.array([28.0, 63.0, 0.0])
    assert_honest(found, (basis * values**1.5) @ np.linalg.inv(basis), slack=1e-14)
    with pytest.raises(Rejection) as caught:
        answer("power", {"a": np.eye(2, k=1)}, p=0.5, **GENERAL)
    assert caught.value.code == "not_positive"


@pytest.mark.parametrize(("function", "keywords"), [("log", {}), ("power", {"p": 0.7}), ("power", {"p": -2})])
def test_dampings_and_shifts_are_added(function: str, keywords: dict[str, Any]) -> None:
    """Relative to the spectral radius, or as a number; the certificate says what was added."""
    a = np.diag([4.0, -1.0]) + np.eye(2, k=1)

    damped = answer(function, {"a": a}, damping=0.5, **keywords, **GENERAL)
    shifted = answer(function, {"a": a}, shift=2.0, **keywords, **GENERAL)
    plain = answer(function, {"a": a + 2 * np.eye(2)}, **keywords, **GENERAL)

    assert damped.certificates[0].shift == pytest.approx(2)
    assert shifted.certificates[0].shift == 2
    for found in (damped, shifted):
        assert relative_error(found.outputs[0], plain.outputs[0]) < 1e-14


def test_a_logarithm_undoes_an_exponential() -> None:
    """E^(log A) = A, and log(e^A) = A where the spectrum is in the strip of the principal branch."""
    a = REGULAR["pairs"]
    log = answer("log", {"a": a}, **GENERAL).outputs[0]

    assert relative_error(answer("exp", {"a": log}, **GENERAL).outputs[0], a) < 1e-13
    back = answer("log", {"a": answer("exp", {"a": log}, **GENERAL).outputs[0]}, **GENERAL).outputs[0]
    assert relative_error(back, log) < 1e-13


@pytest.mark.parametrize("function", ["log", "exp", "power"])
def test_a_symmetric_matrix_has_the_same_answer_either_way(function: str) -> None:
    """The declared structure changes the way, not the answer."""
    a = ANY["grcar"] @ ANY["grcar"].T / 8
    keywords = {"p": 0.3} if function == "power" else {}

    general = answer(function, {"a": a}, **keywords, **GENERAL).outputs[0]

    assert relative_error(general, answer(function, {"a": a}, **keywords).outputs[0]) < 1e-12


@pytest.mark.parametrize(
    ("function", "keywords"), [("log", {}), ("exp", {}), ("power", {"p": 0.5}), ("power", {"p": 3})]
)
def test_lower_precisions_are_refused(function: str, keywords: dict[str, Any]) -> None:
    """They are computed in float64 only, which a rejection says."""
    with pytest.raises(Rejection) as caught:
        answer(function, {"a": np.eye(2)}, precision="fp32", **keywords, **GENERAL)

    assert caught.value.code == "invalid_parameter"


@pytest.mark.parametrize("keywords", [{"p": 0.5}, {"p": 2}])
def test_the_pseudo_inverse_power_is_refused(keywords: dict[str, Any]) -> None:
    """damping="range" belongs to symmetric matrices."""
    with pytest.raises(Rejection) as caught:
        answer("power", {"a": np.eye(2)}, damping="range", **keywords, **GENERAL)

    assert caught.value.code == "invalid_parameter"


@pytest.mark.parametrize("order", [2, 9])
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6])
def test_oblique_bases_are_covered(order: int, condition: float) -> None:
    """Estimates of exponentials hold the error where squaring loses more than the condition number says."""
    rng = np.random.default_rng(order)
    a = np.stack([_oblique(rng.standard_normal(order) * 3, condition, seed) for seed in range(6)])

    found = answer("exp", {"a": a}, **GENERAL)

    for item in range(len(a)):
        value, truth = found.outputs[0][item], _exponential_by_digits(a[item])
        assert_covered(relative_error(value, truth), found.certificates[item : item + 1], estimated=range(2))


def _exponential_by_digits(a: Array) -> Array:
    """E^A by scaling and squaring of 100 digits."""
    with mp.workdps(100):
        x, bits = _exact(a), 30
        x = x / mp.mpf(2) ** bits
        value = mp.eye(len(a)) + x + x**2 / 2 + x**3 / 6 + x**4 / 24 + x**5 / 120 + x**6 / 720 + x**7 / 5040
        for _ in range(bits):
            value = value * value
        return _plain(value, a)


def test_the_condition_is_that_of_the_function() -> None:
    """Within a factor of three of the norm of the derivative, found column by column."""
    a = REGULAR["pairs"] / 3
    step = 1e-6 * np.linalg.norm(a)

    for function, keywords in (("exp", {}), ("log", {}), ("power", {"p": 0.5}), ("power", {"p": -2})):
        found = answer(function, {"a": a}, **keywords, **GENERAL)
        units = step * np.eye(a.size).reshape(-1, *a.shape)
        ahead, behind = (answer(function, {"a": a + one}, **keywords, **GENERAL).outputs[0] for one in (units, -units))
        columns = ((ahead - behind) / (2 * step)).reshape(a.size, -1)
        true = float(np.linalg.norm(columns, 2) * np.linalg.norm(a) / np.linalg.norm(found.outputs[0]))
        assert true / 3 <= (found.certificates[0].condition or 0) <= 1.1 * max(true, 1)


def test_estimates_are_near_what_a_stable_method_gives() -> None:
    """Of well-conditioned matrices of order 100 the three functions converge, with estimates below 1e-11."""
    rng = np.random.default_rng(0)
    a = np.eye(100) + rng.standard_normal((100, 100)) / 25

    for function, keywords in (("exp", {}), ("log", {}), ("power", {"p": 0.4}), ("power", {"p": -3})):
        found = answer(function, {"a": a}, **keywords, **GENERAL)
        assert found.certificates[0].outcome == "converged"
        assert estimate_of(found) < 1e-11
        assert EPS["float64"] <= estimate_of(found)
