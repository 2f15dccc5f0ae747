"""Every function by every method against float64 truth, and the certificate's word on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evaluating import EPS, answer, candidates, run, truth
from honesty import assert_covered, assert_honest, reference_errors
from matfn_kernels.reference import relative_error
from spectra import SHAPES, positive, rectangular

if TYPE_CHECKING:
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.validation import Call

ROOTS: list[tuple[str, dict[str, Any]]] = [
    ("inv_root", {"r": 4}),
    ("inv_root", {"r": 1}),
    ("inv_root", {"r": 3, "s": 2}),
    ("inv_root", {"r": 8}),
    ("root", {"r": 2}),
    ("root", {"r": 4}),
    ("root", {"r": 2, "s": 3}),
    ("sqrt_pair", {}),
]


def _check(function: str, inputs: dict[str, Any], program: Program, call: Call, keywords: dict[str, Any]) -> None:
    """A converged answer is within its estimate, whatever method gave it."""
    found = run(program, call)
    expected = truth(function, inputs, found.certificates, **keywords)
    assert_honest(found, *expected, slack=reference_errors(found.certificates))
    for output, target in zip(found.outputs, expected, strict=True):
        for error, certificate in zip(relative_error(output, target), found.certificates, strict=True):
            assert certificate.condition is not None
            assert error <= 50 * EPS[str(output.dtype)] * max(1.0, certificate.condition)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("function", "keywords"), ROOTS)
def test_roots_meet_their_estimates(
    function: str, keywords: dict[str, Any], shape: str, condition: float, dtype: str
) -> None:
    """Roots by the coupled iteration and by eigh are within 50 eps kappa and within what they certify."""
    inputs = {"a": positive(40, shape, condition, items=2).astype(dtype)}

    for program, call in candidates(function, inputs, **keywords):
        _check(function, inputs, program, call, keywords)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("size", [(32, 32), (60, 24), (24, 60)])
def test_polar_factors_meet_their_estimates(size: tuple[int, int], kind: str, condition: float, dtype: str) -> None:
    """The polar factor by Newton-Schulz, by the Gram matrix and by svd, of tall, wide and square matrices."""
    inputs = {"m": rectangular(size, kind, condition, items=2).astype(dtype)}

    for program, call in candidates("msign", inputs):
        _check("msign", inputs, program, call, {})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("condition", [1.0, 1e3])
@pytest.mark.parametrize("bounds", [(0.0, 0.5), (0.05, 0.3), (0.2, None), (0.0, None), (0.25, 0.25)])
@pytest.mark.parametrize("size", [(32, 32), (60, 24), (24, 60)])
def test_clipping_meets_its_estimate(
    size: tuple[int, int], bounds: tuple[float, float | None], condition: float, dtype: str
) -> None:
    """Clipping by the H-form, by the Gram matrix and by svd, with either bound and both."""
    inputs = {"m": rectangular(size, "geometric", condition, items=2).astype(dtype)}
    keywords = {"lo": bounds[0], "hi": bounds[1]}

    for program, call in candidates("mclip", inputs, **keywords):
        _check("mclip", inputs, program, call, keywords)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [1, 7, 32, 33, 100])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_triangular_inverse_is_accurate(order: int, dtype: str, *, lower: bool, unit: bool) -> None:
    """Inverses of either triangle, with either diagonal, at and beyond the order of a diagonal block."""
    rng = np.random.default_rng(order)
    inputs = {"t": (rng.standard_normal((3, order, order)) / order + 2 * np.eye(order)).astype(dtype)}
    keywords = {"lower": lower, "unit_diagonal": unit}

    found = answer("tri_inv", inputs, **keywords)

    errors = relative_error(found.outputs[0], truth("tri_inv", inputs, found.certificates, **keywords)[0])
    assert errors.max() < 10 * EPS[dtype]
    assert_covered(errors, found.certificates, slack=4 * EPS["float64"])
    assert {certificate.outcome for certificate in found.certificates} == {"converged"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("lower", [True, False])
def test_triangular_solution_is_accurate(dtype: str, *, lower: bool, transpose: bool) -> None:
    """Solutions with T and with its transpose."""
    rng = np.random.default_rng(3)
    inputs = {
        "t": (rng.standard_normal((3, 50, 50)) / 50 + 2 * np.eye(50)).astype(dtype),
        "b": rng.standard_normal((3, 50, 4)).astype(dtype),
    }
    keywords = {"lower": lower, "transpose": transpose}

    found = answer("tri_solve", inputs, **keywords)

    errors = relative_error(found.outputs[0], truth("tri_solve", inputs, found.certificates, **keywords)[0])
    assert errors.max() < 10 * EPS[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("order", "rank"), [(1, 1), (63, 8), (64, 64), (65, 3), (200, 16)])
@pytest.mark.parametrize(
    ("function", "keywords"), [("dplr_inv", {}), ("dplr_solve", {}), ("dplr_solve", {"transpose": True})]
)
def test_low_rank_solution_is_accurate(
    function: str, keywords: dict[str, Any], order: int, rank: int, dtype: str
) -> None:
    """The matrix diag + tril(Q K^T, -1) is solved without being formed, at chunk borders too."""
    rng = np.random.default_rng(order)
    keys = rng.standard_normal((2, order, rank))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    inputs = {
        "diag": (1 + rng.random((2, order))).astype(dtype),
        "q": (rng.random((2, order, 1)) * keys).astype(dtype),
        "k": keys.astype(dtype),
    }
    if function == "dplr_solve":
        inputs["b"] = rng.standard_normal((2, order, 5)).astype(dtype)

    found = answer(function, inputs, **keywords)

    expected = truth(function, inputs, found.certificates, **keywords)
    assert_honest(found, *expected, slack=reference_errors(found.certificates))
    assert {certificate.outcome for certificate in found.certificates} == {"converged"}


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize(("function", "keywords"), ROOTS)
def test_hermitian_roots_are_accurate(function: str, keywords: dict[str, Any], dtype: str) -> None:
    """Complex Hermitian matrices have roots too."""
    inputs = {"a": positive(20, "geometric", 1e3, is_complex=True).astype(dtype)}

    found = answer(function, inputs, **keywords)

    for output, target in zip(found.outputs, truth(function, inputs, found.certificates, **keywords), strict=True):
        assert output.dtype == dtype
        assert relative_error(output, target).max() < 50 * EPS[dtype] * 1e3


@pytest.mark.parametrize("function", ["root", "inv_root"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_left_factor_is_applied(function: str, dtype: str) -> None:
    """G A^p by either method equals G times A^p."""
    rng = np.random.default_rng(0)
    inputs = {
        "a": positive(40, "geometric", 1e3, items=3).astype(dtype),
        "g": rng.standard_normal((3, 7, 40)).astype(dtype),
    }

    for program, call in candidates(function, inputs, r=4, s=3):
        _check(function, inputs, program, call, {"r": 4, "s": 3})
