"""The gains of Riccati equations: within the estimates, and only where they are asked for."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from evaluating import EPS, Array, answer
from honesty import assert_covered, estimate_of
from matfn_kernels import ENTRIES, Rejection
from matfn_kernels.contract.functions import FUNCTIONS
from riccati_truth import distance, truth

FUNCTIONS_WITH_GAINS: Final = ["solve_care", "solve_dare"]
KINDS: Final = ["plain", "no weight", "cheap", "expensive", "other units", "cross term", "descriptor", "both"]


def equation(kind: str, dtype: str, seed: int = 0) -> dict[str, Array]:
    """An equation of order 3 with two inputs, exact in its dtype."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])

    def gauss(*shape: int) -> Array:
        real: Array = rng.standard_normal(shape)
        return real + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else real

    c, d = gauss(3, 3), gauss(2, 2)
    found = {"a": gauss(3, 3), "b": gauss(3, 2), "q": c @ c.conj().T + np.eye(3), "r": d @ d.conj().T + np.eye(2)}
    found["q"] = found["q"] * (0 if kind == "no weight" else 1)
    found["r"] = found["r"] * {"cheap": 1e-6, "expensive": 1e6}.get(kind, 1.0)
    if kind in {"cross term", "both"}:
        found["s"] = gauss(3, 2) / 4
    if kind in {"descriptor", "both"}:
        found["e"] = np.linalg.qr(gauss(3, 3))[0] * np.array([1.0, 0.5, 0.1])
    if kind == "other units":
        states, inputs = 10.0 ** np.array([-3, 0, 2]), np.array([1e2, 1e-2])
        found["a"], found["b"] = states[:, None] * found["a"] / states, states[:, None] * found["b"] * inputs
        found["q"], found["r"] = found["q"] / states / states[:, None], found["r"] * inputs * inputs[:, None]
    found = {name: (x + x.conj().T) / 2 if name in "qr" else x for name, x in found.items()}
    return {name: x.astype(dtype)[None] for name, x in found.items()}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
