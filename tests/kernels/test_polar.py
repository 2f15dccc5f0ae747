"""Polar factors and clippings: what the decompositions behind them lose is in the estimate."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

from evaluating import EPS, Array, answer, candidates, run
from gallery import exact, plain
from honesty import assert_honest, estimate_of
from matfn_kernels import reference
from matfn_kernels.linalg.decompositions import Singular
from matfn_kernels.linalg.scaling import release
from matfn_kernels.methods.polar.question import Polar
from matfn_kernels.methods.polar.svd import SvdPolar
from matfn_kernels.numbers.precision import Precision
from spectra import orthogonal, rectangular

ITEMS = 80
SHAPES = [*((n, n) for n in range(1, 9)), (4, 3), (8, 3), (7, 6), (3, 5), (2, 8), (8, 1)]
NEAR = [0.5, 0.9, 0.99, 1.0, 1.01, 1.1, 2.0]
"""A singular value in units of the bound next to it."""
DROPPED = 100
"""Units of eps sigma_max by which LAPACK's svd, which the float64 reference is, may be off."""
ROSSER = np.array(
    [
        [611, 196, -192, 407, -8, -52, -49, 29],
        [196, 899, 113, -192, -71, -43, -8, -44],
        [-192, 113, 899, 196, 61, 49, 8, 52],
        [407, -192, 196, 611, 8, 44, 59, -23],
        [-8, -71, 61, 8, 411, -599, 208, 208],
        [-52, -43, 49, 44, -599, 411, 208, 208],
        [-49, -8, 8, 59, 208, 208, 99, -911],
        [29, -44, 52, -23, 208, 208, -911, 99],
    ]
)


def _around_the_bound(shape: tuple[int, int], dtype: str) -> Array:
    """Matrices (ITEMS, m, n) with singular values over up to 7 decades, one of which is near 1."""
    rng = np.random.default_rng(shape)
    small, is_complex = min(shape), dtype == "complex64"
    values = 10 ** (rng.uniform(4, 7, (ITEMS, 1)) * rng.random((ITEMS, small)))
    values *= rng.choice(NEAR, (ITEMS, 1)) / values[:, :1]
    left, right = (
        np.stack([orthogonal(rng, size, small, is_complex=is_complex) for _ in range(ITEMS)]) for size in shape
    )
    return np.asarray((left * values[:, None, :]) @ right.conj().swapaxes(-1, -2)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_clipping_next_to_a_singular_value_is_within_its_estimate(shape: tuple[int, int], dtype: str) -> None:
    """However far below the largest singular value the bound is, by every method, before the answer is rounded."""
    m = _around_the_bound(shape, dtype)
    truth = reference.mclip(m, 1.0, 0.0, threshold=0.0)

    for program, call in candidates("mclip", {"m": m}, hi=1.0):
        found = program.run(call.inputs)
        value, _ = release(found.outputs[0], found.exponents[0], torch.complex128 if m.imag.any() else torch.float64)
        error = reference.relative_error(value.resolve_conj().cpu().numpy(), truth)
        slack = DROPPED * EPS["float64"] * found.condition.cpu().numpy()
        assert (error <= found.error.cpu().numpy() + slack).all()


@pytest.mark.parametrize("hi", [1e-4, 1e-3, 1e-2, 1.0])
def test_clipping_of_the_rosser_matrix_is_within_its_estimate(hi: float) -> None:
    """Its singular values are 1020 down to 0.098, and 0; by every method."""
    m = ROSSER.astype("float32")
    with mpmath.workdps(40):
        u, s, v = mpmath.svd_r(exact(m))
        truth = plain(u * mpmath.diag([min(x, hi) for x in s]) * v)

    for program, call in candidates("mclip", {"m": m}, hi=hi):
        found = run(program, call)
        assert_honest(found, truth)


@pytest.mark.parametrize("bounds", [None, (0.0, 0.5)])
def test_entries_that_the_svd_drops_are_in_the_estimate(bounds: tuple[float, float] | None) -> None:
    """A bidiagonal entry far above eps, taken for zero, moves the answer by as much."""
    entry = 64 * EPS["float64"]
    m, eye = torch.tensor([[[1.0, entry], [0.0, 0.0]]], dtype=torch.float64), torch.eye(2, dtype=torch.float64)[None]
    values = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    program = SvdPolar(Polar(2, 2, bounds, torch.float64), Precision.FP64)

    found = program.finish(Singular(m, torch.zeros(1, dtype=torch.int64), eye, values, eye, torch.zeros(1)), {"m": m})

    assert found.error >= entry


@pytest.mark.parametrize("gap", [1e-13, 1e-12, 1e-10])
def test_singular_values_below_the_arithmetic_are_not_taken_for_zeros(gap: float) -> None:
    """What float64 keeps and single precision rounds to zero leaves no estimate."""
    m = np.array([[1.0, 1.0], [1.0, 1.0 + gap]])

    found = answer("msign", {"m": m}, precision="fp32", method="svd")

    assert found.certificates[0].error_estimate is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("function", "keywords"), [("msign", {}), ("mclip", {"hi": 0.5}), ("root", {"r": 2}), ("inv_root", {"r": 4})]
)
@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
def test_conditions_are_at_least_one(order: int, function: str, keywords: dict[str, float], dtype: str) -> None:
    """Of perfectly conditioned matrices too, by every method."""
    rng = np.random.default_rng(order)
    bases = np.stack([orthogonal(rng, order, order) for _ in range(20)])
    inputs = {"m": bases} if function.startswith("m") else {"a": np.stack([np.eye(order)] * 20)}

    for program, call in candidates(function, {name: x.astype(dtype) for name, x in inputs.items()}, **keywords):
        assert min(certificate.condition or 0 for certificate in run(program, call).certificates) >= 1


def test_narrowed_eigenvalues_within_their_bounds_are_rounded() -> None:
    """Where there is nothing to clip, single precision still rounds a float64 matrix, and says so."""
    a = np.array([[1.0, 1 / 3], [1 / 3, 1.0]])

    found = answer("eig_clip", {"a": a}, lo=0.0, precision="fp32")

    assert_honest(found, a)
    assert 0 < reference.relative_error(found.outputs[0], a) <= 2 * EPS["float32"]
    assert estimate_of(found) <= 2 * EPS["float32"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("keywords", [{"hi": None}, {"hi": 10.0}, {"hi": 10.0, "lo": 0.01}])
def test_what_needs_no_clipping_comes_back(keywords: dict[str, float | None], dtype: str) -> None:
    """A matrix whose singular values are within the bounds is returned bit for bit."""
    m = rectangular((6, 4), condition=10.0)[0].astype(dtype)

    found = answer("mclip", {"m": m}, **keywords)

    np.testing.assert_array_equal(found.outputs[0], m)
    assert found.certificates[0].outcome == "converged"
