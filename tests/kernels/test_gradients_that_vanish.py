"""Gradients that vanish by cancellation are certified as right to rounding; wrong gradients are not excused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch

from evaluating import EPS, answer
from honesty import certified_error, estimate_of, least_size
from matfn_kernels import ENTRIES, Outcome
from matfn_kernels.methods.gradients.program import Gradient
from spectra import orthogonal

if TYPE_CHECKING:
    from evaluating import Answer, Array

RNG: Final = np.random.default_rng(5)
ANY: Final = RNG.integers(-4, 5, (3, 3)).astype(float)
SYMMETRIC, SKEW = ANY + ANY.T, ANY - ANY.T
"""Of small whole numbers, which every dtype has exactly."""
SPD: Final = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]])
M: Final = np.array([[2.0, 1.0, 0.0], [0.5, 3.0, 1.0], [-1.0, 0.25, 2.0]])
TALL: Final = np.concatenate([M, [[1.0, -2.0, 0.5]]])
LOWER: Final = np.array([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [-1.0, 0.25, 4.0]])
PLAIN: Final = {
    "diag": np.array([1.0, 2.0, 0.5]),
    "q": np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.25]]),
    "k": np.array([[-1.0, 0.5], [2.0, 1.0], [0.5, 0.5]]),
    "b": np.array([[1.0, 2.0], [-1.0, 0.5], [3.0, 1.0]]),
}
MEAN: Final = np.array([1.0, 2.0, 3.0])


def _one_hot(i: int, j: int, columns: int = 3) -> Array:
    found = np.zeros((3, columns))
    found[i, j] = 1.0
    return found


@dataclass(frozen=True)
class Case:
    """A call whose gradients in some inputs are 0 in exact arithmetic."""

    label: str
    function: str
    inputs: dict[str, Any]
    zero: tuple[str, ...]
    keywords: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.function}-{self.label}"


def _case(label: str, function: str, inputs: dict[str, Any], *zero: str, **keywords: Any) -> Case:
    return Case(label, function, inputs, zero, keywords)


CASES: Final = [
    _case("upper triangle", "tri_inv", {"x": _one_hot(0, 2), "t": LOWER}, "t"),
    _case("what is not read", "tri_inv", {"x": _one_hot(0, 2), "t": LOWER + np.triu(1e6 * ANY, 1)}, "t"),
    _case("upper triangle", "tri_solve", {"x": _one_hot(0, 0, 1), "t": LOWER, "b": _one_hot(2, 0, 1)}, "t"),
    _case(
        "unit diagonal alone",
        "tri_solve",
        {"x": _one_hot(0, 0, 1), "t": np.eye(3), "b": _one_hot(2, 0, 1)},
        "t",
        unit_diagonal=True,
    ),
    _case("symmetric at the identity", "msign", {"x": SYMMETRIC, "m": np.eye(3)}, "m"),
    _case("the matrix itself", "msign", {"x": M, "m": M}, "m"),
    _case("the matrix itself, tall", "msign", {"x": TALL, "m": TALL}, "m"),
    _case("the matrix itself, wide", "msign", {"x": TALL.T, "m": TALL.T}, "m"),
    _case("tiny and huge", "msign", {"x": M * 2.0**60, "m": M * 2.0**-60}, "m"),
    _case("all clipped", "mclip", {"x": M, "m": M}, "m", hi=0.125),
    _case("skew inside, at the identity", "eig_clip", {"x": SKEW, "a": np.eye(3)}, "a", hi=2.0),
    _case("skew inside", "eig_clip", {"x": SKEW, "a": SPD}, "a", lo=0.0, hi=32.0),
    _case("all clipped", "eig_clip", {"x": ANY, "a": SPD}, "a", hi=0.125),
    _case("skew", "root", {"x": SKEW, "a": SPD}, "a", r=2),
    _case("skew", "inv_root", {"x": SKEW, "a": SPD}, "a", r=4),
    _case("skew", "sqrt_pair", {"x": SKEW, "y": SKEW, "a": SPD}, "a"),
    _case("skew", "log", {"x": SKEW, "a": SPD}, "a"),
    _case("skew", "exp", {"x": SKEW, "a": SYMMETRIC}, "a"),
    _case("skew", "power", {"x": SKEW, "a": SPD}, "a", p=0.3),
    _case("skew", "power", {"x": SKEW, "a": SYMMETRIC}, "a", p=3),
    _case("outputs that cancel", "sqrt_pair", {"x": SYMMETRIC, "y": SYMMETRIC, "a": np.eye(3)}, "a"),
    _case("skew", "geometric_mean", {"x": SKEW, "a": SPD, "b": SPD + np.eye(3)}, "a", "b"),
    _case(
        "apart",
        "solve_sylvester",
        {"x": _one_hot(0, 0), "a": 2 * np.eye(3), "b": np.eye(3), "q": _one_hot(2, 2)},
        "a",
        "b",
    ),
    _case("skew", "solve_lyapunov", {"x": SKEW, "a": np.eye(3), "q": SYMMETRIC}, "a"),
    _case("skew", "solve_discrete_lyapunov", {"x": SKEW, "a": np.eye(3) / 2, "q": SYMMETRIC}, "a"),
    *(
        _case("skew", f, {"x": SKEW, "a": M, "b": np.eye(3)[:, 1:], "q": SPD, "r": np.eye(2)}, "a", "b", "q", "r")
        for f in ("solve_care", "solve_dare")
    ),
    _case("symmetric, of a diagonal", "eigh", {"y": SYMMETRIC, "a": np.diag([1.0, 2.0, 4.0])}, "a"),
    _case("skew", "polar", {"y": SKEW, "m": M}, "m"),
    _case("the second alone, skew, wide", "polar", {"y": np.pad(SKEW, (0, 1)), "m": TALL.T}, "m"),
    *(
        _case(f"first row {kind}", "dplr_solve", {"x": _one_hot(0, 0, 2), **inputs}, "q", "k")
        for kind, inputs in {
            "alone": PLAIN,
            "of a diagonal": {**PLAIN, "q": np.zeros((3, 2))},
            "of nothing": {**PLAIN, "q": np.zeros((3, 2)), "k": np.zeros((3, 2)), "b": np.zeros((3, 2))},
        }.items()
    ),
    _case("last row, transposed", "dplr_solve", {"x": _one_hot(2, 1, 2), **PLAIN}, "q", "k", transpose=True),
    _case(
        "equal Gaussians",
        "frechet_distance",
        {"x": np.array(1.0), "mu1": MEAN, "s1": SPD, "mu2": MEAN, "s2": SPD},
        "mu1",
        "s1",
        "mu2",
        "s2",
    ),
]


def _answered(case: Case, dtype: str) -> tuple[Answer, dict[str, Array], dict[str, float]]:
    """The answer, the gradients, and the least sizes that their errors are relative to, by input."""
    entry = ENTRIES[f"vjp/{case.function}"]
    inputs = {name: np.asarray(x).astype(dtype) for name, x in case.inputs.items()}
    found = answer(entry.name, inputs, **case.keywords)
    outputs = dict(zip(entry.outputs_of(inputs, {}), found.outputs, strict=True))
    sent = [inputs[name].astype(float) for name in entry.cotangents if name in inputs]
    values = [x.astype(float) for x, name in zip(found.outputs, entry.cotangents, strict=False) if name in inputs]
    gradients = {name: outputs[name].astype(float) for name in entry.gradients if name in inputs}
    return found, gradients, {name: least_size(inputs[name].astype(float), sent, values) for name in gradients}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_that_vanishes_is_converged(case: Case, dtype: str) -> None:
    """A gradient that is 0 comes out below its estimate, within the default tolerance and without a warning."""
    found, gradients, least = _answered(case, dtype)

    certificate, estimate = found.certificates[0], estimate_of(found)
    assert certificate.outcome is Outcome.CONVERGED
    assert estimate <= 50 * EPS[dtype] * (certificate.condition or 1)
    if case.function != "frechet_distance":  # whose errors are relative to the parts that cancel
        for name in case.zero:
            assert certified_error(gradients[name], np.zeros_like(gradients[name]), least[name]) <= estimate


def test_every_differentiable_function_has_a_case() -> None:
    """No function with gradients is left out."""
    assert {f"vjp/{case.function}" for case in CASES} == {name for name in ENTRIES if name.startswith("vjp/")}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gradient_that_vanishes_in_a_narrow_dtype_is_converged(dtype: str) -> None:
    """What rounds to 0 or below the normal numbers of a dtype is far below the least size that counts."""
    found = answer("vjp/msign", {"x": M.astype(dtype), "m": (M / 8).astype(dtype)})

    assert found.certificates[0].outcome is Outcome.CONVERGED
    assert estimate_of(found) <= float(np.finfo(dtype).eps)


def _number(x: float) -> torch.Tensor:
    return torch.tensor([x], dtype=torch.float64)


@pytest.mark.parametrize(
    ("size", "floor", "most", "error"),
    [
        (4.0, 1.0, 9.0, 0.01 / 4),
        (1.0, 1.0, 9.0, 0.01),
        (0.5, 1.0, 9.0, 0.01),
        (1e-9, 1.0, 9.0, 0.01),
        (1e-9, 1.0, 0.1, 0.1),
        (0.1, np.inf, 0.2, 0.05),
        (0.2, np.inf, 0.1, 0.05),
        (1e-9, 0.0, 9.0, np.inf),
    ],
)
def test_wrong_gradient_is_not_excused(size: float, floor: float, most: float, error: float) -> None:
    """An error of 0.01 counts by the gradient, by a larger floor, or by what the gradient is without cancellation."""
    change = _number(0.01)
    gradient = Gradient(_number(size)[:, None], change, _number(size), _number(most), 300 * change)

    found, condition, share = gradient.judged(_number(floor))

    assert float(found) == pytest.approx(error / (1 - error) if error < 1 else np.inf)
    assert float(condition) == pytest.approx(max(1.0, 3 / max(size, min(floor, most))))
    assert float(share) == pytest.approx(size / max(size, min(floor, most)))


def test_gradient_that_is_lost_is_not_excused() -> None:
    """Two singular values that are noise leave a gradient wrong and without an estimate."""
    found = answer("vjp/msign", {"x": SKEW, "m": orthogonal(RNG, 3, 3) * np.array([1.0, 1e-14, 1e-14])})

    assert found.certificates[0].outcome is Outcome.APPROXIMATE
    assert found.certificates[0].error_estimate is None
