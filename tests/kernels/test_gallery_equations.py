"""Equations and subspaces of textbook matrices against 60-digit truth."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import Array, answer
from gallery import ANY, DIGITS, N, accurate, exact, general_function, plain

ORDER = 5
"""Of A and B: the truth solves a system of their product."""


@pytest.fixture(autouse=True)
def _digits() -> Any:
    with mpmath.workdps(DIGITS):
        yield


def _solution(a: Array, b: Array, q: Array) -> Array:
    """X by the Kronecker system of A X + X B = Q."""
    system = mpmath.matrix(ORDER**2, ORDER**2)
    for i, j, k in np.ndindex(ORDER, ORDER, ORDER):
        system[i * ORDER + j, k * ORDER + j] += mpmath.mpf(float(a[i, k]))
        system[i * ORDER + j, i * ORDER + k] += mpmath.mpf(float(b[k, j]))
    x = mpmath.lu_solve(system, mpmath.matrix(q.astype(float).ravel().tolist()))
    return np.array([float(value) for value in x]).reshape(ORDER, ORDER)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ["solve_sylvester", "solve_lyapunov"])
@pytest.mark.parametrize("name", ANY)
def test_solutions_with_textbook_coefficients(name: str, function: str, dtype: str) -> None:
    """Leading and trailing blocks as coefficients, and a right side that favours no direction."""
    a, b = ANY[name][:ORDER, :ORDER].astype(dtype), ANY[name][N - ORDER :, N - ORDER :].astype(dtype)
    q = np.cos(np.arange(ORDER**2)).reshape(ORDER, ORDER).astype(dtype)
    inputs = {"a": a, "b": b, "q": q} if function == "solve_sylvester" else {"a": a, "q": q}

    found = answer(function, inputs)

    accurate(found, _solution(a, inputs.get("b", a.T), q))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("half", ["right", "left"])
@pytest.mark.parametrize(
    "name", ["clustered", "companion", "frank", "grcar", "hilbert", "kahan", "toeplitz", "wilkinson"]
)
def test_projectors_of_textbook_matrices(name: str, half: str, dtype: str) -> None:
    """The half of the spectrum on either side of its middle."""
    a = ANY[name].astype(dtype)
    middle = np.sort(np.linalg.eigvals(a.astype(float)).real)[N // 2 - 1 : N // 2 + 1].mean()
    a = (a - np.asarray(middle, dtype) * np.eye(N, dtype=dtype)).astype(dtype)
    side = 1 if half == "right" else -1

    found = answer("spectral_projector", {"a": a}, half=half)

    accurate(found, general_function(a, lambda x: (1 + side * mpmath.sign(mpmath.re(x))) / 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4])
def test_projectors_beside_the_imaginary_axis(distance: float, dtype: str) -> None:
    """Pairs of eigenvalues close to the axis on either side, coupled."""
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    a = np.kron(np.diag([distance, -distance]), np.eye(2)) + np.kron(np.diag([1.0, 2.0]), turn)
    a[:2, 2:] = [[1.0, 0.5], [0.25, 2.0]]

    found = answer("spectral_projector", {"a": a.astype(dtype)})

    accurate(found, general_function(a.astype(dtype), lambda x: (1 + mpmath.sign(mpmath.re(x))) / 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("name", sorted(ANY.keys() - {"companion"}))
def test_triangular_solutions_of_textbook_matrices(name: str, dtype: str, *, transpose: bool) -> None:
    """Systems with the upper triangle or its transpose."""
    t = np.triu(ANY[name].astype(dtype))
    b = np.sin(np.arange(3.0 * N)).reshape(N, 3).astype(dtype)

    found = answer("tri_solve", {"t": t, "b": b}, lower=False, transpose=transpose)

    accurate(found, plain(exact(t.T if transpose else t) ** -1 * exact(b)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["cauchy", "frank", "hilbert", "lehmer", "pascal", "toeplitz"])
def test_low_rank_systems_of_textbook_generators(name: str, dtype: str) -> None:
    """diag(l) + tril(Q K^T, -1) with columns of textbook matrices as generators, inverted and solved with."""
    diag, q, k = (x.astype(dtype) for x in (np.linspace(1, 2, N), ANY[name][:, :3] / 4, ANY[name].T[:, 3:6] / 4))
    products = exact(q) * exact(k).T
    matrix = mpmath.matrix(N, N)
    for i in range(N):
        matrix[i, i] = mpmath.mpf(float(diag[i]))
        for j in range(i):
            matrix[i, j] = products[i, j]
    b = np.sin(np.arange(3.0 * N)).reshape(N, 3).astype(dtype)

    inverse = answer("dplr_inv", {"diag": diag, "q": q, "k": k})
    solution = answer("dplr_solve", {"diag": diag, "q": q, "k": k, "b": b})

    accurate(inverse, plain(matrix**-1))
    accurate(solution, plain(matrix**-1 * exact(b)))
