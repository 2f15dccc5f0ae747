"""Riccati equations of the kinds that Benner, Laub and Mehrmann collected (CAREX), from their definitions."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import EPS, Array, answer
from matfn_kernels.rejection import Rejection
from spectra import orthogonal

Equation = tuple[Array, Array, Array, Array]
RNG = np.random.default_rng(40)
I = np.eye


def _aircraft() -> Equation:
    a = [[0, 1, 0, 0], [0, -1.89, 0.39, -5.53], [0, -0.034, -2.98, 2.43], [0.034, -0.0011, -0.99, -0.21]]
    q = [
        [2.313, 2.727, 0.688, 0.023],
        [2.727, 4.271, 1.148, 0.323],
        [0.688, 1.148, 0.313, 0.102],
        [0.023, 0.323, 0.102, 0.083],
    ]
    return np.array(a), np.array([[0, 0], [0.36, -1.6], [-0.95, -0.032], [0.03, 0]]), np.array(q), I(2)


def _scaled_states(size: float) -> Equation:
    v = I(3) - 2 / 3
    diagonals = [np.diag([1.0, 2, 3]) * size, np.diag([1 / size, 1, size])]
    a, q = (v @ d @ v for d in diagonals)
    return a, I(3), (q + q.T) / 2, size * I(3)


def _power_plant(lag: float) -> Equation:
    a = [[0, 0.4, 0, 0], [0, 0, 0.345, 0], [0, -0.524 / lag, -0.465 / lag, 0.262 / lag], [0, 0, 0, -1 / lag]]
    return np.array(a), np.array([[0], [0], [0], [1 / lag]]), np.diag([1.0, 0, 1, 0]), I(1)


def _oscillators(damping: float) -> Equation:
    a = [[-damping, 1, 0, 0], [-1, -damping, 0, 0], [0, 0, damping, 1], [0, 0, -1, damping]]
    return np.array(a), np.ones((4, 1)), np.ones((4, 4)), I(1)


def _string_of_vehicles(vehicles: int) -> Equation:
    order = 2 * vehicles - 1
    a, b = np.zeros((order, order)), np.zeros((order, vehicles))
    speeds, gaps = np.arange(0, order, 2), np.arange(1, order, 2)
    a[speeds, speeds], a[gaps, gaps - 1], a[gaps, gaps + 1] = -1, 1, -1
    b[speeds, np.arange(vehicles)] = 1
    return a, b, np.diag(np.where(np.arange(order) % 2, 10.0, 0)), I(vehicles)


def _ring(order: int) -> Equation:
    shift = np.roll(I(order), 1, axis=0)
    return shift + shift.T - 2 * I(order), I(order), I(order), I(order)


def _integrators(order: int) -> Equation:
    first = I(order)[:1]
    return np.eye(order, k=1), I(order)[:, -1:], first.T @ first, I(1)


def _springs(masses: int) -> Equation:
    stiffness = 2 * I(masses) - np.eye(masses, k=1) - np.eye(masses, k=-1)
    a = np.block([[np.zeros((masses, masses)), I(masses)], [-stiffness / 4, -I(masses)]])
    b = np.zeros((2 * masses, 2))
    b[masses, 0], b[-1, 1] = 0.25, -0.25
    return a, b, I(2 * masses), I(2)


def _gauss(order: int, inputs: int) -> Equation:
    return RNG.standard_normal((order, order)), RNG.standard_normal((order, inputs)), I(order), I(inputs)


EQUATIONS: dict[str, Equation] = {
    "double integrator": (np.eye(2, k=1), np.array([[0.0], [1]]), np.diag([1.0, 2]), I(1)),
    "stabilisable": (np.array([[4, 3], [-4.5, -3.5]]), np.array([[1.0], [-1]]), np.array([[9.0, 6], [6, 4]]), I(1)),
    "aircraft": _aircraft(),
    **{f"weak input {e:g}": (np.diag([1.0, -2]), np.array([[e], [0]]), np.ones((2, 2)), I(1)) for e in (1, 1e-6, 1e-8)},
    **{
        f"nearly singular weight {e:g}": (
            np.diag([-0.1, -0.02]),
            np.array([[0.1, 0], [0.001, 0.01]]),
            np.array([[100.0, 1000], [1000, 10000]]),
            np.array([[1 + e, 1], [1, 1]]),
        )
        for e in (1.0, 1e-3, 1e-6, 1e-8)
    },
    **{f"long integrator {e:g}": (e * np.eye(2, k=1), np.array([[0.0], [1]]), I(2), I(1)) for e in (1e6, 1e-6)},
    **{f"small weight {e:g}": (I(2) * e + 1, I(2), e**2 * I(2), I(2)) for e in (1.0, 1e-3, 1e-7)},
    **{
        f"double root {e:g}": (
            np.array([[3 - e, 1], [4, 2 - e]]),
            np.ones((2, 1)),
            np.array([[4 * e - 11, 2 * e - 5], [2 * e - 5, 2 * e - 2]]),
            I(1),
        )
        for e in (1.0, 1e-4, 1e-6)
    },
    **{f"scaled states {e:g}": _scaled_states(e) for e in (1e-6, 1.0, 1e6)},
    **{f"power plant {e:g}": _power_plant(e) for e in (1.0, 1e-6)},
    **{f"oscillators {e:g}": _oscillators(e) for e in (1.0, 1e-3, 1e-6)},
    "vehicles": _string_of_vehicles(10),
    "ring": _ring(24),
    "10 integrators": _integrators(10),
    "21 integrators": _integrators(21),
    "springs": _springs(15),
    "gauss": _gauss(30, 4),
    "no weight": (np.array([[1.0, 2], [0, -1]]), np.ones((2, 1)), np.zeros((2, 2)), I(1)),
    "nothing to do": (np.array([[-1.0, 2], [0, -1]]), np.ones((2, 1)), np.zeros((2, 2)), I(1)),
    "no hold": (np.array([[-1.0, 2], [0, -1]]), np.zeros((2, 1)), I(2), I(1)),
    "uneven hold": (np.diag([1.0, -1]), np.array([[1e-6], [1]]), I(2), I(1)),
    "indefinite weight": (np.array([[-1.0, 0.2], [0, -1]]), I(2), 0.1 * I(2), np.diag([1.0, -4])),
    "one": (np.array([[2.0]]), np.array([[3.0]]), np.array([[1.0]]), np.array([[0.5]])),
}


def _call(equation: Equation, dtype: str = "float64", **keywords: Any) -> Any:
    inputs = {name: array.astype(dtype)[None] for name, array in zip("abqr", equation, strict=True)}
    return answer("solve_care", inputs, **keywords)


def _residual(equation: Equation, x: Array) -> float:
    """The equation's residual over its terms, in extended precision, so that only X is judged."""
    a, b, q, r = (array.astype(np.longdouble) for array in equation)
    x = x.astype(np.longdouble)
    gain = np.linalg.solve(equation[3], np.asarray(b.T @ x, float)).astype(np.longdouble)
    gain += np.linalg.solve(equation[3], np.asarray(b.T @ x - r @ gain, float))
    terms = (a.T @ x, x @ a, -x @ b @ gain, q)
    sizes = sum(float(np.linalg.norm(term)) for term in terms)
    return float(np.linalg.norm(sum(terms, np.zeros_like(x)))) / sizes if sizes else 0.0


