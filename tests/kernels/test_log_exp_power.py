"""Logarithms, exponentials and real powers of Hermitian matrices, against 60 digits and by their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch

from evaluating import Array, answer
from gallery import DIGITS
from honesty import assert_covered, estimate_of
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.reference import relative_error
from spectra import orthogonal

if TYPE_CHECKING:
    from collections.abc import Callable

N = 6
SPECTRA: dict[str, Array] = {
    "mild": np.linspace(0.5, 2.0, N),
    "spread 1e3": np.geomspace(1e-3, 1, N),
    "spread 1e8": np.geomspace(1e-8, 1, N),
    "clustered": np.array([1, 1 + 1e-9, 1 + 2e-9, 3, 3 + 1e-12, 3 + 1e-7]),
    "repeated": np.array([2.0, 2, 2, 5, 5, 7]),
    "nearly identical": 1 + 1e-5 * np.arange(N),
    "many small": np.array([1.0, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4]),
    "large": 1e3 * np.geomspace(1, 2, N),
}
INDEFINITE: dict[str, Array] = {
    "mixed": np.array([-3.0, -1, -0.5, 0.25, 1, 2]),
    "opposite": np.array([-1.0, -1, -1, 1, 1, 1]),
    "negative": -np.linspace(0.5, 2.0, N),
    "graded": np.array([-1.0, 1e-1, -1e-2, 1e-3, -1e-4, 1e-5]),
}
POWERS = (0.5, -0.5, 1 / 3, 0.3, -2.7, 7.25, -64.0, 63.5)
WHOLE = (2, 3, -1, -2, 5, -7, 64)


def _matrix(values: Array, dtype: str, seed: int = 0) -> Array:
    """A Hermitian matrix with these eigenvalues, but for the rounding of its entries."""
    q = orthogonal(np.random.default_rng(seed), len(values), len(values), is_complex=dtype.startswith("complex"))
    a = (q * values) @ q.conj().T
    return np.asarray((a + a.conj().T) / 2).astype(dtype)


def _truth(a: Array, f: Callable[[Any], Any], shift: float = 0.0) -> Array:
    """F of the Hermitian part of A + shift I, by 60 digits."""
    with mpmath.workdps(DIGITS):
        wide = a.astype(complex)
        exact = mpmath.matrix(wide.tolist()) + shift * mpmath.eye(len(a))
        w, v = mpmath.eighe((exact + exact.H) / 2)
        x = v * mpmath.diag([f(value) for value in w]) * v.H
        found = np.array([[complex(x[i, j]) for j in range(x.cols)] for i in range(x.rows)])
    return found if np.iscomplexobj(a) else found.real


def _f(function: str, keywords: dict[str, Any]) -> Callable[[Any], Any]:
    if function == "log":
        natural: Callable[[Any], Any] = mpmath.log
        return natural
    if function == "exp":
        return lambda w: mpmath.exp(keywords.get("t", 1.0) * w)
    return lambda w: mpmath.power(w, mpmath.mpf(keywords["p"]))


def _check(function: str, a: Array, **keywords: Any) -> None:
    """The error is within the estimate, and the estimate within the tolerance."""
    found = answer(function, {"a": a}, **keywords)
    (certificate,) = found.certificates
    truth = _truth(a, _f(function, keywords), certificate.shift)
    unit = np.abs(truth).max()  # squares of large and small numbers leave the range

    assert_covered(relative_error(found.outputs[0].astype(truth.dtype) / unit, truth / unit), found.certificates)
    assert certificate.outcome == "converged"
    assert (certificate.condition or 0) >= 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("function", ["log", "exp"])
def test_logarithms_and_exponentials_are_within_their_estimates(function: str, name: str, dtype: str) -> None:
    """Of definite matrices in every dtype, whatever their spectrum."""
    values = SPECTRA[name]
    if function == "exp" and name == "large":
        values = values / 50
    if function == "log" and name == "spread 1e8" and dtype in {"float32", "complex64"}:
        values = values ** (5 / 8)  # the smallest is still above rounding

    _check(function, _matrix(values, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("p", POWERS)
@pytest.mark.sampled(3)
def test_powers_are_within_their_estimates(p: float, name: str, dtype: str) -> None:
    """To exponents of either sign, of definite matrices."""
    values = SPECTRA[name]
    if name.startswith("spread") or name in {"many small", "large"}:
        values = values ** min(1.0, 8 / abs(p)) if abs(p) > 1 else values
    if dtype == "float32" or abs(p) > 1:
        values = np.maximum(values, 1e-3 * values.max())
    if abs(p) > 32:
        values = np.clip(values / values.max(), 0.5, 1)  # in the range of the dtype

    _check("power", _matrix(values, dtype), p=p)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("name", INDEFINITE)
@pytest.mark.parametrize("p", WHOLE)
def test_whole_powers_take_indefinite_matrices(p: int, name: str, dtype: str) -> None:
    """As numpy's matrix_power does, inverse powers too."""
    values = INDEFINITE[name]
    if name == "graded" and p < 0:
        values = np.sign(values) * np.abs(values) ** (1 / 4)

    _check("power", _matrix(values, dtype), p=p)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("t", [1.0, -1.0, 0.01, 30.0, -7.5])
