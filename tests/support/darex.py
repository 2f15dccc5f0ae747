"""Discrete Riccati equations of the kinds that Benner, Laub and Mehrmann collected (DAREX, Chemnitz SPC 95-23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DAREX", "SOLUTIONS", "Equation"]

Array: TypeAlias = "NDArray[Any]"
Equation: TypeAlias = "dict[str, Array]"

GOLDEN: Final = (1 + 5**0.5) / 2
_REFLECTION: Final = np.eye(3) - 2 / 3 * np.ones((3, 3))


def _equation(a: Any, b: Any, q: Any, r: Any, s: Any = None) -> Equation:
    named = {"a": a, "b": b, "q": q, "r": r} | ({} if s is None else {"s": s})
    return {name: np.array(matrix, dtype=float) for name, matrix in named.items()}


def _reflected(*values: float) -> Array:
    """V diag(values) V for the reflection V along (1, 1, 1)."""
    found: Array = (_REFLECTION * np.array(values)) @ _REFLECTION
    return (found + found.T) / 2


def _delayed(order: int, weight: float) -> Equation:
    """A chain of delays with its input at the end."""
    last = np.eye(order)[:, -1:]
    return _equation(np.eye(order, k=1), last, np.eye(order), [[weight]])


def _petkov(scale: float) -> Equation:
    return _equation(_reflected(0, 1, 3), np.eye(3), scale * np.eye(3), scale * np.eye(3))


def _mixing(time: float) -> Equation:
    """A tank with three delays, whose time constant is large."""
    a = np.diag([1 - 1 / time, 0, 0, 0]) + np.diag([1 / time, 1, 1], -1)
    return _equation(a, [[1 / time], [0], [0], [0]], np.diag([0, 0, 0, 1]), [[0.25]])


DAREX: Final[dict[str, Equation]] = {
    "rank one weight": _equation([[4, 3], [-4.5, -3.5]], [[1], [-1]], [[9, 6], [6, 4]], [[1]]),
    "stirred tank": _equation(
        np.diag([0.9512, 0.9048]), [[4.877, 4.877], [-1.1895, 3.569]], np.diag([0.005, 0.02]), np.diag([1 / 3, 3])
    ),
    "no cost": _equation([[2, -1], [1, 0]], [[1], [0]], np.diag([0, 1]), [[0]]),
    "singular cost": _equation(
        [[0, 1], [0, -1]],
        [[1, 0], [2, 1]],
        np.array([[-4, -4], [-4, 7]]) / 11,
        [[9, 3], [3, 1]],
        [[3, 1], [-1, 7]],
    ),
    "nilpotent": _equation([[0, 1], [0, 0]], [[0], [1]], [[1, 2], [2, 4]], [[1]]),
    "satellite": _equation(
        [[0.998, 0.067, 0, 0], [-0.067, 0.998, 0, 0], [0, 0, 0.998, 0.153], [0, 0, -0.153, 0.998]],
        [[0.0033, 0.02], [0.1, -0.0007], [0.04, 0.0073], [-0.0028, 0.1]],
        [[1.87, 0, 0, -0.244], [0, 0.744, 0.205, 0], [0, 0.205, 0.589, 0], [-0.244, 0, 0, 1.048]],
        np.eye(2),
    ),
    "industrial reactor": _equation(
        [
            [0.98475, -0.079903, 0.0009054, -0.0010765],
            [0.041588, 0.99899, -0.035855, 0.012684],
            [-0.54662, 0.044916, -0.32991, 0.19318],
            [2.6624, -0.10045, -0.92455, -0.26325],
        ],
        [[0.0037112, 0.0007361], [-0.087051, 9.3411e-6], [-1.19844, -4.1378e-4], [-3.1927, 9.2535e-4]],
        0.01 * np.eye(4),
        np.eye(2),
    ),
    "nearly uncontrollable": _equation(
        [[-0.6, -2.2, -3.6, -5.400018], [1, 0.6, 0.8, 3.399982], [0, 1, 1.8, 3.799982], [0, 0, 0, -0.999982]],
        [[1, -1, -1, -1], [0, 1, -1, -1], [0, 0, 1, -1], [0, 0, 0, 1]],
        [[2, 1, 3, 6], [1, 2, 2, 5], [3, 2, 6, 11], [6, 5, 11, 22]],
        np.eye(4),
    ),
    **{f"two delays {e:g}": _equation([[0, e], [0, 0]], [[0], [1]], np.eye(2), [[1]]) for e in (1.0, 100.0, 1e6)},
    **{f"reflections {scale:g}": _petkov(scale) for scale in (1.0, 1e6, 1e-6)},
    **{f"mixing tank {time:g}": _mixing(time) for time in (10.0, 1e8)},
    **{f"{order} delays": _delayed(order, 1.0) for order in (4, 30)},
}
"""By what they describe; those with a number are families."""

SOLUTIONS: Final[dict[str, Array]] = {
    "rank one weight": GOLDEN * np.array([[9, 6], [6, 4]]),
    "no cost": np.eye(2),
    "nilpotent": np.array([[1, 2], [2, 2 + 5**0.5]]),
    **{f"two delays {e:g}": np.diag([1, 1 + e**2]) for e in (1.0, 100.0, 1e6)},
    **{f"reflections {scale:g}": scale * _reflected(1, GOLDEN, (9 + 85**0.5) / 2) for scale in (1.0, 1e6, 1e-6)},
    **{f"{order} delays": np.diag(np.arange(1.0, order + 1)) for order in (4, 30)},
}
"""X where it is known, to rounding."""