def _truth(equation: Equation, x: Array) -> Array:
    """The solution near X by Newton's method in 60 digits, rounded to float64."""
    order = len(x)
    with mpmath.workdps(60):
        a, b, q, r, y = (mpmath.matrix(array.astype(float).tolist()) for array in (*equation, x))
        g = b * r**-1 * b.T
        for _ in range(8):
            loop, missing = a - g * y, a.T * y + y * a - y * g * y + q
            system = mpmath.matrix(order**2, order**2)
            for i, j, k in np.ndindex(order, order, order):
                system[i * order + j, k * order + j] += loop[k, i]
                system[i * order + j, i * order + k] += loop[k, j]
            step = mpmath.lu_solve(system, -mpmath.matrix([missing[i, j] for i, j in np.ndindex(order, order)]))
            y += mpmath.matrix([[step[i * order + j] for j in range(order)] for i in range(order)])
        return np.array(y.tolist(), dtype=float)


@pytest.mark.parametrize("name", EQUATIONS)
def test_solution_is_stabilising(name: str) -> None:
    """Residual below 1e-8, 1e-12 where R is well conditioned, and a stable closed loop, on every problem."""
    a, b, q, r = EQUATIONS[name]

    x = _call(EQUATIONS[name]).outputs[0][0]

    assert _residual((a, b, q, r), x) < (1e-12 if np.linalg.cond(r) < 1e4 else 1e-8)
    assert np.linalg.eigvals(a - b @ np.linalg.solve(r, b.T @ x)).real.max() < 0
    np.testing.assert_array_equal(x, x.T)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name, equation in EQUATIONS.items() if len(equation[0]) <= 4])