@pytest.mark.parametrize("name", INDEFINITE)
def test_exponentials_take_a_factor(name: str, t: float, dtype: str) -> None:
    """e^(t A) of indefinite matrices."""
    _check("exp", _matrix(INDEFINITE[name], dtype), t=t)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize(("function", "keywords"), [("log", {}), ("exp", {}), ("power", {"p": -0.7})])
def test_single_precision_is_measured(function: str, keywords: dict[str, Any], dtype: str) -> None:
    """Computed in float32 the estimate still covers the error."""
    found = answer(function, {"a": (a := _matrix(SPECTRA["mild"], dtype))}, precision="fp32", **keywords)

    assert found.certificates[0].precision == "fp32"
    assert_covered(relative_error(found.outputs[0], _truth(a, _f(function, keywords))), found.certificates)


SKEWED = (
    (1.0000194, 4.365671e-06, -1.7054202e-07),
    (4.365671e-06, 1.0011039, -4.2361276e-05),
    (-1.7054202e-07, -4.2361276e-05, 1.0000211),
)
"""Of which a residual on columns showed less than half of the error."""


@pytest.mark.parametrize("spread", [1e-5, 1e-3, 0.1])
@pytest.mark.parametrize("order", [2, 3, 8])
def test_logarithms_near_the_identity_in_single_precision_are_covered(order: int, spread: float) -> None:
    """Rounding of the eigenvectors moves eigenvalues by that of A, which is much of a small logarithm."""
    rng = np.random.default_rng(order)
    values = 1 + spread * rng.random((40, order)) ** 4
    q = np.stack([orthogonal(rng, order, order) for _ in values])
    a = ((q * values[:, None, :]) @ q.swapaxes(1, 2)).astype(np.float32)
    a = (a + a.swapaxes(1, 2)) / 2
    if order == len(SKEWED):
        a = np.concatenate([a, np.array([SKEWED], np.float32)])
    w, v = np.linalg.eigh(a.astype(np.float64) - np.eye(order))
    exact = (v * np.log1p(w)[:, None, :]) @ v.swapaxes(1, 2)

    found = answer("log", {"a": a}, precision="fp32")

    assert_covered(
        relative_error(found.outputs[0].astype(np.float64), exact),
        found.certificates,
        estimated=range(len(a) + 1),
        slack=1e-9,
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("function", "keywords"), [("log", {}), ("exp", {}), ("power", {"p": 0.3})])
def test_half_precision_is_rounded_once(function: str, keywords: dict[str, Any], dtype: str) -> None:
    """The answer is as near as its dtype allows."""
    a = torch.from_numpy(_matrix(SPECTRA["mild"], "float64")).to(getattr(torch, dtype))
    a = (a + a.mT) / 2

    found = answer(function, {"a": a}, **keywords)

    truth = _truth(a.double().numpy(), _f(function, keywords))
    assert_covered(relative_error(found.outputs[0], truth), found.certificates)
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("p", [0, 1, 2, -1, 0.5, -1.5])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_powers_multiply_a_matrix(p: float, dtype: str) -> None:
    """G A^p, also where G nearly cancels the largest part of it."""
    a = _matrix(np.geomspace(1e-3, 1, N), dtype)
    rows = np.linalg.eigh(a)[1][:, :3].conj().T + 1e-3 * np.random.default_rng(1).standard_normal((3, N))
    g = np.asarray(rows if np.iscomplexobj(a) else rows.real).astype(dtype)

    found = answer("power", {"a": a, "g": g}, p=p)

    truth = g.astype(np.complex128) @ _truth(a, _f("power", {"p": p}))
    assert_covered(relative_error(found.outputs[0], truth), found.certificates, slack=1e-15)
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("p", [0, 1])
def test_first_two_powers_are_exact(p: int) -> None:
    """A^0 is I, and A^1 is A, bit for bit, of singular and indefinite matrices too; G A^0 is G."""
    a = np.stack([_matrix(values, "float64") for values in (*INDEFINITE.values(), np.zeros(N))])
    g = np.random.default_rng(0).standard_normal((2, N))

    found = answer("power", {"a": a}, p=p)

    np.testing.assert_array_equal(found.outputs[0], np.broadcast_to(np.eye(N), a.shape) if p == 0 else a)
    assert [c.error_estimate for c in found.certificates] == [0.0] * len(a)
    if p == 0:
        np.testing.assert_array_equal(answer("power", {"a": a, "g": g}, p=0).outputs[0], np.broadcast_to(g, (5, 2, N)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize(
    ("function", "keywords", "f"),
    [
        ("log", {}, np.log),
        ("exp", {}, np.exp),
        ("exp", {"t": -3.0}, lambda w: np.exp(-3 * w)),
        ("power", {"p": 0.3}, lambda w: w ** np.longdouble(0.3)),
        ("power", {"p": -2}, lambda w: 1 / (w * w)),
    ],
)
def test_diagonal_matrices_have_the_functions_of_their_numbers(
    function: str, keywords: dict[str, Any], f: Callable[[Any], Any], dtype: str
) -> None:
    """To within an ulp, and nothing is off the diagonal; the identity's logarithm is 0."""
    a = np.stack([np.diag([3.0, 1e-4, 1.0, 7.5]), np.eye(4), np.full((4, 4), 0.25) + np.eye(4)]).astype(dtype)

    found = answer(function, {"a": a}, **keywords)

    expected = np.asarray(f(np.diagonal(a, axis1=1, axis2=2)[:2].real.astype(np.longdouble))).astype(dtype)
    diagonal = np.diagonal(found.outputs[0], axis1=1, axis2=2)[:2]
    spacing = 2 * np.finfo(np.dtype(dtype)).eps
    np.testing.assert_allclose(diagonal, expected, rtol=spacing, atol=0)
    assert np.count_nonzero(found.outputs[0][:2] - diagonal[:, :, None] * np.eye(4)) == 0
    assert [c.outcome for c in found.certificates] == ["converged"] * 3


@pytest.mark.parametrize(
    ("function", "keywords", "a", "code"),
    [
        ("log", {}, np.diag([1.0, -1.0]), "not_positive"),
        ("log", {"damping": 0.0}, np.diag([1.0, 0.0]), "singular"),
        ("log", {"damping": 0.0}, np.ones((2, 2)), "singular"),
        ("log", {}, np.zeros((2, 2)), "singular"),
        ("log", {"shift": 0.5}, np.diag([1.0, -1.0]), "not_positive"),
        ("power", {"p": 0.5}, np.diag([1.0, -1.0]), "not_positive"),
        ("power", {"p": -0.5, "damping": 0.0}, np.ones((2, 2)), "singular"),
        ("power", {"p": -1}, np.ones((2, 2)), "singular"),
        ("power", {"p": -1}, np.zeros((2, 2)), "singular"),
        ("power", {"p": -2}, np.array([[1e-200]]), "out_of_range"),
        ("power", {"p": 64}, np.array([[1e6, 0], [0, 1]]), "out_of_range"),
        ("exp", {}, np.diag([710.0, 0.0]), "out_of_range"),
        ("exp", {"t": -1.0}, np.diag([-1e300, 0.0]), "out_of_range"),
        ("exp", {}, np.array([[1.0, 2.0], [0.0, 1.0]]), "not_symmetric"),
        ("log", {}, np.array([[np.nan]]), "not_finite"),
    ],
)
def test_matrices_without_an_answer_are_refused(function: str, keywords: dict[str, Any], a: Array, code: str) -> None:
    """With the code of the cause; the other matrices of the batch keep theirs."""
    eye = np.eye(len(a))

    found = answer(function, {"a": np.stack([eye, a, eye])}, on_failure="nan", **keywords)

    assert [c.code for c in found.certificates] == [None, code, None]
    assert np.isnan(found.outputs[0][1]).all()
    assert np.isfinite(found.outputs[0][::2]).all()


def test_the_range_ends_where_the_dtype_does() -> None:
    """e^A is answered up to the largest number of the dtype, and below the smallest without an estimate."""
    a = np.array([[[88.7]], [[88.8]], [[-87.0]], [[-120.0]]], dtype=np.float32)

    found = answer("exp", {"a": a}, on_failure="nan")

    assert [c.code for c in found.certificates] == [None, "out_of_range", None, "not_converged"]
    np.testing.assert_allclose(found.outputs[0][[0, 2]], np.exp(a[[0, 2]].astype(float)), rtol=1e-7)
    assert found.certificates[3].error_estimate is None


@pytest.mark.parametrize(
    ("function", "keywords"), [("log", {}), ("log", {"damping": 0.1}), ("log", {"shift": 0.5}), ("power", {"p": -0.5})]
)
def test_damping_is_stated_and_answered(function: str, keywords: dict[str, Any]) -> None:
    """A singular matrix has the function of A + shift I with the shift that the certificate states."""
    a = _matrix(np.array([0.0, 0, 1, 2, 3, 4]), "float32")

    found = answer(function, {"a": a}, **keywords)

    (certificate,) = found.certificates
    assert certificate.shift > 0
    assert (certificate.outcome == "approximate") == (not keywords or keywords == {"p": -0.5})
    truth = _truth(a, lambda w: _f(function, keywords)(abs(w)), certificate.shift)
    assert_covered(relative_error(found.outputs[0], truth), found.certificates)


@pytest.mark.parametrize(
    ("function", "keywords", "values"),
    [
        ("log", {}, [0.0, 0, 0, 1, 2, 4]),
        ("power", {"p": -0.5}, [0.0, 0, 0, 1, 2, 4]),
        ("power", {"p": 0.5}, [0.0, 0, 0, 1, 2, 4]),
        ("power", {"p": -1}, [-2.0, -1, 0, 0, 1, 2]),
        ("power", {"p": -2}, [-2.0, -1, 0, 0, 1, 2]),
    ],
)
def test_functions_on_the_range(function: str, keywords: dict[str, Any], values: list[float]) -> None:
    """With damping="range" eigenvalues that are rounding have the value 0, and the rank is told."""
    a = _matrix(np.array(values), "float64")
    f = _f(function, keywords)

    found = answer(function, {"a": a}, damping="range", **keywords)

    (certificate,) = found.certificates
    assert certificate.outcome == "converged"
    assert certificate.rank == np.count_nonzero(values)
    truth = _truth(a, lambda w: f(w) if abs(w) > 1e-3 else mpmath.mpf(0))
    assert_covered(relative_error(found.outputs[0], truth), found.certificates)


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e40, 1e300])
def test_units_cost_no_digit(scale: float) -> None:
    """Matrices near the ends of the range have logarithms and powers as accurate as others."""
    a = scale * _matrix(SPECTRA["mild"], "float64")

    for function, keywords in (("log", {}), ("power", {"p": 0.3}), ("power", {"p": -1}), ("power", {"p": -0.9})):
        _check(function, a, **keywords)


