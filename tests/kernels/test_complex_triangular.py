"""Complex triangles, dense and diagonal plus low rank: certificates, transposes and gradients against more digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from evaluating import Array, answer
from honesty import assert_covered
from matfn_kernels import Outcome
from matfn_kernels.reference import relative_error

if TYPE_CHECKING:
    from numpy.random import Generator

KINDS = ("tame", "gaussian", "graded", "growing", "unequal rows", "turned", "real", "imaginary", "one column")
DTYPES = ("complex64", "complex128")


def _gaussian(rng: Generator, *shape: int) -> Array:
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def _phases(rng: Generator, *shape: int) -> Array:
    return np.asarray(np.exp(2j * np.pi * rng.random(shape)))


def _triangle(rng: Generator, kind: str, order: int) -> Array:
    """A lower triangle of a kind, with numbers in the other one."""
    t = _gaussian(rng, order, order)
    match kind:
        case "tame":
            t = t / order + np.diag(2 * _phases(rng, order))
        case "graded":
            t /= 10 * order
            t[np.diag_indices(order)] = 1e-2 ** np.linspace(0, 1, order) * _phases(rng, order)
        case "growing":
            t = _phases(rng, order, order)
        case "unequal rows":
            t *= 10.0 ** rng.uniform(-6, 6, (order, 1))
        case "turned":
            t = t / order * _phases(rng, order, 1) + 1j * np.eye(order)
        case "real" | "imaginary":
            t = t.real + 0j if kind == "real" else 1j * t.imag
        case "one column":
            t = np.eye(order) * 1j
            t[:, 0] = 1e3 * _gaussian(rng, order)
    return t


def _solved(t: Array, b: Array) -> Array:
    """T^-1 B for lower T by substitution in extended precision."""
    t, x = t.astype(np.clongdouble), b.astype(np.clongdouble)
    for i in range(len(t)):
        x[i] /= t[i, i]
        x[i + 1 :] -= t[i + 1 :, i, None] * x[i]
    return x


def _solution(t: Array, b: Array, *, lower: bool, transpose: bool) -> Array:
    """T^-1 B or T^-T B for the triangle of T that is meant; an upper one is a lower one in reverse order."""
    t = np.tril(t) if lower else np.triu(t)
    t = t.T if transpose else t
    return _solved(t, b) if lower != transpose else _solved(t[::-1, ::-1], b[::-1])[::-1]


def _error(x: Array, truth: Array) -> float:
    return float(relative_error(x.astype(np.clongdouble), truth).astype(float))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_estimates_cover_the_errors_of_dense_triangles(kind: str, dtype: str) -> None:
    """Inverses and solutions of either triangle and of its transpose, at orders of one block and of several."""
    rng = np.random.default_rng(len(kind))
    for order in (1, 5, 17, 33):
        t, b = _triangle(rng, kind, order).astype(dtype), _gaussian(rng, order, 3).astype(dtype)
        for lower in (True, False):
            given = t if lower else np.ascontiguousarray(t.T)
            inverse = answer("tri_inv", {"t": given[None]}, lower=lower, on_failure="nan")
            truth = _solution(given, np.eye(order, dtype=dtype), lower=lower, transpose=False)
            assert_covered(_error(inverse.outputs[0][0], truth), inverse.certificates)
            for transpose in (True, False):
                keywords: dict[str, Any] = {"lower": lower, "transpose": transpose}
                found = answer("tri_solve", {"t": given[None], "b": b[None]}, **keywords)
                assert_covered(_error(found.outputs[0][0], _solution(given, b, **keywords)), found.certificates)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["tame", "graded", "generators", "no rank"])
def test_estimates_cover_the_errors_of_low_rank_triangles(kind: str, dtype: str) -> None:
    """Inverses and solutions with the matrix and its transpose, over one chunk of rows and several."""
    rng = np.random.default_rng(len(kind))
    for order, rank in ((1, 1), (9, 2), (70, 3)):
        diag = (1 + rng.random(order)) * _phases(rng, order)
        diag = diag * 1e-4 ** np.linspace(0, 1, order) if kind == "graded" else diag
        q, k = (_gaussian(rng, order, rank) / (1 if kind == "generators" and order < 10 else order) for _ in range(2))
        used = slice(0 if kind == "no rank" else rank)
        given = {"diag": diag, "q": q[:, used], "k": k[:, used], "b": _gaussian(rng, order, 3)}
        given = {name: x.astype(dtype) for name, x in given.items()}
        t = np.tril(given["q"].astype(np.clongdouble) @ given["k"].astype(np.clongdouble).T, -1)
        t[np.diag_indices(order)] = given["diag"]
        for transpose in (True, False):
            found = answer("dplr_solve", {name: x[None] for name, x in given.items()}, transpose=transpose)
            truth = _solution(t, given["b"], lower=True, transpose=transpose)
            assert_covered(_error(found.outputs[0][0], truth), found.certificates)
        inverse = answer("dplr_inv", {name: given[name][None] for name in ("diag", "q", "k")})
        assert_covered(_error(inverse.outputs[0][0], _solved(t, np.eye(order))), inverse.certificates)


def test_other_triangle_is_not_read() -> None:
    """NaN above a lower triangle, and on a unit diagonal, changes nothing."""
    t = _triangle(np.random.default_rng(0), "tame", 9)
    spoilt = np.where(np.tri(9, k=-1, dtype=bool), t, np.nan)

    found, same = (answer("tri_inv", {"t": x[None]}, unit_diagonal=True).outputs[0] for x in (t, spoilt))

    np.testing.assert_array_equal(found, same)


def test_transpose_does_not_conjugate() -> None:
    """T^T X = B is solved, not T^H X = B."""
    t, b = np.array([[[1j, 0], [1, 2]]]), np.array([[[1.0], [0]]])

    x = answer("tri_solve", {"t": t, "b": b}, transpose=True).outputs[0]

    np.testing.assert_allclose(t.swapaxes(1, 2) @ x, b, atol=1e-15)


def _lower(t: torch.Tensor, *, unit: bool = False) -> torch.Tensor:
    return t.tril(-1) + torch.eye(len(t), dtype=t.dtype) if unit else t.tril()


def _low_rank(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return (inputs["q"] @ inputs["k"].mT).tril(-1) + torch.diag_embed(inputs["diag"])


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("function", ["tri_inv", "tri_solve", "dplr_solve"])
def test_gradients_are_those_of_torch(function: str, transpose: bool) -> None:
    """Gradients in every input, conjugated as torch's are, within their estimates."""
    rng = np.random.default_rng(5)
    given = {"b": _gaussian(rng, 6, 2)}
    if function == "dplr_solve":
        given |= {"diag": 2 * _phases(rng, 6), "q": _gaussian(rng, 6, 3) / 3, "k": _gaussian(rng, 6, 3) / 3}
    else:
        given |= {"t": _triangle(rng, "tame", 6)}
    given = {"t": given["t"]} if function == "tri_inv" else given
    leaves = {name: torch.from_numpy(x).requires_grad_() for name, x in given.items()}
    t = _low_rank(leaves) if function == "dplr_solve" else _lower(leaves["t"], unit=transpose)
    x = torch.linalg.inv(t) if function == "tri_inv" else torch.linalg.solve(t.mT if transpose else t, leaves["b"])
    cotangent = torch.from_numpy(_gaussian(rng, *x.shape))
    truths = dict(zip(leaves, torch.autograd.grad(x, list(leaves.values()), cotangent), strict=True))

    keywords = {} if function == "dplr_solve" else {"unit_diagonal": transpose}
    keywords |= {} if function == "tri_inv" else {"transpose": transpose}
    found = answer(f"vjp/{function}", {"x": cotangent, **given}, **keywords)

    names = [name for name in ("t", "diag", "q", "k", "b") if name in given]
    assert found.certificates[0].outcome is Outcome.CONVERGED
    for name, gradient in zip(names, found.outputs[1:], strict=True):
        np.testing.assert_allclose(gradient, truths[name].numpy(), atol=1e-13)