def test_gain_and_solution_are_within_the_estimate(function: str, kind: str, dtype: str) -> None:
    """Both errors against 40 digits are within the one estimate and within 50 eps kappa."""
    inputs = equation(kind, dtype)

    found = answer(function, inputs, gain=True)
    x, gain = (output[0].astype(complex) for output in found.outputs)
    error = max(map(distance, (x, gain), truth(function, inputs, x)))

    assert [output.dtype for output in found.outputs] == [np.dtype(dtype)] * 2
    assert_covered(error, found.certificates, slack=EPS["float64"])
    assert found.certificates[0].condition is not None
    assert error <= 50 * EPS[dtype] * found.certificates[0].condition


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
def test_gain_stabilises(function: str) -> None:
    """The closed loop A - B K has its eigenvalues where they belong."""
    inputs = equation("plain", "float64")

    _, gain = answer(function, inputs, gain=True).outputs
    values = np.linalg.eigvals(inputs["a"] - inputs["b"] @ gain)

    assert (values.real.max() if function == "solve_care" else abs(values).max() - 1) < 0


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
@pytest.mark.parametrize("unit", [2.0**660, 2.0**-660])
def test_no_unit_of_cost_matters(function: str, unit: float) -> None:
    """The gain of costs in other units is the same, and so are its error and its condition, to rounding."""
    inputs = equation("both", "float64")
    costs = {name: x * unit if name in "qrs" else x for name, x in inputs.items()}

    usual, other = answer(function, inputs, gain=True), answer(function, costs, gain=True)

    np.testing.assert_allclose(other.outputs[1], usual.outputs[1], rtol=1e-11)
    for name in ("error_estimate", "condition"):
        stated = [getattr(found.certificates[0], name) for found in (other, usual)]
        assert stated[0] == pytest.approx(stated[1], rel=0.5)


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
def test_without_a_hold_the_gain_is_that_of_the_cross_term(function: str) -> None:
    """R^-1 S^H for B = 0 and a stable A, and 0 without S."""
    inputs = equation("cross term", "float64")
    inputs |= {"a": inputs["a"] * 0.1 - (0.5 * np.eye(3) if function == "solve_care" else 0), "b": 0 * inputs["b"]}
    exact = np.linalg.solve(inputs["r"], inputs["s"].swapaxes(-1, -2))

    found = answer(function, inputs, gain=True)
    plain = answer(function, {name: inputs[name] for name in "abqr"}, gain=True)

    np.testing.assert_allclose(found.outputs[1], exact, rtol=1e-12)
    assert not plain.outputs[1].any()
    assert [one.certificates[0].outcome for one in (found, plain)] == ["converged"] * 2


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
def test_solution_is_that_without_the_gain(function: str) -> None:
    """To the estimates of both; without a request there is one output."""
    inputs = equation("both", "float64")

    alone, both = answer(function, inputs), answer(function, inputs, gain=True)

    assert (len(alone.outputs), len(both.outputs)) == (1, 2)
    estimates = [estimate_of(found) for found in (alone, both)]
    assert distance(alone.outputs[0], both.outputs[0]) <= sum(estimates)


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
def test_a_failed_matrix_has_no_gain(function: str) -> None:
    """NaN in both outputs, and the others have theirs."""
    inputs = equation("plain", "float64")
    held = {name: np.concatenate([x, x]) for name, x in inputs.items()}
    held["a"][0], held["b"][0] = 2 * np.eye(3), 0

    found = answer(function, held, gain=True, on_failure="nan")

    assert [one.code for one in found.certificates] == ["not_stabilisable", None]
    assert all(np.isnan(output[0]).all() for output in found.outputs)
    assert all(np.isfinite(output[1]).all() for output in found.outputs)


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
@pytest.mark.parametrize(("items", "order"), [(0, 3), (2, 0)])
def test_nothing_has_a_gain_of_nothing(function: str, items: int, order: int) -> None:
    """Of no matrices, and of matrices of order 0."""
    shapes = {"a": (order, order), "b": (order, 2), "q": (order, order), "r": (2, 2)}
    inputs = {name: np.tile(np.eye(*shape), (items, 1, 1)) for name, shape in shapes.items()}

    found = answer(function, inputs, gain=True)

    assert [x.shape for x in found.outputs] == [(items, order, order), (items, 2, order)]


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
def test_gains_do_not_change_with_the_batch(function: str) -> None:
    """A gain has the same bits alone and beside others."""
    pieces = [equation("plain", "float64", seed) for seed in range(3)]
    together = answer(function, {name: np.concatenate([one[name] for one in pieces]) for name in "abqr"}, gain=True)

    alone = [answer(function, one, gain=True) for one in pieces]

    for place, one in enumerate(alone):
        assert all(np.array_equal(x[0], y[place]) for x, y in zip(one.outputs, together.outputs, strict=True))
        assert one.certificates[0] == together.certificates[place]


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
def test_outputs_on_request_are_in_the_catalogue(function: str) -> None:
    """By name, shape and parameter; a verification has neither."""
    entry = FUNCTIONS[function]

    assert entry.outputs_of((), {"gain": False}) == ("x",)
    assert entry.outputs_of((), {"gain": True}) == ("x", "y")
    assert entry.output_elements({"n": 5, "m": 2}, {"gain": True}) == (25, 10)
    claimed = ENTRIES[f"verify/{function}"]
    assert claimed.claims == ("x",)
    assert "gain" not in {parameter.name for parameter in claimed.parameters}


@pytest.mark.parametrize("function", FUNCTIONS_WITH_GAINS)
def test_doubling_serves_plain_equations(function: str) -> None:
    """With the gain and without; naming doubling for a cross term is refused."""
    inputs = equation("plain", "float64")

    for gain in (False, True):
        assert answer(function, inputs, gain=gain).certificates[0].method == "doubling"
    with pytest.raises(Rejection, match="method='doubling' does not serve"):
        answer(function, equation("cross term", "float64"), method="doubling")
