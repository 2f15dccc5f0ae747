"""Riccati equations in discrete time, with descriptors and cross terms in both times, real and complex."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.linalg

from darex import DAREX, SOLUTIONS, Equation
from evaluating import EPS, Array, answer
from honesty import assert_covered
from matfn_kernels.contract.rejection import Rejection
from spectra import orthogonal

RNG = np.random.default_rng(41)
ROTATION = orthogonal(RNG, 4, 4)


def _adjoint(x: Array) -> Array:
    return np.asarray(x.conj().T)


def _random(
    order: int, inputs: int, seed: int = 0, *, more: str = "", is_complex: bool = False, condition: float = 10.0
) -> Equation:
    """Gaussian matrices with weights that are positive definite, and E and S as `more` says."""
    rng = np.random.default_rng([order, inputs, seed])

    def gauss(*shape: int) -> Array:
        real: Array = rng.standard_normal(shape)
        return real + 1j * rng.standard_normal(shape) if is_complex else real

    c, d = gauss(order, order), gauss(inputs, inputs)
    found = {"a": gauss(order, order), "b": gauss(order, inputs)}
    found |= {"q": c @ _adjoint(c) + np.eye(order), "r": d @ _adjoint(d) + np.eye(inputs)}
    found = {name: (x + _adjoint(x)) / 2 if name in "qr" else x for name, x in found.items()}
    if "e" in more:
        u, v = (np.linalg.qr(gauss(order, order))[0] for _ in range(2))
        found["e"] = (u * np.geomspace(1, 1 / condition, order)) @ v
    if "s" in more:
        found["s"] = gauss(order, inputs) / 4
    return found


def _with(equation: Equation, **changes: Array) -> Equation:
    return {**equation, **changes}


def _in_units(equation: Equation, states: Array, inputs: Array) -> Equation:
    """The equation with states and inputs in other units."""
    a, b, q, r = (equation[name] for name in "abqr")
    return _with(
        equation,
        a=states[:, None] * a / states,
        b=states[:, None] * b * inputs,
        q=q / states / states[:, None],
        r=r * inputs * inputs[:, None],
    )


PLAIN = _random(4, 2)
DISCRETE: dict[str, Equation] = {
    **DAREX,
    "gauss": PLAIN,
    "gauss, one input": _random(5, 1),
    "singular": _with(PLAIN, a=ROTATION @ np.diag([1.5, 0, 0, 2]) @ ROTATION.T),
    "zero": _with(PLAIN, a=np.zeros((4, 4))),
    "no weight": _with(PLAIN, q=np.zeros((4, 4))),
    "stable, no hold": _with(PLAIN, a=PLAIN["a"] / 9, b=np.zeros((4, 2))),
    "other units": _in_units(PLAIN, 10.0 ** np.array([-4, 0, 3, 6]), np.array([1e5, 1e-5])),
    "cheap": _with(PLAIN, r=1e-10 * PLAIN["r"]),
    "expensive": _with(PLAIN, r=1e10 * PLAIN["r"]),
    "indefinite": _with(PLAIN, q=PLAIN["q"] - 0.5 * np.eye(4)),
    "cross term": _random(4, 2, more="s"),
    "large cross term": _with(
        PLAIN, s=(s := 30 * RNG.standard_normal((4, 2))), q=np.eye(4) + s @ np.linalg.inv(PLAIN["r"]) @ s.T
    ),
    "descriptor": _random(4, 2, more="e"),
    "both": _random(5, 3, more="es"),
    "descriptor, nearly singular": _random(4, 4, more="e", condition=1e3),
    "complex": _random(4, 2, is_complex=True),
    "complex, both": _random(4, 3, more="es", is_complex=True),
    "one": {name: np.array([[value]]) for name, value in zip("abqr", (2.0, 3.0, 1.0, 0.5), strict=True)},
}
CONTINUOUS: dict[str, Equation] = {
    "cross term": _random(4, 2, more="s"),
    "large cross term": DISCRETE["large cross term"],
    "descriptor": _random(4, 2, more="e"),
    "both": _random(5, 3, more="es"),
    "descriptor, nearly singular": _random(4, 2, more="e", condition=1e8),
    "large descriptor": _with(PLAIN, e=1e7 * _random(4, 2, more="e")["e"]),
    "complex": _random(4, 2, is_complex=True),
    "complex, one input": _random(6, 1, is_complex=True),
    "complex, both": _random(4, 3, more="es", is_complex=True),
    "cheap, complex": _with(_random(4, 2, is_complex=True), r=1e-10 * np.eye(2)),
}
EQUATIONS = {
    **{("solve_dare", name): equation for name, equation in DISCRETE.items()},
    **{("solve_care", name): equation for name, equation in CONTINUOUS.items()},
}


def _call(function: str, equation: Equation, dtype: str = "float64", **keywords: Any) -> Any:
    kind = np.result_type(dtype, *equation.values()) if dtype == "float64" else _single(equation)
    return answer(function, {name: x.astype(kind)[None] for name, x in equation.items()}, **keywords)


def _single(equation: Equation) -> Any:
    return np.complex64 if any(map(np.iscomplexobj, equation.values())) else np.float32


def _full(equation: Equation) -> tuple[Array, ...]:
    """A, B, Q, R, E and S, the last two as they are without them."""
    more = equation.get("e", np.eye(len(equation["a"]))), equation.get("s", np.zeros_like(equation["b"]))
    return (*(equation[name] for name in "abqr"), *more)


def _feedback(function: str, equation: Equation, x: Array) -> Array:
    a, b, _, r, e, s = _full(equation)
    if function == "solve_care":
        return np.linalg.solve(r, _adjoint(b) @ x @ e + _adjoint(s))
    return np.linalg.solve(r + _adjoint(b) @ x @ b, _adjoint(b) @ x @ a + _adjoint(s))


def _assert_stable(function: str, equation: Equation, x: Array) -> None:
    """The closed loop's eigenvalues are to the left of the axis, or inside the circle."""
    a, b, *_, e, _ = _full(equation)
    values = scipy.linalg.eigvals(a - b @ _feedback(function, equation, x), e)
    assert (values.real.max() if function == "solve_care" else np.abs(values).max() - 1) < 0


