"""Sylvester's and Lyapunov's equations in C: errors within their estimates, and what is left to numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import torch

from evaluating import EPS, answer, candidates
from honesty import assert_covered
from matfn_kernels.linalg import native_equations as equations
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.methods.equations.native_sylvester import NativeSylvester
from matfn_kernels.methods.equations.sylvester import SylvesterProgram
from spectra import orthogonal

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Array
    from matfn_kernels.programs.findings import Findings

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")


def _truth(a: Array, b: Array, q: Array) -> Array:
    """The solution of the Kronecker system in 60 digits, rounded to extended precision."""
    rows, columns = q.shape
    system = np.kron(a, np.eye(columns)), np.kron(np.eye(rows), b.T)
    with mpmath.workdps(60):
        whole = mpmath.matrix(system[0].tolist()) + mpmath.matrix(system[1].tolist())
        found = mpmath.lu_solve(whole, mpmath.matrix(q.flatten().tolist()))
        parts = [(float(value), float(value - mpmath.mpf(float(value)))) for value in found]
    leads, rests = (np.array(part, dtype=np.longdouble).reshape(q.shape) for part in zip(*parts, strict=True))
    return np.asarray(leads + rests)


def _error(x: Array, truth: Array) -> float:
    gap = x.astype(np.longdouble) - truth
    return float(np.sqrt((gap * gap).sum() / (truth * truth).sum()))


def _blocks(rng: np.random.Generator, n: int) -> Array:
    """Complex pairs whose blocks are far from normal, each by another factor."""
    a = np.diag(rng.standard_normal(n)) + np.triu(rng.standard_normal((n, n)), 2)
    for i in range(0, n - 1, 2):
        spread = 10.0 ** rng.uniform(-5, 5)
        a[i, i + 1], a[i + 1, i] = spread, -rng.random() / spread
    return a


def _graded(rng: np.random.Generator, n: int) -> Array:
    scales = 10.0 ** rng.uniform(-3, 3, n)
    return np.asarray(scales[:, None] * rng.standard_normal((n, n)) / scales)


def _jordan(rng: np.random.Generator, n: int) -> Array:
    q = orthogonal(rng, n, n)
    return np.asarray(q @ (0.5 * np.eye(n) + 3 * np.eye(n, k=1)) @ q.T)


KINDS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "Gaussian": lambda rng, n: rng.standard_normal((n, n)),
    "stable": lambda rng, n: rng.standard_normal((n, n)) - 2 * n**0.5 * np.eye(n),
    "symmetric": lambda rng, n: np.add(a := rng.standard_normal((n, n)), a.T),
    "triangular": lambda rng, n: np.triu(rng.standard_normal((n, n))),
    "diagonal": lambda rng, n: np.diag(rng.standard_normal(n)),
    "nearly skew": lambda rng, n: np.subtract(a := rng.standard_normal((n, n)), a.T) - 1e-3 * np.eye(n),
    "graded": _graded,
    "a Jordan block": _jordan,
    "blocks": _blocks,
    "whole numbers": lambda rng, n: rng.integers(-3, 4, (n, n)) + 0.0,
    "sparse": lambda rng, n: np.where(rng.random((n, n)) < 0.5, 0, rng.standard_normal((n, n))) + np.eye(n),
}


def _inputs(a: Array, b: Array | None, q: Array) -> dict[str, Array]:
    return {"a": a, "q": q} if b is None else {"a": a, "b": b, "q": q}


def _program(inputs: dict[str, Array]) -> NativeSylvester:
    b = inputs.get("b")
    dtype = torch.from_numpy(inputs["a"]).dtype
    return NativeSylvester(SylvesterProgram(inputs["a"].shape[-1], None if b is None else b.shape[-1], (), dtype))


def _run(inputs: dict[str, Array], program: NativeSylvester | SylvesterProgram | None = None) -> Findings:
    return (program or _program(inputs)).run({name: torch.from_numpy(x) for name, x in inputs.items()})


def _value(found: Findings) -> Array:
    exponent = found.exponents[0]
    assert exponent is not None
    return np.asarray(np.ldexp(found.outputs[0].numpy(), exponent.numpy()[:, None, None]))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("shape", [(1, None), (2, None), (4, None), (5, None), (1, 3), (4, 2), (3, 5)])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_solutions_are_within_their_estimates(kind: str, shape: tuple[int, int | None]) -> None:
    """The error of each matrix in a batch is within its estimate, and that within 50 eps kappa where it is small."""
    rng, (m, n) = np.random.default_rng(len(kind)), shape
    a = np.stack([KINDS[kind](rng, m) for _ in range(3)])
    b = None if n is None else np.stack([KINDS[kind](rng, n) for _ in range(3)])
    q = rng.standard_normal((3, m, n or m))
    q = q + q.swapaxes(1, 2) if n is None else q
    right = a.swapaxes(1, 2) if b is None else b

    found = answer("solve_lyapunov" if b is None else "solve_sylvester", _inputs(a, b, q), on_failure="nan")

    solved = [i for i, certificate in enumerate(found.certificates) if certificate.code != "singular"]
    errors = [_error(found.outputs[0][i], _truth(a[i], right[i], q[i])) for i in solved]
    certificates = [found.certificates[i] for i in solved]
    assert_covered(errors, certificates, estimated=range(len(solved) + 1))
    for certificate in certificates:
        assert certificate.condition is not None
        if certificate.condition < 1e10:
            assert certificate.error_estimate is not None
            assert certificate.error_estimate <= 50 * EPS["float64"] * certificate.condition


@pytest.mark.parametrize("kind", ["Gaussian", "stable", "symmetric", "sparse"])
@pytest.mark.parametrize("shape", [(20, None), (33, None), (17, 40), (60, 9)])
def test_larger_solutions_agree_with_those_of_numpy(kind: str, shape: tuple[int, int | None]) -> None:
    """Two programs differ by no more than both estimates, and their conditions by what 1 / sep is uncertain by."""
    rng, (m, n) = np.random.default_rng(shape[0]), shape
    a, b = (None if order is None else KINDS[kind](rng, order)[None] / order for order in (m, n))
    assert a is not None
    inputs = _inputs(a, b, rng.standard_normal((1, m, n or m)))

    ours, theirs = _run(inputs), _run(inputs, _program(inputs).usual)

    gap = np.linalg.norm(_value(ours) - _value(theirs)) / np.linalg.norm(_value(theirs))
    assert gap <= float(ours.error) + float(theirs.error)
    assert 0.25 < float(ours.condition) / float(theirs.condition) < 4


@pytest.mark.parametrize("scale", [1e-150, 1e150, 1e-300, 1e300])
def test_scale_changes_an_exponent_alone(scale: float) -> None:
    """Coefficients of any size are brought near 1 by a power of two: solution and certificate keep their bits."""
    rng, scale = np.random.default_rng(5), 2.0 ** round(np.log2(scale))
    a, b, q = rng.standard_normal((2, 5, 5)), rng.standard_normal((2, 3, 3)), rng.standard_normal((2, 5, 3))

    near, far = _run(_inputs(a, b, q)), _run(_inputs(a * scale, b * scale, q * scale))

    np.testing.assert_array_equal(_value(near), _value(far))
    assert torch.equal(near.error, far.error)
    assert torch.equal(near.condition, far.condition)


def test_equations_near_singular_ones_are_left_to_numpy() -> None:
    """A batch may hold equations of both kinds: each has the bits that it has alone."""
    rng = np.random.default_rng(6)
    a = rng.standard_normal((5, 4, 4))
    q = rng.standard_normal((5, 4, 4))
    b = np.stack([rng.standard_normal((4, 4)), -a[1].T, -a[2].T * (1 + 1e-12), np.zeros((4, 4)), a[4]])
    a[3] = 0

    together = answer("solve_sylvester", _inputs(a, b, q), on_failure="nan")
    alone = [answer("solve_sylvester", _inputs(*(x[i : i + 1] for x in (a, b, q))), on_failure="nan") for i in range(5)]

    assert [c.code == "singular" for c in together.certificates] == [False, True, False, True, False]
    assert (together.certificates[2].condition or 0) > 1e10
    for i, one in enumerate(alone):
        np.testing.assert_array_equal(together.outputs[0][i], one.outputs[0][0])
        assert together.certificates[i].error_estimate == one.certificates[0].error_estimate


def test_a_zero_right_side_has_the_solution_zero() -> None:
    """It is certified without an error, beside other equations."""
    rng = np.random.default_rng(7)
    a, q = rng.standard_normal((2, 3, 3)), np.stack([np.zeros((3, 3)), np.eye(3)])

    found = answer("solve_lyapunov", {"a": a, "q": q})

    assert not found.outputs[0][0].any()
    assert [c.error_estimate == 0 for c in found.certificates] == [True, False]


@pytest.mark.parametrize("n", [3, 16, 45])
def test_symmetric_right_sides_have_symmetric_solutions(n: int) -> None:
    """To the last bit; others have none that is symmetric."""
    rng = np.random.default_rng(n)
    a, q = rng.standard_normal((2, n, n)), rng.standard_normal((2, n, n))
    q[0] += q[0].T

    x = answer("solve_lyapunov", {"a": a, "q": q}).outputs[0]

    np.testing.assert_array_equal(x[0], x[0].T)
    assert not np.array_equal(x[1], x[1].T)


def test_errors_of_ill_conditioned_equations_are_measured() -> None:
    """Where norms bound the error loosely the estimate is the correction that the residual asks for."""
    rng = np.random.default_rng(8)
    a = rng.standard_normal((1, 4, 4))
    b = -a.swapaxes(1, 2) * (1 + 1e-7)
    q = rng.standard_normal((1, 4, 4))

    found = _run(_inputs(a, b, q))

    error = _error(_value(found)[0], _truth(a[0], b[0], q[0]))
    assert error <= float(found.error) < 0.1 * EPS["float64"] * float(found.condition)


def _of_one_direction(seed: int) -> tuple[Array, Array, Array] | None:
    """An equation of which one right side has a solution 1e10 times as large as others."""
    rng = np.random.default_rng(seed)
    b = rng.standard_normal((4, 4))
    values = np.linalg.eigvals(b)
    real = values[abs(values.imag) < 1e-12].real
    if not len(real):
        return None
    return np.array([[-real[0] * (1 + 1e-10 * (1 + rng.random()))]]), b, rng.standard_normal((1, 4))


@pytest.mark.parametrize("start", range(0, 1700, 100))
def test_rounding_in_the_one_sensitive_direction_counts(start: int) -> None:
    """Random matrices of the size of rounding have a part in it, which one of them may lack."""
    for seed in range(start, start + 100):
        equation = _of_one_direction(seed)
        if equation is None:
            continue
        a, b, q = equation

        found = answer("solve_sylvester", _inputs(a[None], b[None], q[None]), on_failure="nan")

        if found.certificates[0].code != "singular":
            error = _error(found.outputs[0][0], _truth(a, b, q))
            assert_covered(error, found.certificates, estimated=range(2))


@pytest.mark.parametrize(
    ("function", "inputs", "serves"),
    [
        ("solve_lyapunov", {"a": np.eye(3), "q": np.eye(3)}, True),
        ("solve_sylvester", {"a": np.eye(3, dtype="f4"), "b": np.eye(2, dtype="f4"), "q": np.ones((3, 2), "f4")}, True),
        ("solve_lyapunov", {"a": np.eye(3), "q": np.eye(3), "e": np.eye(3)}, False),
        ("solve_lyapunov", {"a": np.eye(3) + 0j, "q": np.eye(3) + 0j}, False),
        ("solve_lyapunov", {"a": np.eye(300), "q": np.eye(300)}, False),
    ],
)
def test_real_equations_without_a_descriptor_are_solved_in_c(function: str, inputs: Any, serves: bool) -> None:
    """Others, and large ones, are solved by numpy and LAPACK one by one."""
    programs = dict(candidates(function, inputs))

    assert any(isinstance(program, NativeSylvester) for program in programs) == serves


@pytest.mark.parametrize("order", [1, 2, 7, 20, 50])
@pytest.mark.parametrize("turned", [False, True])
def test_real_schur_forms_are_quasi_triangular(order: int, turned: bool) -> None:
    """U T U^T is the matrix or its transpose, and blocks have two rows."""
    a = torch.from_numpy(np.random.default_rng(order).standard_normal((3, order, order)))

    t, u = (x.mT for x in equations.real_schur_forms(a, turned=turned))

    size = float(a.norm()) * order * EPS["float64"]
    assert float((u @ t @ u.mT - (a.mT if turned else a)).norm()) < 10 * size
    assert float((u.mT @ u - torch.eye(order, dtype=a.dtype)).norm()) < 10 * order * EPS["float64"]
    assert not torch.tril(t, -2).any()
    below = torch.diagonal(t, -1, 1, 2)
    assert not (below[:, 1:] * below[:, :-1]).any()
