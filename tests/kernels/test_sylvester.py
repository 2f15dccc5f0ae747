"""Sylvester's and Lyapunov's equations against 60-digit truth, and where they are singular."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.linalg

from evaluating import EPS, Array, answer
from honesty import assert_covered
from matfn_kernels.methods.equations.shared_eigenvalue import share_eigenvalue
from matfn_kernels.numbers.extended_product import EXTENDED, product
from spectra import orthogonal

RNG = np.random.default_rng(30)
ORDER = 6


def _gauss(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def _jordan(value: float) -> Array:
    return np.asarray(value * np.eye(ORDER) + np.eye(ORDER, k=1))


FRANK = np.minimum.outer(np.arange(1.0, 7), np.arange(1.0, 7)) * np.triu(np.ones((ORDER, ORDER)), -1)
KAHAN = np.diag(0.5 ** np.arange(ORDER)) @ (np.eye(ORDER) - 0.8 * np.triu(np.ones((ORDER, ORDER)), 1))
NEARLY = _gauss(ORDER, ORDER)
EQUATIONS: dict[str, tuple[Array, Array | None, Array]] = {
    "gauss": (_gauss(5, 5), _gauss(6, 6), _gauss(5, 6)),
    "wide": (_gauss(2, 2), _gauss(7, 7), _gauss(2, 7)),
    "hilbert": (scipy.linalg.hilbert(ORDER), scipy.linalg.hilbert(ORDER), _gauss(ORDER, ORDER)),
    "graded": (10.0 ** -np.arange(ORDER)[:, None] * _gauss(ORDER, ORDER), _gauss(4, 4), _gauss(ORDER, 4)),
    "close": (np.diag([1.0, 2, 3]), np.diag([-1 + 1e-9, 5, 6]), _gauss(3, 3)),
    "closer": (NEARLY, -NEARLY.T * (1 + 1e-12), _gauss(ORDER, ORDER)),
    "no right side": (_gauss(4, 4), _gauss(3, 3), np.zeros((4, 3))),
    "one": (_gauss(1, 1), _gauss(1, 1), _gauss(1, 1)),
    "symmetric": ((SYMMETRIC := _gauss(ORDER, ORDER)) + SYMMETRIC.T, np.diag([1.0, 0, 30]), _gauss(ORDER, 3)),
    "symmetric and not": (SYMMETRIC @ SYMMETRIC.T, _gauss(4, 4), _gauss(ORDER, 4)),
    "lyapunov, symmetric": (SYMMETRIC @ SYMMETRIC.T, None, _gauss(ORDER, ORDER)),
    "lyapunov, indefinite": (SYMMETRIC + SYMMETRIC.T, None, _gauss(ORDER, ORDER)),
    "lyapunov, gauss": (_gauss(ORDER, ORDER), None, _gauss(ORDER, ORDER)),
    "lyapunov, frank": (FRANK, None, np.eye(ORDER)),
    "lyapunov, kahan": (KAHAN, None, np.eye(ORDER)),
    "lyapunov, jordan": (_jordan(0.1), None, _gauss(ORDER, ORDER)),
    "lyapunov, hopeless": (_jordan(1e-3), None, _gauss(ORDER, ORDER)),
}


def _truth(a: Array, b: Array, q: Array) -> Array:
    """The solution of the Kronecker system in 60 digits, rounded to float64."""
    rows, columns = q.shape
    with mpmath.workdps(60):
        system = mpmath.matrix(rows * columns, rows * columns)
        for i, j in np.ndindex(rows, columns):
            for k in range(rows):
                system[i * columns + j, k * columns + j] += mpmath.mpf(float(a[i, k]))
            for k in range(columns):
                system[i * columns + j, i * columns + k] += mpmath.mpf(float(b[k, j]))
        solution = mpmath.lu_solve(system, mpmath.matrix(q.astype(float).flatten().tolist()))
        return np.array([float(value) for value in solution]).reshape(rows, columns)


def _inputs(equation: tuple[Array, Array | None, Array], dtype: str = "float64") -> tuple[str, dict[str, Array]]:
    a, b, q = equation
    inputs = {"a": a.astype(dtype)[None], "q": q.astype(dtype)[None]}
    if b is None:
        return "solve_lyapunov", inputs
    return "solve_sylvester", {**inputs, "b": b.astype(dtype)[None]}


@pytest.mark.parametrize(
    ("name", "dtype"),
    # Rounded to float32 the close eigenvalues are the same.
    [*[(name, "float64") for name in EQUATIONS], *[(name, "float32") for name in EQUATIONS if "close" not in name]],
)
def test_solution_is_within_its_estimate(name: str, dtype: str) -> None:
    """The error is within its estimate and 50 eps kappa; without an estimate the condition says why."""
    function, inputs = _inputs(EQUATIONS[name], dtype)
    a, q = inputs["a"][0], inputs["q"][0]
    truth = _truth(a, inputs["b"][0] if "b" in inputs else a.T, q)

    found = answer(function, inputs)

    certificate = found.certificates[0]
    error = np.linalg.norm(found.outputs[0][0].astype(float) - truth) / max(1e-300, float(np.linalg.norm(truth)))
    assert found.outputs[0].dtype == dtype
    assert certificate.condition is not None
    assert certificate.residual is not None
    hopeless = certificate.condition * EPS["float64"] > 1e-2
    assert_covered(error, found.certificates, estimated=range(2) if hopeless else 1, slack=EPS["float64"])
    if certificate.error_estimate is None:
        assert certificate.outcome == "approximate"
    else:
        assert error <= 50 * EPS[dtype] * certificate.condition


@pytest.mark.parametrize("distance", [1e-6, 1e-8, 1e-10])
def test_estimates_of_nearly_singular_equations_are_near_their_errors(distance: float) -> None:
    """Where the condition is large the estimate is below 100 times the error, or small beside that of rounded inputs.

    The error itself may be small by luck: on some processors it is 2e-11 where the estimate is 7e-9 and the rounding of
    a and b alone moves the solution by 2e-6.
    """
    a, q = NEARLY, EQUATIONS["closer"][2]
    b = -a.T * (1 + distance)

    found = answer("solve_sylvester", {"a": a[None], "b": b[None], "q": q[None]})

    estimate, truth = found.certificates[0].error_estimate, _truth(a, b, q)
    assert estimate is not None
    error = float(np.linalg.norm(found.outputs[0][0] - truth) / np.linalg.norm(truth))
    assert estimate < max(100 * error, 0.01 * EPS["float64"] / distance)


@pytest.mark.parametrize("function", ["solve_sylvester", "solve_lyapunov"])
def test_large_equations_leave_no_residual(function: str) -> None:
    """Gaussian matrices have their spectrum in both half planes, where a sign would be wrong."""
    inputs = {"a": _gauss(2, 60, 60), "q": _gauss(2, 60, 60)}
    if function == "solve_sylvester":
        inputs["b"] = _gauss(2, 60, 60)

    found = answer(function, inputs)

    right = inputs.get("b", np.swapaxes(inputs["a"], 1, 2))
    missing = inputs["a"] @ found.outputs[0] + found.outputs[0] @ right - inputs["q"]
    assert np.linalg.norm(missing) < 1e-12 * np.linalg.norm(found.outputs[0]) * np.linalg.norm(right)
    assert [c.outcome for c in found.certificates] == ["converged", "converged"]


def test_symmetric_right_side_gives_a_symmetric_solution() -> None:
    """Lyapunov's equation keeps symmetry, to the last bit."""
    q = _gauss(5, 5)

    x = answer("solve_lyapunov", {"a": _gauss(1, 5, 5), "q": (q + q.T)[None]}).outputs[0][0]

    np.testing.assert_array_equal(x, x.T)


