"""The benchmark equations A^T X + X A - X B R^-1 B^T X + Q = 0 of Benner, Laub and Mehrmann, from their definitions.

Reference: Benner, Laub and Mehrmann, A collection of benchmark examples for the numerical solution of algebraic Riccati
equations I (CAREX), Technical Report SPC 95_22, TU Chemnitz-Zwickau (1995). Examples 6 and 20 are measured systems.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CAREX", "Equation", "measured"]

Array: TypeAlias = "NDArray[Any]"
Equation: TypeAlias = "tuple[Array, Array, Array, Array]"
I = np.eye


def measured(example: int) -> Equation:
    """An example whose numbers are data, which SciPy ships with its tests."""
    with np.load(str(files("scipy.linalg.tests") / "data" / f"carex_{example}_data.npz")) as data:
        return data["A"], data["B"], data["Q"], data["R"]


def _aircraft() -> Equation:
    a = [[0, 1, 0, 0], [0, -1.89, 0.39, -5.53], [0, -0.034, -2.98, 2.43], [0.034, -0.0011, -0.99, -0.21]]
    q = [
        [2.313, 2.727, 0.688, 0.023],
        [2.727, 4.271, 1.148, 0.323],
        [0.688, 1.148, 0.313, 0.102],
        [0.023, 0.323, 0.102, 0.083],
    ]
    return np.array(a), np.array([[0, 0], [0.36, -1.6], [-0.95, -0.032], [0.03, 0]]), np.array(q), I(2)


def _column() -> Equation:
    """A binary distillation column."""
    a = np.diag([-0.991, -1.051, -1.118, -1.548, -1.64, -1.721, -1.823, -1.943])
    a += np.diag([0.529, 0.596, 0.596, 0.718, 0.799, 0.901, 1.021], 1)
    a += np.diag([0.522, 0.522, 0.522, 0.922, 0.922, 0.922, 0.922], -1)
    b = [[3.84, 4, 37.6, 3.08, 2.36, 2.88, 3.08, 3], [-2.88, -3.04, -2.8, -2.32, -3.32, -3.82, -4.12, -3.96]]
    q = np.diag([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])
    for i, j, value in ((0, 4, 0.5), (0, 7, 0.1), (1, 4, 0.1), (2, 5, 0.5)):
        q[i, j] = q[j, i] = value
    return a, np.array(b).T / 1000, q, I(2)


def _reactor() -> Equation:
    """A tubular ammonia reactor."""
    a = [
        [-4.019, 5.12, 0, 0, -2.082, 0, 0, 0, 0.87],
        [-0.346, 0.986, 0, 0, -2.34, 0, 0, 0, 0.97],
        [-7.909, 15.407, -4.069, 0, -6.45, 0, 0, 0, 2.68],
        [-21.816, 35.606, -0.339, -3.87, -17.8, 0, 0, 0, 7.39],
        [-60.196, 98.188, -7.907, 0.34, -53.008, 0, 0, 0, 20.4],
        [0, 0, 0, 0, 94, -147.2, 0, 53.2, 0],
        [0, 0, 0, 0, 0, 94, -147.2, 0, 0],
        [0, 0, 0, 0, 0, 12.8, 0, -31.6, 0],
        [0, 0, 0, 0, 12.8, 0, 0, 18.8, -31.6],
    ]
    b = np.zeros((9, 3))
    b[:5, 0] = 0.010, 0.003, 0.009, 0.024, 0.068
    b[:5, 1] = -0.011, -0.021, -0.059, -0.162, -0.445
    b[0, 2] = -0.151
    return np.array(a), b, I(9), I(3)


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


def _integrators(order: int, output: float = 1.0, cost: float = 1.0) -> Equation:
    first = I(order)[:1]
    return np.eye(order, k=1), I(order)[:, -1:], output * first.T @ first, cost * I(1)


def _heat(order: int) -> Equation:
    """One-dimensional heat flow in linear finite elements, heated and measured between 0.2 and 0.3."""
    width, neighbours = 1 / (order + 1), np.eye(order, k=1) + np.eye(order, k=-1)
    mass = (4 * I(order) + neighbours) * width / 6
    part = _under_the_hats(order, 0.3) - _under_the_hats(order, 0.2)
    return (
        np.linalg.solve(mass, (neighbours - 2 * I(order)) * 0.01 / width),
        np.linalg.solve(mass, part[:, None]),
        np.outer(part, part),
        I(1),
    )


def _under_the_hats(order: int, end: float) -> Array:
    """Integrals up to `end` of the piecewise linear functions that are 1 at one node."""
    width = 1 / (order + 1)
    steps = np.clip(end / width - np.arange(1, order + 1), -1, 1)
    return np.asarray(width * np.where(steps < 0, (1 + steps) ** 2, 2 - (1 - steps) ** 2) / 2)


def _springs(masses: int) -> Equation:
    """Masses between springs and dampers, pushed at both ends."""
    stiffness = 2 * I(masses) - np.eye(masses, k=1) - np.eye(masses, k=-1)
    stiffness[0, 0] = stiffness[-1, -1] = 1
    a = np.block([[np.zeros((masses, masses)), I(masses)], [-stiffness / 4, -I(masses)]])
    b = np.zeros((2 * masses, 2))
    b[masses, 0], b[-1, 1] = 0.25, -0.25
    return a, b, I(2 * masses), I(2)


CAREX: dict[str, Equation] = {
    "double integrator": (np.eye(2, k=1), np.array([[0.0], [1]]), np.diag([1.0, 2]), I(1)),
    "stabilisable": (np.array([[4, 3], [-4.5, -3.5]]), np.array([[1.0], [-1]]), np.array([[9.0, 6], [6, 4]]), I(1)),
    "aircraft": _aircraft(),
    "distillation column": _column(),
    "reactor": _reactor(),
    **{
        f"weak input {e:g}": (np.diag([1.0, -2]), np.array([[e], [0]]), np.ones((2, 2)), I(1))
        for e in (1, 1e-6, 1e-8, 1e-12)
    },
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
        for e in (1.0, 1e-4, 1e-6, 0.0)
    },
    **{f"scaled states {e:g}": _scaled_states(e) for e in (1e-6, 1.0, 1e6)},
    **{f"power plant {e:g}": _power_plant(e) for e in (1.0, 1e-6)},
    **{f"oscillators {e:g}": _oscillators(e) for e in (1.0, 1e-3, 1e-6)},
    "vehicles": _string_of_vehicles(20),
    "ring": _ring(64),
    **{f"21 integrators, {q} and {r}": _integrators(21, q, r) for q, r in ((1, 1), (100, 1), (1, 100))},
    "10 integrators": _integrators(10),
    "heat": _heat(100),
    "springs": _springs(30),
}