def _truth(function: str, equation: Equation, x: Array) -> Array:
    """The solution near X by Newton's method in 60 digits, rounded to double precision."""
    order = len(x)
    with mpmath.workdps(60):
        a, b, q, r, e, s, y = (mpmath.matrix(m.astype(complex).tolist()) for m in (*_full(equation), x))
        ah, bh, eh = (m.transpose_conj() for m in (a, b, e))
        for _ in range(4):
            if function == "solve_care":
                held, weight, linear = bh * y * e + s.transpose_conj(), r, ah * y * e + eh * y * a
            else:
                held, weight, linear = bh * y * a + s.transpose_conj(), r + bh * y * b, ah * y * a - eh * y * e
            gain = weight**-1 * held
            loop, missing = a - b * gain, linear - held.transpose_conj() * gain + q
            pairs = [(loop, e, 1), (e, loop, 1)] if function == "solve_care" else [(loop, loop, 1), (e, e, -1)]
            system = mpmath.matrix(order**2, order**2)
            for left, right, sign in pairs:
                for i, j, k, m in np.ndindex(order, order, order, order):
                    system[i * order + j, k * order + m] += sign * mpmath.conj(left[k, i]) * right[m, j]
            step = mpmath.lu_solve(system, -mpmath.matrix([missing[i, j] for i, j in np.ndindex(order, order)]))
            y += mpmath.matrix([[step[i * order + j] for j in range(order)] for i in range(order)])
            y = (y + y.transpose_conj()) / 2
        return np.array(y.tolist(), dtype=complex)


@pytest.mark.parametrize(("function", "name"), EQUATIONS)
def test_solution_is_stabilising(function: str, name: str) -> None:
    """A certified answer, Hermitian to the last bit, and a stable closed loop, on every problem."""
    found = _call(function, EQUATIONS[function, name])

    x = found.outputs[0][0]
    assert found.certificates[0].residual.value < 1e-8  # where the rounding of X leaves as much
    assert found.certificates[0].error_estimate is not None
    np.testing.assert_array_equal(x, _adjoint(x))
    _assert_stable(function, EQUATIONS[function, name], x)


