"""Riccati equations of the kinds that Benner, Laub and Mehrmann collected (CAREX), and worse."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from carex import CAREX, Equation, measured
from evaluating import EPS, Array, answer
from honesty import assert_covered
from matfn_kernels.contract.rejection import Rejection
from spectra import orthogonal

RNG = np.random.default_rng(40)
I = np.eye
ROTATION = orthogonal(RNG, 4, 4)


def _gauss(order: int, inputs: int) -> Equation:
    rng = np.random.default_rng([order, inputs])
    return rng.standard_normal((order, order)), rng.standard_normal((order, inputs)), I(order), I(inputs)


def _weak_hold(hold: float) -> Equation:
    """An unstable mode on which the inputs have little hold."""
    return np.diag([1.0, -1, -2, -3]), np.array([[hold, 0], [1, 2], [0, 1], [3, 1]]), I(4), I(2)


def _turned(equation: Equation, by: Array) -> Equation:
    """The equation in other coordinates."""
    a, b, q, r = equation
    inverse = np.linalg.inv(by)
    q = inverse.T @ q @ inverse
    return by @ a @ inverse, by @ b, (q + q.T) / 2, r


EQUATIONS: dict[str, Equation] = {
    **CAREX,
    "gauss": _gauss(30, 4),
    "gauss, one input": _gauss(6, 1),
    "no weight": (np.array([[1.0, 2], [0, -1]]), np.ones((2, 1)), np.zeros((2, 2)), I(1)),
    "nothing to do": (np.array([[-1.0, 2], [0, -1]]), np.ones((2, 1)), np.zeros((2, 2)), I(1)),
    "no hold": (np.array([[-1.0, 2], [0, -1]]), np.zeros((2, 1)), I(2), I(1)),
    **{f"weak hold {e:g}": _weak_hold(e) for e in (1e-3, 1e-6, 1e-9, 1e-12)},
    "weak hold, turned": _turned(_weak_hold(1e-3), ROTATION),
    "states in other units": _turned(_gauss(4, 2), np.diag([1e-8, 1, 1e8, 1e16])),
    "inputs in other units": (*_gauss(4, 2)[:3], np.array([[1e12, 1], [1, 1e-8]])),
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
        for _ in range(5):
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
    _assert_solved(EQUATIONS[name])


@pytest.mark.parametrize("example", [6, 20])
def test_measured_systems(example: int) -> None:
    """The jet engine and the rotating axle, whose 421 states leave the equation nearly singular."""
    pytest.importorskip("scipy.linalg.tests", reason="this SciPy ships no data")

    _assert_solved(measured(example))


def _assert_solved(equation: Equation) -> None:
    a, b, q, r = equation

    x = _call(equation).outputs[0][0]

    assert _residual((a, b, q, r), x) < (1e-12 if np.linalg.cond(r) < 1e4 else 1e-8)
    assert np.linalg.eigvals(a - b @ np.linalg.solve(r, b.T @ x)).real.max() < 0
    np.testing.assert_array_equal(x, x.T)


# Rounded to float32 these are other equations, or have no answer in it.
DOUBLE_ONLY = {"double root 0", "double root 1e-06", "nearly singular weight 1e-08"}
SMALL = [name for name, equation in EQUATIONS.items() if len(equation[0]) <= 8]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [*[(name, "float64") for name in SMALL], *[(name, "float32") for name in SMALL if name not in DOUBLE_ONLY]],
)
def test_error_is_within_its_estimate(name: str, dtype: str) -> None:
    """The error against 60 digits is within its estimate and 50 eps kappa; unsolvable ones have no estimate."""
    a, b, q, r = (array.astype(dtype).astype(float) for array in EQUATIONS[name])
    equation = (a, b, q, r)
    found = _call(equation, dtype)
    x, certificate = found.outputs[0][0].astype(float), found.certificates[0]

    truth = _truth(equation, x)

    error = np.linalg.norm(x - truth) / max(1e-300, float(np.linalg.norm(truth)))
    assert certificate.condition is not None
    estimated = range(2) if certificate.condition > 1e6 else 1
    assert_covered(error, found.certificates, estimated=estimated, slack=EPS["float64"])
    if certificate.error_estimate is None:
        assert certificate.outcome == "approximate"
    else:
        assert error <= 50 * EPS[dtype] * certificate.condition


def _cheap(seed: int, cost: float, inputs: int = 1) -> Equation:
    """Slow modes of very different speeds under inputs that cost next to nothing."""
    rng = np.random.default_rng(seed)
    a = np.triu(3 * rng.standard_normal((3, 3)), 1) - np.diag([1, 1e-3, 1e-6])
    b, c = rng.standard_normal((3, inputs)), rng.standard_normal((3, 3))
    return a, b, (c @ c.T + (c @ c.T).T) / 2, cost * I(inputs)


CHEAP_SYSTEM: Equation = (
    np.array(
        [[-1, -2.2382452832817172, -7.139470739472499], [0, -0.001, -0.0018129546485240804], [0, 0, -1e-6]],
    ),
    np.array([[-0.33460591011652974], [0.9294627340448915], [-0.15536380188732318]]),
    np.array(
        [
            [5.63012921777223, 1.0984786218717073, -2.759959800586494],
            [1.0984786218717073, 1.0416362043712561, -0.8783283234934937],
            [-2.759959800586494, -0.8783283234934937, 2.713159564741172],
        ],
    ),
    np.array([[1e-10]]),
)
CHEAP = [CHEAP_SYSTEM, *((*CHEAP_SYSTEM[:3], np.array([[cost]])) for cost in (1e-9, 1e-11, 1e-12))]


@pytest.mark.parametrize("equation", [*CHEAP, *(_cheap(seed, 1e-12, 1 + seed % 2) for seed in range(8))])
def test_cheap_control_is_solved(equation: Equation) -> None:
    """Closed loops with poles that are ten orders of magnitude apart have an answer within its estimate."""
    found = _call(equation)

    truth = _truth(equation, found.outputs[0][0])

    error = np.linalg.norm(found.outputs[0][0] - truth) / float(np.linalg.norm(truth))
    assert_covered(error, found.certificates, slack=EPS["float64"] / 2)
    assert error < 1e-8


UNDAMPED: Equation = (np.array([[0.0, 1], [-1, 0]]), np.array([[0.0], [1]]), np.zeros((2, 2)), I(1))
WITHOUT: dict[str, tuple[Equation, str]] = {
    "unreachable": ((np.diag([1.0, -1]), np.array([[0.0], [1]]), I(2), I(1)), "not_stabilisable"),
    "unreachable, rotated": (_turned(_weak_hold(0), ROTATION), "not_stabilisable"),
    "unreachable, turned": (_turned(_weak_hold(0), RNG.standard_normal((4, 4))), "not_stabilisable"),
    "unreachable, other units": (_turned(_weak_hold(0), np.diag([1e-8, 1, 1e8, 1e16])), "not_stabilisable"),
    "hold lost in rounding": (_turned(_weak_hold(1e-11), ROTATION), "not_converged"),
    "feedback lost in rounding": (_gauss(64, 1), "not_converged"),
    "undamped": (UNDAMPED, "not_stabilisable"),
    "undamped, rotated": (_turned(UNDAMPED, ROTATION[:2, :2]), "not_stabilisable"),
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


SCALES = (-300, -120, -60, -30, 30, 60, 120, 300)


@pytest.mark.parametrize("function", ["solve_care", "solve_dare"])
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("scale", SCALES)
def test_a_stabilisable_pair_is_so_in_any_units(scale: int, inputs: int, function: str) -> None:
    """A huge or a tiny B beside weights of any size may leave no digit of X, but is never refused as without one."""
    rng = np.random.default_rng(abs(scale) + inputs)
    for cost in (-120, 0, 120):
        a, b, c = rng.standard_normal((3, 3)) + I(3), rng.standard_normal((3, inputs)), rng.standard_normal((3, 3))
        equation = {"a": a, "b": b * 2.0**scale, "q": c @ c.T * 2.0**cost, "r": I(inputs) + 0.1}

        found = answer(function, {name: x[None] for name, x in equation.items()}, on_failure="nan")

        assert found.certificates[0].code in {None, "not_converged"}


@pytest.mark.parametrize("function", ["solve_care", "solve_dare"])
@pytest.mark.parametrize("name", ["unreachable, rotated", "unreachable, other units", "undamped, rotated", "no hold"])
def test_a_pair_that_is_not_stabilisable_is_refused_in_any_units(name: str, function: str) -> None:
    """The code does not depend on the sizes of B and Q."""
    a, b, q, r = WITHOUT[name][0]
    a = a + I(len(a)) if function == "solve_dare" and name != "undamped, rotated" else a

    for scale in (-300, -60, 0, 60, 300):
        inputs = {"a": a, "b": b * 2.0**scale, "q": q * 2.0 ** (-scale // 2), "r": r}
        found = answer(function, {key: x[None] for key, x in inputs.items()}, on_failure="nan")
        assert found.certificates[0].code == "not_stabilisable"


@pytest.mark.parametrize("scale", [-30, -10, 10, 30])
def test_scaled_equations_have_the_digits_that_are_promised(scale: int) -> None:
    """As many inputs as states, 2^60 times stronger or weaker, against 60 digits."""
    a, b, q, r = _gauss(3, 3)
    equation = (a, b * 2.0**scale, q, r)

    found = _call(equation)

    truth = _truth(equation, found.outputs[0][0])
    error = np.linalg.norm(found.outputs[0][0] - truth) / float(np.linalg.norm(truth))
    assert_covered(error, found.certificates, slack=EPS["float64"] / 2)


@pytest.mark.parametrize(("order", "inputs"), [(32, 1), (32, 2), (64, 2), (64, 4), (128, 8)])
def test_few_inputs_leave_no_more_than_rounding(order: int, inputs: int) -> None:
    """Where X is so large that its last bit leaves a residual, there is no other."""
    equation = _gauss(order, inputs)
    noise = RNG.standard_normal((order, order))

    x = _call(equation).outputs[0][0]

    rounding = _residual(equation, x + EPS["float64"] / 2 * x * (noise + noise.T))
    assert _residual(equation, x) <= 2 * rounding
    assert np.linalg.eigvals(equation[0] - equation[1] @ (equation[1].T @ x)).real.max() < 0


@pytest.mark.parametrize("order", [8, 16, 24])
def test_rounding_to_float32_never_releases_an_unstable_loop(order: int) -> None:
    """An X whose 24 bits do not stabilise is refused: float64 is the way out."""
    a, b, q, r = (array.astype("float32") for array in _gauss(order, 1))

    found = _call((a, b, q, r), "float32", on_failure="nan")

    x = found.outputs[0][0].astype(float)
    if found.certificates[0].code == "not_converged":
        assert "rounded to the dtype that was sent" in (found.certificates[0].hint or "")
        assert _call((a, b, q, r)).certificates[0].residual is not None
    else:
        assert np.linalg.eigvals(a.astype(float) - b.astype(float) @ (b.T.astype(float) @ x)).real.max() < 0


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