ROTATION = orthogonal(RNG, ORDER, ORDER)
DEFECTIVE = ROTATION @ _jordan(1.0) @ ROTATION.T
SINGULAR: dict[str, tuple[Array, Array | None]] = {
    "diagonal": (np.diag([1.0, 2, 3]), np.diag([-1.0, 5, 6])),
    "opposite": (NEARLY, -NEARLY),
    "opposite, defective": (DEFECTIVE, -DEFECTIVE.T),
    "zero": (np.zeros((2, 2)), np.zeros((3, 3))),
    "lyapunov, skew": (np.array([[0.0, 1], [-1, 0]]), None),
    "lyapunov, traceless": (np.array([[1.0, 2], [3, -1]]), None),
    "large": (large := _gauss(80, 80), -large.T),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_shared_eigenvalues_are_singular(name: str) -> None:
    """Eigenvalues that sum to zero are found in exact arithmetic, and fail their own equation alone."""
    a, b = SINGULAR[name]
    columns = len(a if b is None else b)
    inputs = {"a": np.stack([np.eye(len(a)), a]), "q": np.ones((2, len(a), columns))}
    if b is not None:
        inputs["b"] = np.stack([np.eye(columns), b])

    found = answer("solve_lyapunov" if b is None else "solve_sylvester", inputs, on_failure="nan")

    assert [c.code for c in found.certificates] == [None, "singular"]
    np.testing.assert_allclose(found.outputs[0][0], 0.5)


EXTREME = {
    "spread": np.diag([1e180, 1e-180]),
    "whole range": np.diag([1e300, 5e-324]),
    "tiny": np.diag([1e-300, 5e-324]),
    "graded": np.triu(10.0 ** -np.add.outer(*[np.arange(0, 160, 20)] * 2)),
}


@pytest.mark.parametrize("name", EXTREME)
def test_eigenvalues_far_apart_are_not_singular(name: str) -> None:
    """What vanishes beside the largest entry still makes an equation regular, if useless in float64."""
    a = EXTREME[name]

    found = [answer("solve_lyapunov", {"a": a, "q": a}), answer("solve_sylvester", {"a": a, "b": a, "q": a})]

    for one in found:
        assert np.isfinite(one.outputs[0]).all()
        assert one.certificates[0].error_estimate is None
        assert (one.certificates[0].condition or 0) > 1e14


@pytest.mark.parametrize("name", EXTREME)
def test_opposite_eigenvalues_far_apart_are_singular(name: str) -> None:
    """Exact equality is found among entries of any size, the smallest included."""
    a = EXTREME[name]
    lone = np.diag([a[0, 0], -a[-1, -1]])

    found = [
        answer("solve_sylvester", {"a": a, "b": b, "q": np.ones((len(a), len(b)))}, on_failure="nan")
        for b in (-a.T, lone)
    ]

    assert [one.certificates[0].code for one in found] == ["singular", "singular"]


def test_nearly_singular_is_not_singular() -> None:
    """One unit in the last place of one entry makes an equation regular, if useless in float64."""
    moved = -NEARLY.T.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], 2)

    assert share_eigenvalue(NEARLY, -NEARLY.T)
    assert not share_eigenvalue(NEARLY, moved)
    assert not share_eigenvalue(np.diag([1.0, 1e-20]), np.diag([1.0, 1e-20]))


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_scale_does_not_matter(scale: float) -> None:
    """Coefficients and right side may be as large or as small as float64 allows, and are not written."""
    a, q = _gauss(4, 4), _gauss(4, 4)
    big = {"a": (a * scale)[None], "q": (q * scale)[None]}
    kept = {name: array.copy() for name, array in big.items()}

    found = answer("solve_lyapunov", big)

    np.testing.assert_allclose(found.outputs[0][0], _truth(a, a.T, q), rtol=1e-9)
    assert all(np.array_equal(big[name], kept[name]) for name in big)


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0), (0, 0)])
def test_empty_equations_have_empty_solutions(rows: int, columns: int) -> None:
    """An unknown without entries is solved for."""
    inputs = {"a": np.eye(rows)[None], "b": np.eye(columns)[None], "q": np.zeros((1, rows, columns))}

    assert answer("solve_sylvester", inputs).outputs[0].shape == (1, rows, columns)


def test_extended_products_have_no_rounding_of_float64() -> None:
    """Sums that cancel in float64 keep the digits behind it, for either precision of the left factor."""
    x, y = _gauss(9, 40), _gauss(40, 7)
    with mpmath.workdps(50):
        truth = mpmath.matrix(x.tolist()) * mpmath.matrix(y.tolist())

    found = product(x, y)
    twice = product(found, np.eye(7))

    for i, j in np.ndindex(9, 7):
        with mpmath.workdps(50):
            lead = float(found[i, j])
            value = mpmath.mpf(lead) + mpmath.mpf(float(found[i, j] - np.longdouble(lead)))
            assert abs(value - truth[i, j]) < 20 * EXTENDED
    np.testing.assert_array_equal(found, twice)
