"""Logarithms and powers of general matrices in C are those of Python, and what is in question is left to Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag

from evaluating import EPS, Array, answer
from honesty import estimate_of
from matfn_kernels.linalg.native import upper
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.methods.general_functions.at_once import AtOnce
from matfn_kernels.methods.general_functions.near_identity import NODES, PAIR, TERMS
from matfn_kernels.methods.general_functions.root_chain import REACH
from matfn_kernels.methods.general_functions.triangular import MARGIN, TriangularFunction
from matfn_kernels.reference import relative_error
from spectra import orthogonal

if TYPE_CHECKING:
    from collections.abc import Callable

GENERAL: dict[str, Any] = {"structure": "general"}
EXPONENTS = (None, 0.3, -0.5, 0.999)
compiled = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")


def _around(order: int, dtype: str = "float64", items: int = 3, radius: float = 0.5) -> Array:
    """Matrices with eigenvalues in a disc around 2."""
    rng, shape = np.random.default_rng(order), (items, order, order)
    x = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype == "complex128" else 0)
    return np.asarray(2 * np.eye(order) + radius * x / order**0.5)


def _oblique(order: int, condition: float) -> Array:
    """A matrix with eigenvalues from 1e-3 to 1 in a basis of that condition number."""
    rng = np.random.default_rng(order)
    left, right = orthogonal(rng, order, order), orthogonal(rng, order, order)
    basis = (left * condition ** -np.linspace(0, 1, order)) @ right
    return np.asarray((basis * np.geomspace(1e-3, 1, order)) @ np.linalg.inv(basis))


def _call(p: float | None) -> tuple[str, dict[str, Any]]:
    return ("log", GENERAL) if p is None else ("power", {"p": p, **GENERAL})


def _found(a: Array, p: float | None) -> AtOnce:
    return AtOnce.of(torch.from_numpy(a), torch.zeros(len(a), dtype=torch.int64), p, 0.0, None)


def _of_triangle(t: Array, p: float | None) -> tuple[Array, Any]:
    wanted = upper.UpperFunction(p, REACH, MARGIN, NODES, PAIR, TERMS)
    value, found = upper.functions(wanted, torch.from_numpy(t[None]))
    return value[0].numpy(), found


@compiled
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("order", [1, 2, 5, 33, 70])
def test_schur_forms_are_exact_where_they_can_be(order: int, dtype: str) -> None:
    """A = Q T Q^H with unitary Q and zeros below; real eigenvalues of real matrices are real, others conjugates."""
    a = torch.from_numpy(_around(order, dtype))

    t, q = upper.schur_forms(a)

    values = t.diagonal(dim1=-2, dim2=-1).numpy()
    assert float((q @ t @ q.mH - a).norm() / a.norm()) < 100 * order**0.5 * EPS["float64"]
    assert float((q.mH @ q - torch.eye(order)).norm()) < 100 * order * EPS["float64"]
    assert not t.tril(-1).any()
    if dtype == "float64":
        for one in values:
            assert sorted(one, key=lambda z: (z.real, z.imag)) == sorted(one.conj(), key=lambda z: (z.real, z.imag))


@compiled
@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("order", [1, 2, 7, 17, 33, 64])
def test_triangles_have_the_functions_that_python_finds(order: int, p: float | None) -> None:
    """Both are within their estimates of each other; steps are the same, conditions to the digits that they have."""
    t = upper.schur_forms(torch.from_numpy(_around(order, items=1)))[0][0].numpy()
    slow = TriangularFunction.of(t, p)

    value, found = _of_triangle(t, p)

    assert not found.open.any()
    assert relative_error(value, slow.value) <= float(found.error) + slow.error()
    assert found.steps.tolist() == [slow.steps]
    assert float(found.condition) == pytest.approx(slow.condition(), rel=1e-3)
    assert float(found.inverse_norm) == pytest.approx(np.linalg.norm(np.linalg.inv(t)), rel=1e-9)


@compiled
@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("condition", [1e2, 1e5])
def test_large_conditions_are_taken_in_double_precision(condition: float, p: float | None) -> None:
    """Beyond what single precision resolves the condition is still Python's."""
    t = upper.schur_forms(torch.from_numpy(_oblique(50, condition)[None]))[0][0].numpy()
    slow = TriangularFunction.of(t, p).condition()

    _, found = _of_triangle(t, p)

    assert float(found.condition) == pytest.approx(slow, rel=1e-5 if slow > 2e4 else 0.05)