# Rounded to float32 these are other equations, or have no answer in it.
DOUBLE_ONLY = {"nearly uncontrollable", "mixing tank 1e+08", "descriptor, nearly singular", "large cross term"}
SMALL = [key for key, equation in EQUATIONS.items() if len(equation["a"]) <= 4]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("function", "name", "dtype"),
    [*[(*key, "float64") for key in SMALL], *[(*key, "float32") for key in SMALL if key[1] not in DOUBLE_ONLY]],
)
def test_error_is_within_its_estimate(function: str, name: str, dtype: str) -> None:
    """The error against 60 digits is within its estimate and 50 eps kappa; unsolvable ones have no estimate."""
    kind = _single(EQUATIONS[function, name])
    equation = {key: x.astype(kind) if dtype == "float32" else x for key, x in EQUATIONS[function, name].items()}
    equation = {key: x.astype(np.result_type(x, float)) for key, x in equation.items()}
    found = _call(function, equation, dtype)
    x, certificate = found.outputs[0][0].astype(complex), found.certificates[0]

    truth = _truth(function, equation, x)

    error = np.linalg.norm(x - truth) / max(1e-300, float(np.linalg.norm(truth)))
    assert_covered(error, found.certificates, estimated=1, slack=EPS["float64"])
    assert error <= 50 * EPS[dtype] * certificate.condition


@pytest.mark.parametrize("name", [name for name, equation in DISCRETE.items() if equation.keys() <= set("abqr")])
def test_both_methods_agree_within_their_estimates(name: str) -> None:
    """What doubling leaves to the other method is said, and what it answers is within its estimate."""
    doubled, other = (_call("solve_dare", DISCRETE[name], method=m) for m in ("doubling", "newton_kleinman"))

    (first,), (second,) = doubled.certificates, other.certificates
    assert (first.method == "doubling") == (first.fallback is None)
    apart = np.linalg.norm(doubled.outputs[0] - other.outputs[0]) / np.linalg.norm(other.outputs[0])
    assert apart <= first.error_estimate + 2 * second.error_estimate
    _assert_stable("solve_dare", DISCRETE[name], doubled.outputs[0][0])


def test_ordinary_equations_are_solved_by_doubling() -> None:
    """Of well-conditioned equations none is left to the other method."""
    assert _call("solve_dare", PLAIN, method="doubling").certificates[0].method == "doubling"


@pytest.mark.parametrize("name", SOLUTIONS)
def test_known_solutions_are_found(name: str) -> None:
    """X of the literature, to its last digits."""
    found = _call("solve_dare", DAREX[name])

    error = np.linalg.norm(found.outputs[0][0] - SOLUTIONS[name]) / np.linalg.norm(SOLUTIONS[name])
    assert error <= found.certificates[0].error_estimate + 8 * EPS["float64"]
    assert error < 1e-8


