"""Polar factors and clippings at the threshold of rank: nothing converges whose error is above its estimate."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from evaluating import EPS, Answer, Array, answer, candidates, run
from gallery import exact, plain
from honesty import assert_covered, assert_honest, reference_errors
from matfn_kernels import reference
from matfn_kernels.linalg import probes
from spectra import orthogonal

SINGLE = 8 * EPS["float32"]
"""The threshold of rank for single and half precision."""


def _integers(seed: int, rows: int, rank: int, columns: int) -> Array:
    """An integer matrix of that rank."""
    rng = np.random.default_rng(seed)
    product: Array = rng.integers(-5, 6, (rows, rank)) @ rng.integers(-5, 6, (rank, columns))
    return product.astype(float)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(128, 128), (64, 48), (40, 100)])
def test_half_precision_keeps_what_float32_resolves(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """No direction of a Gaussian matrix is dropped, by the polar factor, its pair and a clipping from below."""
    m = torch.from_numpy(np.random.default_rng(0).standard_normal(shape)).to(dtype)
    wide = m.double().numpy()
    factor, clipped = reference.msign(wide, SINGLE), reference.mclip(wide, 9.0, 3.0, SINGLE)
    root = reference.power(wide.T @ wide, 0.5)

    assert_honest(full := answer("msign", {"m": m}), factor)
    assert_honest(answer("mclip", {"m": m}, hi=9, lo=3), clipped)
    assert_honest(answer("polar", {"m": m}), factor, root, slack=1e-7)
    assert full.certificates[0].rank == min(shape)
    assert full.certificates[0].outcome == "converged"


@pytest.mark.parametrize(("rows", "rank", "columns"), [(30, 11, 30), (40, 7, 12), (9, 3, 20)])
@pytest.mark.parametrize("lo", [0.0, 2.0])
def test_rank_is_counted_in_the_named_precision(rows: int, rank: int, columns: int, lo: float) -> None:
    """Single precision sees rounding of its own as no singular values of a float64 matrix."""
    m = _integers(rows, rows, rank, columns)

    found = answer("mclip", {"m": m}, hi=10.0, lo=lo, precision="fp32")

    assert found.certificates[0].rank == rank
    assert_honest(found, reference.mclip(m, 10.0, lo, 8 * EPS["float64"]), estimated=range(2))


def _around_threshold(order: int, seed: int, units: float) -> Array:
    """1, and a multiple of an orthogonal matrix next to the threshold, which rounding to float32 spreads."""
    m = np.zeros((order, order))
    m[0, 0] = 1
    m[1:, 1:] = units * SINGLE * np.linalg.qr(np.random.default_rng(seed).standard_normal((order - 1, order - 1)))[0]
    return m.astype(np.float32)


@pytest.mark.parametrize("function", ["msign", "mclip", "polar"])
@pytest.mark.parametrize(("order", "seed"), [(9, 23), (41, 23), (9, 1), (17, 2)])
def test_mixed_vectors_at_the_threshold_are_in_the_estimate(order: int, seed: int, function: str) -> None:
    """Kept and dropped singular vectors a rounding apart are known as badly as that says."""
    m = _around_threshold(order, seed, 1.0)

    found = answer(function, {"m": m}, **({"lo": 0.5} if function == "mclip" else {}))

    assert found.certificates[0].outcome == "approximate"
    assert found.certificates[0].error_estimate is None or found.certificates[0].error_estimate > 1e-6


@pytest.mark.parametrize("units", [0.5, 0.9, 1.1, 2.0])
def test_clusters_beside_the_threshold_converge(units: float) -> None:
    """A tenth away from it nothing mixes."""
    m = _around_threshold(9, 23, units)

    found = answer("msign", {"m": m})

    assert_honest(found, reference.msign(m, SINGLE), slack=1e-9)
    assert found.certificates[0].outcome == "converged"


def _nearly_singular(a: float, units: float, others: int, dtype: str) -> Array:
    """A positive definite block whose eigenvalues are units eps apart, relative to the larger, beside ones."""
    m = np.eye(2 + others, dtype=dtype) * (1 + a * a)
    m[:2, :2] = [[1, a], [a, a * a + units * EPS["float64"] * (1 + a * a) ** 2]]
    return m


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("keywords", [None, {"lo": 0.5}])
@pytest.mark.parametrize("units", [7.5, 8.14, 12.0])
@pytest.mark.parametrize(("a", "others"), [(1.5, 0), (0.75, 0), (1.25, 2), (1.5, 40)])
def test_a_rank_within_rounding_is_not_certified(
    a: float, others: int, units: float, keywords: dict[str, float] | None, dtype: str
) -> None:
    """Where eps of the norm decide what is kept the answer is approximate, by svd and by the planner's choice."""
    m = _nearly_singular(a, units, others, dtype)

    for method in ("auto", "svd"):
        found = answer("mclip" if keywords else "msign", {"m": m}, method=method, **(keywords or {}))

        assert found.certificates[0].outcome == "approximate"


