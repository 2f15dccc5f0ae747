"""Riccati equations of small order in many digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mpmath
import numpy as np

if TYPE_CHECKING:
    from evaluating import Array

__all__ = ["distance", "truth"]


def truth(function: str, inputs: dict[str, Array], x: Array) -> tuple[Array, Array]:
    """The solution near X by Newton's method in 40 digits, and its gain, rounded to double precision."""
    order = len(x)
    full = {"e": np.eye(order)[None], "s": np.zeros_like(inputs["b"])} | inputs
    with mpmath.workdps(40):
        a, b, q, r, e, s, y = (mpmath.matrix(m.astype(complex).tolist()) for m in (*(full[n][0] for n in "abqres"), x))
        ah, bh, eh, sh = (m.transpose_conj() for m in (a, b, e, s))
        for _ in range(5):
            is_care = function == "solve_care"
            gain = r**-1 * (bh * y * e + sh) if is_care else (r + bh * y * b) ** -1 * (bh * y * a + sh)
            linear = ah * y * e + eh * y * a if is_care else ah * y * a - eh * y * e
            held = bh * y * e + sh if is_care else bh * y * a + sh
            loop, missing = a - b * gain, linear - held.transpose_conj() * gain + q
            pairs = [(loop, e, 1), (e, loop, 1)] if is_care else [(loop, loop, 1), (e, e, -1)]
            system = mpmath.matrix(order**2, order**2)
            for left, right, sign in pairs:
                for i, j, k, m in np.ndindex(order, order, order, order):
                    system[i * order + j, k * order + m] += sign * mpmath.conj(left[k, i]) * right[m, j]
            step = mpmath.lu_solve(system, -mpmath.matrix([missing[i, j] for i, j in np.ndindex(order, order)]))
            y += mpmath.matrix([[step[i * order + j] for j in range(order)] for i in range(order)])
            y = (y + y.transpose_conj()) / 2
        return np.array(y.tolist(), dtype=complex), np.array(gain.tolist(), dtype=complex)


def distance(x: Array, exact: Array) -> float:
    """Relative error; 0 where both are zero."""
    off, size = float(np.linalg.norm(x - exact)), float(np.linalg.norm(exact))
    return off / size if off else 0.0