def test_constant_power_has_no_gradient() -> None:
    """The gradient of A^0 is 0, and that of G A^0 in G is the cotangent."""
    a, g = _matrix(INDEFINITE["mixed"], "float64"), np.random.default_rng(0).standard_normal((2, N))

    found = answer("vjp/power", {"x": g, "a": a, "g": g}, p=0)

    assert not found.outputs[1].any()
    np.testing.assert_allclose(found.outputs[2], g, rtol=1e-14)
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize(
    ("function", "keywords", "code"), [("log", {"damping": 0.0}, "singular"), ("power", {"p": 0.5}, "singular")]
)
def test_singular_matrices_have_no_gradient(function: str, keywords: dict[str, Any], code: str) -> None:
    """Where the function has no derivative, its gradients are refused."""
    found = answer(f"vjp/{function}", {"x": np.eye(2), "a": np.diag([0.0, 1.0])}, on_failure="nan", **keywords)

    assert found.certificates[0].code == code


def test_shapes_without_numbers() -> None:
    """Empty matrices and batches have empty answers; G A^p over an empty dimension is 0 or empty."""
    for function, keywords in (("log", {}), ("exp", {}), ("power", {"p": -1.5})):
        assert answer(function, {"a": np.zeros((0, 0))}, **keywords).outputs[0].shape == (0, 0)
        assert answer(function, {"a": np.zeros((0, 3, 3))}, **keywords).outputs[0].shape == (0, 3, 3)
    assert answer("power", {"a": np.zeros((0, 0)), "g": np.zeros((3, 0))}, p=0).outputs[0].shape == (3, 0)