HELD = np.array([[0.0], [1]])
WITHOUT: dict[str, tuple[str, Equation, str]] = {
    "unreachable": ("solve_dare", {"a": np.diag([2.0, 0.5]), "b": HELD}, "not_stabilisable"),
    "unreachable, turned": (
        "solve_dare",
        {
            "a": ROTATION @ np.diag([2, 0.5, -0.25, 0.1]) @ ROTATION.T,
            "b": ROTATION @ np.array([[0], [1], [2], [3]]),
            "q": np.eye(4),
        },
        "not_stabilisable",
    ),
    "unreachable pencil": (
        "solve_dare",
        {"a": np.diag([2.0, 0.5]), "b": HELD, "e": np.diag([1.0, 3])},
        "not_stabilisable",
    ),
    "undamped": (
        "solve_dare",
        {"a": np.array([[0.0, 1], [-1, 0]]), "b": HELD, "q": np.zeros((2, 2))},
        "not_stabilisable",
    ),
    "on the circle, no hold": ("solve_dare", {"a": np.eye(2), "b": np.zeros((2, 1))}, "not_stabilisable"),
    "no real solution": (
        "solve_dare",
        {"a": 0.9 * np.eye(2), "b": HELD + 1, "q": -0.2 * np.eye(2)},
        "not_stabilisable",
    ),
    "no inverse of e": ("solve_dare", {"a": np.eye(2), "b": HELD, "e": np.ones((2, 2))}, "singular"),
    "asymmetric weight": ("solve_dare", {"a": np.eye(2), "b": HELD, "q": np.triu(np.ones((2, 2)))}, "not_symmetric"),
    "complex weight": (
        "solve_dare",
        {"a": np.eye(2) + 0j, "b": HELD, "q": np.array([[1, 1j], [1j, 1]])},
        "not_symmetric",
    ),
    "care, unreachable pencil": (
        "solve_care",
        {"a": np.diag([2.0, -0.5]), "b": HELD, "e": np.diag([1.0, 3])},
        "not_stabilisable",
    ),
    "care, cross term on the axis": (
        "solve_care",
        {"a": np.array([[1.0, 1], [0, -1]]), "b": np.array([[1.0], [0]]), "s": np.array([[1.0], [1]])},
        "not_stabilisable",
    ),
    "care, no inverse of e": ("solve_care", {"a": np.eye(2), "b": HELD, "e": np.ones((2, 2))}, "singular"),
}
WITHOUT["care, cross term on the axis"][1]["q"] = WITHOUT["care, cross term on the axis"][1]["s"] @ np.ones((1, 2))


@pytest.mark.parametrize("name", WITHOUT)
def test_equations_without_an_answer_are_refused(name: str) -> None:
    """No stabilising solution, no inverse of E, weights that are not Hermitian: each has its code."""
    function, given, code = WITHOUT[name]
    equation = {"q": np.eye(len(given["a"])), "r": np.eye(given["b"].shape[-1]), **given}

    found = _call(function, equation, on_failure="nan")

    assert found.certificates[0].code == code
    assert np.isnan(found.outputs[0]).all()
    with pytest.raises(Rejection) as caught:
        _call(function, equation)
    assert caught.value.code == code


def test_states_without_inputs_are_another_equation() -> None:
    """No columns in B is refused with the way out."""
    with pytest.raises(Rejection, match="no columns") as caught:
        _call("solve_dare", {"a": np.eye(2), "b": np.zeros((2, 0)), "q": np.eye(2), "r": np.zeros((0, 0))})

    assert "solve_discrete_lyapunov" in (caught.value.hint or "")


@pytest.mark.parametrize("order", [16, 40])
@pytest.mark.parametrize("function", ["solve_care", "solve_dare"])
def test_large_equations_are_solved(function: str, order: int) -> None:
    """Complex matrices with E and S: a certified answer and a stable loop."""
    equation = _random(order, order // 2, more="es", is_complex=True)

    found = _call(function, equation)

    assert found.certificates[0].outcome == "converged"
    _assert_stable(function, equation, found.outputs[0][0])


@pytest.mark.parametrize("function", ["solve_care", "solve_dare"])
def test_identity_and_zeros_change_nothing_but_rounding(function: str) -> None:
    """E = I and S = 0 are the equation without them."""
    general = {**PLAIN, "e": np.eye(4), "s": np.zeros((4, 2))}

    plain, found = (_call(function, equation).outputs[0] for equation in (PLAIN, general))

    np.testing.assert_allclose(found, plain, rtol=1e-10)


@pytest.mark.parametrize("weight", [1e-200, 1e280])
def test_units_of_cost_do_not_matter(weight: float) -> None:
    """Costs in another currency scale the solution and nothing else."""
    equation = _random(4, 2, more="s")
    costly = {name: x * weight if name in "qrs" else x for name, x in equation.items()}

    scaled = _call("solve_dare", costly).outputs[0] / weight

    np.testing.assert_allclose(scaled, _call("solve_dare", equation).outputs[0], rtol=1e-9)
