"""Polar factors by products of bf16 numbers: honest estimates, the same bits in any batch, and their price."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from evaluating import Answer, Array, parsed, run, truth
from honesty import assert_covered, reference_errors
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.native.library import library
from matfn_kernels.methods.polar.half_polar import HalfPolar
from matfn_kernels.methods.polar.question import Polar
from matfn_kernels.programs import profile_loading
from matfn_kernels.programs.profile_loading import read_profile
from matfn_kernels.reference import relative_error
from matfn_kernels.running.plan import make_plan
from spectra import SHAPES, orthogonal, rectangular

if TYPE_CHECKING:
    from pathlib import Path

    from matfn_kernels.programs.profile import Profile

pytestmark = pytest.mark.skipif(not native.multiplies_bf16(), reason="the kernels in C have no products in bf16 here")

TOL = 1e-2
SIZES = [(1, 1), (3, 2), (32, 32), (33, 33), (48, 48), (130, 64), (64, 130), (161, 97)]
LARGEST = float(np.finfo(np.float32).max)


def _answer(m: Array, *, pinned: bool = False, tol: float = TOL) -> Answer:
    """The answer of the program, by Gram matrices where it has none unless pinned."""
    call = parsed("msign", {"m": m}, {"tol": tol, "on_failure": "nan"})
    question = Polar(m.shape[-2], m.shape[-1], None, torch.from_numpy(m[:0]).dtype)
    return run(HalfPolar(question, tol, pinned=pinned), call)


def _assert_right(found: Answer, m: Array, tol: float = TOL) -> None:
    """Asserts that estimates cover the errors and that what converged is within the tolerance."""
    (expected,) = truth("msign", {"m": m}, found.certificates)
    errors = relative_error(found.outputs[0], expected)
    assert_covered(errors, found.certificates, estimated=range(len(m) + 1), slack=reference_errors(found.certificates))
    assert all(e <= tol for e, c in zip(errors, found.certificates, strict=True) if c.outcome == "converged")


def _half_small(shape: tuple[int, int], condition: float) -> Array:
    """A matrix half of whose singular values are small, to which rounding in bf16 does most."""
    rng, small = np.random.default_rng(0), min(shape)
    values = np.where(np.arange(small) < (small + 1) // 2, 1.0, 1 / condition)
    found: Array = (orthogonal(rng, shape[0], small) * values) @ orthogonal(rng, shape[1], small).T
    return found[None].astype(np.float32)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3, 1e4, 1e6])
@pytest.mark.parametrize("shape", SHAPES)
def test_estimates_cover_errors(size: tuple[int, int], shape: str, condition: float) -> None:
    """Every estimate is at least the error, whatever the spectrum."""
    m = rectangular(size, shape, condition, items=3).astype(np.float32)

    _assert_right(_answer(m, pinned=True), m)
    found = _answer(m)

    _assert_right(found, m)
    assert all(c.outcome == "converged" for c in found.certificates)


@pytest.mark.parametrize("size", [(48, 48), (100, 60), (128, 128)])
@pytest.mark.parametrize("condition", [10.0, 1e2, 1e3, 1e4, 2e4])
def test_half_of_small_singular_values_is_covered(size: tuple[int, int], condition: float) -> None:
    """The law holds for the spectrum to which rounding does most."""
    m = _half_small(size, condition)

    _assert_right(_answer(m, pinned=True), m)


@pytest.mark.parametrize("tol", [1e-2, 0.05, 0.3])
def test_answers_are_within_looser_tolerances(tol: float) -> None:
    """An error is within its tolerance, and its estimate covers it."""
    m = np.random.default_rng(0).standard_normal((4, 96, 96)).astype(np.float32)

    _assert_right(_answer(m, tol=tol), m, tol)


def test_random_matrices_stay_in_bf16() -> None:
    """Random square matrices are answered in bf16, tall ones by fewer steps."""
    rng = np.random.default_rng(1)
    square, tall = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 128, 128), (2, 512, 128)))

    answers = [_answer(m, pinned=True) for m in (square, tall)]

    assert {c.precision for found in answers for c in found.certificates} == {"bf16"}
    assert all(c.outcome == "converged" for c in answers[1].certificates)
    assert (answers[1].certificates[0].steps or 0) < (answers[0].certificates[0].steps or 0)


def test_one_small_singular_value_among_equal_ones_is_resolved() -> None:
    """The short schedule, which expects no small singular value, is followed by the one for all matrices."""
    m = rectangular((400, 100), "one_small", 1e3, items=2).astype(np.float32)

    found = _answer(m, pinned=True)

    _assert_right(found, m)
    assert all(c.outcome == "converged" for c in found.certificates)


@pytest.mark.parametrize("rank", [1, 20, 63])
def test_rank_deficient_matrices_are_not_answered_in_bf16(rank: int) -> None:
    """A matrix without full rank has no answer by the iteration, and the one by Gram matrix has its rank."""
    rng = np.random.default_rng(rank)
    m = (rng.standard_normal((2, 80, rank)) @ rng.standard_normal((2, rank, 64))).astype(np.float32)

    pinned, found = _answer(m, pinned=True), _answer(m)

    assert not any(c.outcome == "converged" for c in pinned.certificates)
    assert [c.rank for c in found.certificates] == [rank, rank]
    _assert_right(found, m)


@pytest.mark.parametrize("other", [np.nan, np.inf, LARGEST, 0.0, 1.0, 1e-42])
@pytest.mark.parametrize("size", [(40, 40), (100, 70)])
def test_bits_do_not_depend_on_the_batch(size: tuple[int, int], other: float) -> None:
    """A matrix has the same bits and certificate alone, and beside matrices of any entries."""
    m = np.random.default_rng(0).standard_normal((1, *size)).astype(np.float32)
    batch = np.concatenate([np.full_like(m, other), m, np.full_like(m, other), m])
    schedules = native.Schedules(((1e-3, ((1.875, -1.25, 0.375),) * 12),))

    alone, found = native.half_polar_factors(torch.from_numpy(m), 1e-9, schedules)
    beside, others = native.half_polar_factors(torch.from_numpy(batch), 1e-9, schedules)

    for place in (1, 3):
        assert torch.equal(beside[place], alone[0])
        assert all(torch.equal(getattr(others, key)[place], getattr(found, key)[0]) for key in vars(found))


@pytest.mark.parametrize("exponent", [-90, -60, 60, 120])
def test_powers_of_two_do_not_count(exponent: int) -> None:
    """A matrix times a power of two has the same factor, to the bit."""
    m = np.random.default_rng(0).standard_normal((1, 50, 50)).astype(np.float32)

    one, other = (_answer(np.ldexp(m, power).astype(np.float32)) for power in (0, exponent))

    np.testing.assert_array_equal(one.outputs[0], other.outputs[0])


def _planned(profile: Profile, **keywords: Any) -> bool:
    """Whether a call with a matrix of order 256 is planned in bf16."""
    plan = make_plan(parsed("msign", {"m": torch.eye(256)}, keywords), profile)
    return isinstance(plan.program, HalfPolar)


def test_price_decides() -> None:
    """A profile with prices of products in bf16 plans them for a loose tolerance, and only there."""
    profile = profile_loading.shipped("intel-amx")
    without = replace(profile, seconds=tuple(row for row in profile.seconds if row[0] != "native_half"))

    assert _planned(profile, tol=TOL)
    assert not _planned(without, tol=TOL)
    assert not any(_planned(profile, **other) for other in ({}, {"tol": 9e-3}, {"tol": TOL, "precision": "fp32"}))


def test_processors_without_bf16_never_plan_it(tmp_path: Path) -> None:
    """The kernels of another instruction set refuse, and a profile that prices them is refused."""
    found, usual = library(), native.variant()
    assert found is not None
    assert found.matfn_native_use(b"avx512") == 0
    native.variant.cache_clear()
    profile = profile_loading.shipped("intel-amx")
    path = tmp_path / "amx.json"
    path.write_text(profile.text())
    try:
        assert not native.multiplies_bf16()
        assert not HalfPolar.serves(Polar(256, 256, None, torch.float32), TOL)
        with pytest.raises(ValueError, match="products in bf16"):
            read_profile(path, "cpu")
        with pytest.raises(RuntimeError, match="refuses"):
            native.half_polar_factors(torch.eye(4)[None], 1e-5, native.Schedules(((1e-3, ((1.0, 0.0, 0.0),)),)))
    finally:
        found.matfn_native_use(usual.encode())
        native.variant.cache_clear()
