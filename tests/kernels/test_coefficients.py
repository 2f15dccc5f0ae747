"""The minimax solver against published digits and against its own definition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from matfn_kernels.numbers.coefficients import BOUNDS, CUSHION, ROOTS, Step, minimax_step, safe, schedule, taylor_step

REFERENCE: dict[str, list[list[float]]] = json.loads((Path(__file__).parent / "data" / "coefficients.json").read_text())


def test_solver_reproduces_reference_digits() -> None:
    """Every table solved in 60 digits is met to 1e-13 where a step has an effect, and to its error in the tail."""
    for key, rows in REFERENCE.items():
        name, bound, cushion = key.split("|")
        r = 2 if name == "msign" else int(name)
        x = float(bound) if name == "msign" else float(bound) ** (1 / r)
        for step, row in zip(schedule(r, x, cushion=float(cushion)), rows, strict=False):
            accuracy = 1e-13 if row[3] > 1e-4 else 1e-6
            np.testing.assert_allclose((step.a, step.b, step.c), row[:3], rtol=accuracy, err_msg=key)
            assert step.error == pytest.approx(row[3], rel=1e-6, abs=1e-14), key


@pytest.mark.parametrize("r", ROOTS)
@pytest.mark.parametrize("bound", BOUNDS)
def test_schedule_takes_the_interval_to_one(r: int, bound: float) -> None:
    """Each step's error is the worst over the whole interval, and the last is at rounding."""
    x = np.concatenate([np.geomspace(bound ** (1 / r), 1, 4001)])
    steps = schedule(r, bound ** (1 / r))

    for step in steps:
        x = x * (step.a + step.b * x**r + step.c * x ** (2 * r))
        assert np.abs(x - 1).max() == pytest.approx(step.error, rel=0.02, abs=4e-15)

    assert np.abs(x - 1).max() < 1e-14


@pytest.mark.parametrize("r", [9, 16, 33, 64])
def test_any_root_has_a_schedule(r: int) -> None:
    """Roots beyond the tables are solved on demand and converge as well."""
    steps = schedule(r, 1e-8 ** (1 / r))

    assert len(steps) <= 12
    assert steps[-1].error < 1e-14


def test_step_equioscillates() -> None:
    """The error of a step has the same size, with alternating sign, at four points of its interval."""
    a, b, c = minimax_step(3, 0.05, 1.0)
    x = np.linspace(0.05, 1, 200_001)
    error = 1 - x * (a + b * x**3 + c * x**6)
    turning = np.flatnonzero(np.diff(np.sign(np.diff(error)))) + 1

    extremes = error[[0, *turning, -1]]

    assert len(extremes) == 4
    np.testing.assert_allclose(extremes * [1, -1, 1, -1], extremes[0], rtol=1e-6)


@pytest.mark.parametrize("r", [1, 2, 3, 4, 7])
def test_taylor_step_is_cubic(r: int) -> None:
    """The tail cubes the distance from 1."""
    a, b, c = taylor_step(r)
    distances = np.array([1e-2, 1e-3])
    x = 1 - distances
    after = np.abs(1 - x * (a + b * x**r + c * x ** (2 * r)))

    assert np.log10(after[0] / after[1]) == pytest.approx(3, abs=0.1)


def test_safety_spares_the_tail() -> None:
    """The safety factor lowers early steps and leaves converging ones as they are."""
    steps = (Step(3.0, -2.0, 0.5, 0.9), Step(1.875, -1.25, 0.375, 1e-3))

    early, late = safe(steps, 2, 1.01)

    assert early == pytest.approx((3.0 / 1.01, -2.0 / 1.01**3, 0.5 / 1.01**5))
    assert late == (1.875, -1.25, 0.375)


def test_cushion_keeps_large_values_off_the_floor() -> None:
    """With the cushion no x in the upper tenth is mapped near the lower bound by the first step."""
    x = np.linspace(0.1, 1, 1001)

    cushioned = schedule(2, 1e-7, cushion=CUSHION)[0]
    bare = schedule(2, 1e-7, cushion=0.0)[0]

    assert (x * (cushioned.a + cushioned.b * x**2 + cushioned.c * x**4)).min() > 0.01
    assert (x * (bare.a + bare.b * x**2 + bare.c * x**4)).min() < 1e-4