@compiled
@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_ordinary_matrices_are_served(dtype: str, p: float | None) -> None:
    """Where nothing is in question no matrix goes the slow way."""
    assert all(bool(_found(_around(order, dtype), p).is_served.all()) for order in (2, 9, 32))


IN_QUESTION: dict[str, Array] = {
    "singular": np.ones((6, 6)),
    "nearly singular": _around(6)[0] @ np.diag([1, 1, 1, 1, 1, 1e-16]),
    "on the axis": orthogonal(np.random.default_rng(2), 6, 6) @ np.diag([1, 2, 3, 4, 5, -6.0]),
    "near the axis": block_diag([[-1, 1e-3], [-1e-3, -1]], np.eye(4)),
    "triangular and negative": np.triu(np.ones((6, 6))) - np.diag([0, 0, 0, 0, 0, 3.0]),
    "not finite in between": 1e300 * _around(6)[0],
}


@compiled
@pytest.mark.parametrize("p", [None, 0.3])
@pytest.mark.parametrize("name", IN_QUESTION)
def test_matrices_in_question_share_a_batch(name: str, p: float | None) -> None:
    """Each matrix of a batch has the value and the certificate that it has alone, whichever way it goes."""
    function, keywords = _call(p)
    a = np.stack([_around(6)[0], IN_QUESTION[name], _around(6)[1]])

    together = answer(function, {"a": a}, **keywords, on_failure="nan")
    apart = [answer(function, {"a": one}, **keywords, on_failure="nan") for one in a]

    for item, alone in enumerate(apart):
        assert together.certificates[item] == alone.certificates[0]
        np.testing.assert_array_equal(together.outputs[0][item], alone.outputs[0])
    assert [together.certificates[item].outcome for item in (0, 2)] == ["converged"] * 2


@compiled
@pytest.mark.parametrize("name", ["singular", "nearly singular", "near the axis", "triangular and negative"])
def test_what_is_in_question_is_not_served(name: str) -> None:
    """Singular matrices, and those with eigenvalues near the negative axis, are left to Python."""
    assert not _found(IN_QUESTION[name][None], 0.5).is_served.any()


def _without(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr("matfn_kernels.linalg.native.lapack.is_ready", lambda: False)
        return work()


@pytest.mark.parametrize("keywords", [{}, {"damping": 0.1}, {"shift": 0.25}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("p", EXPONENTS)
def test_a_machine_without_the_library_has_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, p: float | None, dtype: str, keywords: dict[str, Any]
) -> None:
    """Python's answers are those of C within both estimates, under the same outcome, damping and shift."""
    function, given = _call(p)
    a = _around(12, "complex128" if "complex" in dtype else "float64").astype(dtype)

    fast = answer(function, {"a": a}, **given, **keywords)
    slow = _without(monkeypatch, lambda: answer(function, {"a": a}, **given, **keywords))

    off = relative_error(fast.outputs[0], slow.outputs[0])
    for item, (here, there) in enumerate(zip(fast.certificates, slow.certificates, strict=True)):
        assert (here.outcome, there.outcome) == ("converged", "converged")
        assert off[item] <= estimate_of(fast, item) + estimate_of(slow, item)
        assert (here.damping, here.shift) == pytest.approx((there.damping, there.shift), rel=1e-12)
        assert 0.6 < (here.condition or 0) / (there.condition or 1) < 1.6  # the power method may begin elsewhere


@pytest.mark.parametrize("scale", [1e-250, 1e-80, 1.0, 1e80, 1e250])
@pytest.mark.parametrize("p", EXPONENTS)
def test_units_are_found_again(p: float | None, scale: float) -> None:
    """A power of the unit comes out of a power, and its logarithm is added to a logarithm."""
    function, keywords = _call(p)
    a = _around(9)

    plain, scaled = (answer(function, {"a": unit * a}, **keywords) for unit in (1.0, scale))

    expected = plain.outputs[0] + np.log(scale) * np.eye(9) if p is None else plain.outputs[0] * scale**p
    bound = estimate_of(scaled) + 10 * estimate_of(plain)
    unit = np.abs(expected).max()
    assert relative_error(scaled.outputs[0] / unit, expected / unit).max() <= bound + 1e-13
    assert scaled.certificates[0].outcome == "converged"