@pytest.mark.parametrize("p", [64.5, -65, None, "2", float("nan")])
def test_exponents_have_a_domain(p: object) -> None:
    """Real numbers from -64 to 64."""
    with pytest.raises(Rejection) as refused:
        answer("power", {"a": np.eye(2)}, p=p)

    assert refused.value.code == "invalid_parameter"


def test_estimates_are_near_the_error_of_dominated_matrices() -> None:
    """One large eigenvalue beside many small ones still converges by default in every order."""
    for order in (8, 64, 128):
        values = np.full(order, 1e-6)
        values[-1] = 1.0
        a = _matrix(values, "float64")
        for function, keywords in (("log", {}), ("exp", {"t": 5.0}), ("power", {"p": -0.5}), ("power", {"p": 3})):
            found = answer(function, {"a": a}, **keywords)
            assert found.certificates[0].outcome == "converged"
            assert estimate_of(found) < 1e-6


@pytest.mark.parametrize("name", ["mild", "spread 1e3", "repeated", "nearly identical", "many small"])
def test_conditions_are_those_of_the_function(name: str) -> None:
    """Of exp at least SciPy's condition of e^A, and at most n^(1/2) times that, by which the norms of A differ."""
    a = _matrix(SPECTRA[name], "float64")

    condition = answer("exp", {"a": a}).certificates[0].condition or 0.0

    exact = float(scipy.linalg.expm_cond(a))
    assert 0.999 * exact <= condition <= 1.001 * max(1.0, N**0.5 * exact)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("spread", [1e-12, 1e-9, 3e-8])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_named_precision_does_not_round_a_small_logarithm_away(order: int, spread: float, dtype: str) -> None:
    """Matrices that are the identity in float32 and not as they were sent have estimates that say what is lost."""
    rng = np.random.default_rng(order)
    q = orthogonal(rng, order, order)
    full = (q * (1 + spread * rng.uniform(0.5, 1.0, order))) @ q.T
    diagonal = np.diag(1 + spread * rng.uniform(0.5, 1.0, order))
    a = np.stack([(full + full.T) / 2, diagonal]).astype(dtype)
    w, v = np.linalg.eigh(a - np.eye(order))
    exact = (v * np.log1p(w)[:, None, :]) @ np.conj(v.swapaxes(1, 2))

    found = answer("log", {"a": a}, precision="fp32")

    assert_covered(relative_error(found.outputs[0], exact), found.certificates, estimated=range(len(a) + 1), slack=1e-9)