@pytest.mark.parametrize("order", [8, 30, 64, 150])
def test_rank_deficient_matrices_converge(order: int) -> None:
    """Values that rounding alone lifts from zero are far enough below the threshold."""
    m = _integers(order, order, order // 3, order)

    found = answer("msign", {"m": m})

    assert found.certificates[0].rank == order // 3
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("function", ["msign", "mclip", "polar"])
@pytest.mark.parametrize("gap", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("method", ["svd", "newton_schulz"])
def test_rounding_to_a_named_precision_is_in_the_estimate(function: str, gap: float, method: str) -> None:
    """What float64 input loses on the way to float32 counts by the condition of the polar factor."""
    for m in ([[1, 2 / 3], [2 / 3, 4 / 9 + gap]], [[1, 1 / 3], [1 / 3, 1 / 9 + gap]], [[0.1, 0.3], [0.7, 2.1 + gap]]):
        a, keywords = np.array(m), {"lo": 0.3} if function == "mclip" else {}
        u, s, vh = np.linalg.svd(a)
        truth = (u * np.clip(s, 0.3, 1.0)) @ vh if function == "mclip" else u @ vh
        if function == "polar" and method != "svd":
            continue
        found = answer(function, {"m": a}, precision="fp32", method=method, **keywords)

        assert_honest(Answer(found.outputs[:1], found.certificates), truth, estimated=range(2), slack=1e-11)


def _exact_factor(m: Array) -> Array:
    with mpmath.workdps(40):
        u, _, vh = mpmath.svd_r(exact(m))
        return plain(u * vh)


@pytest.mark.parametrize("shape", [(12, 6), (9, 6), (6, 6)])
@pytest.mark.parametrize("condition", [30.0, 1e3, 1e5])
def test_no_vector_hides_from_the_iteration(shape: tuple[int, int], condition: float) -> None:
    """Small singular vectors orthogonal to columns that depend on the order alone are seen by all kernels."""
    rng = np.random.default_rng(shape)
    hidden = np.linalg.qr(np.hstack([probes.columns(6).numpy(), rng.standard_normal((6, 2))]))[0]
    values = np.r_[np.ones(4), [1 / condition] * 2]
    m = (orthogonal(rng, shape[0], 6) * values) @ hidden.T

    for program, call in candidates("msign", {"m": m}):
        assert_honest(run(program, call), _exact_factor(m))


MUON = [(3.4445, -4.7750, 2.0315)] * 5


def _muon(m: Array) -> Array:
    x: Array = m.astype(float) / np.linalg.norm(m.astype(float))
    for a, b, c in MUON:
        gram = x.T @ x
        x = x @ (a * np.eye(len(gram)) + b * gram + c * gram @ gram)
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(48, 48), (80, 20), (20, 50), (1, 5)])
def test_steps_of_muon_are_reproduced(shape: tuple[int, int], dtype: str) -> None:
    """Coefficients are run on M / |M|_F, by default and by name; by the norm of order 4 they give another answer."""
    m = np.random.default_rng(shape).standard_normal(shape).astype(dtype)

    for keywords in ({}, {"scale": "frobenius"}):
        found = answer("msign", {"m": m}, coefficients=MUON, **keywords)
        np.testing.assert_allclose(found.outputs[0], _muon(m), rtol=0, atol=100 * EPS[dtype])
    other = answer("msign", {"m": m}, coefficients=MUON, scale="schatten4").outputs[0]
    assert (np.abs(other - _muon(m)).max() > 1e-3) == (min(shape) > 1)


@pytest.mark.parametrize("order", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "coefficients", [MUON, [(1.5, -0.5, 0.0)] * 12, [(1.875, -1.25, 0.375)] * 8, [(2.0, -1.5, 0.5)]]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_named_steps_are_within_their_estimate(order: int, coefficients: list[Any], dtype: str) -> None:
    """However far they converge."""
    m = np.random.default_rng(order).standard_normal((60, order, order)).astype(dtype)

    found = answer("msign", {"m": m}, coefficients=coefficients)

    errors = reference.relative_error(found.outputs[0], reference.msign(m, 0.0))
    assert_covered(errors, found.certificates, estimated=range(61), slack=reference_errors(found.certificates))


@pytest.mark.parametrize(("scale", "hi"), [(1e300, 1e-151), (1e150, 1e-301), (1e200, 1e-120)])
def test_a_bound_lost_beside_the_matrix_is_no_certified_zero(scale: float, hi: float) -> None:
    """Clipping to a bound whose ratio to the matrix is subnormal or zero gives no converged answer."""
    m = np.random.default_rng(0).standard_normal((3, 3)) * scale
    for method in ("auto", "svd"):
        (certificate,) = answer("mclip", {"m": m}, hi=hi, method=method, on_failure="nan").certificates
        assert certificate.outcome != "converged"