def test_error_is_within_its_estimate(name: str, dtype: str) -> None:
    """The error against 60 digits is within its estimate and 50 eps kappa; hopeless equations promise nothing."""
    if dtype == "float32" and name in {"double root 1e-06", "nearly singular weight 1e-08"}:
        pytest.skip("another equation in float32")
    a, b, q, r = (array.astype(dtype).astype(float) for array in EQUATIONS[name])
    equation = (a, b, q, r)
    found = _call(equation, dtype)
    x, certificate = found.outputs[0][0].astype(float), found.certificates[0]

    truth = _truth(equation, x)

    error = np.linalg.norm(x - truth) / max(1e-300, float(np.linalg.norm(truth)))
    assert certificate.condition is not None
    if certificate.error_estimate is None:
        assert certificate.outcome == "approximate"
        assert certificate.condition > 1e6
    else:
        assert error <= certificate.error_estimate + EPS["float64"]
        assert error <= 50 * EPS[dtype] * certificate.condition


ROTATION = orthogonal(RNG, 4, 4)
WITHOUT: dict[str, tuple[Equation, str]] = {
    "unreachable": ((np.diag([1.0, -1]), np.array([[0.0], [1]]), I(2), I(1)), "not_stabilisable"),
    "unreachable, rotated": (
        (ROTATION @ np.diag([1, 0.5, -1, -2]) @ ROTATION.T, ROTATION @ np.array([[0.0], [1], [1], [1]]), I(4), I(1)),
        "not_stabilisable",
    ),
    "undamped": ((np.array([[0.0, 1], [-1, 0]]), np.array([[0.0], [1]]), np.zeros((2, 2)), I(1)), "not_stabilisable"),
    "no hold": ((I(2), np.zeros((2, 1)), I(2), I(1)), "not_stabilisable"),
    "no real solution": ((0.1 * I(1), I(1), -I(1), I(1)), "not_stabilisable"),
    "nothing": ((np.zeros((2, 2)), np.zeros((2, 1)), np.zeros((2, 2)), I(1)), "not_stabilisable"),
    "no cost": ((I(2), np.ones((2, 1)), I(2), np.zeros((1, 1))), "singular"),
    "singular cost": ((I(2), I(2), I(2), np.ones((2, 2))), "singular"),
    "asymmetric weight": ((I(2), I(2), np.array([[1.0, 1], [0, 1]]), I(2)), "not_symmetric"),
    "asymmetric cost": ((I(2), I(2), I(2), np.array([[1.0, 1], [0, 1]])), "not_symmetric"),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_equations_without_an_answer_are_refused(name: str) -> None:
    """No stabilising solution, no inverse of R, asymmetric weights: each has its code."""
    equation, code = WITHOUT[name]

    found = _call(equation, on_failure="nan")

    assert found.certificates[0].code == code
    assert np.isnan(found.outputs[0]).all()
    with pytest.raises(Rejection) as caught:
        _call(equation)
    assert caught.value.code == code


@pytest.mark.parametrize(("time", "weight"), [(1e300, 1.0), (1e-150, 1e-150), (1.0, 1e280), (1.0, 1e-280)])
def test_units_do_not_matter(time: float, weight: float) -> None:
    """A clock a 1e300 times faster, or costs in another currency, scale the solution and nothing else."""
    a, b, q, r = EQUATIONS["aircraft"]

    scaled = _call((a * time, b * time, q * weight * time, r * weight * time)).outputs[0][0] / weight

    np.testing.assert_allclose(scaled, _call(EQUATIONS["aircraft"]).outputs[0][0], rtol=1e-9)


def test_rounding_of_a_weight_is_remarked() -> None:
    """A weight that is symmetric but for rounding is symmetrised, and that is said."""
    a, b, q, r = EQUATIONS["aircraft"]
    q = q.copy()
    q[0, 1] *= 1 + 1e-9

    certificate = _call((a, b, q, r)).certificates[0]

    assert certificate.outcome == "approximate"
    assert "Q + Q^T" in (certificate.hint or "")


def test_states_without_inputs_are_another_equation() -> None:
    """No columns in B is refused with the way out; no states is an empty answer."""
    with pytest.raises(Rejection, match="no columns"):
        _call((I(2), np.zeros((2, 0)), I(2), np.zeros((0, 0))))

    assert _call((np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((0, 0)), I(2))).outputs[0].shape == (1, 0, 0)


@pytest.mark.parametrize("function", ["mcsgn", "solve_lyapunov", "solve_care"])
def test_lower_arithmetic_is_refused(function: str) -> None:
    """These functions are computed in float64 only, and say so when another arithmetic is named."""
    inputs = {name: I(2)[None] for name in {"mcsgn": "a", "solve_lyapunov": "aq", "solve_care": "abqr"}[function]}

    with pytest.raises(Rejection, match="fp64 only"):
        answer(function, inputs, precision="fp32")
