"""Singular values of small float64 matrices clipped from above in C: the answers and certificates of the svd."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mpmath
import numpy as np
import pytest
import torch

from alike import assert_alike, released
from gallery import exact
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.linalg.single_thread import one_thread
from matfn_kernels.methods.polar.lockstep_svd import LockstepSvdClip
from matfn_kernels.methods.polar.question import Polar
from matfn_kernels.methods.polar.svd import SvdPolar
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from evaluating import Array

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

SHAPES = [(1, 1), (5, 5), (33, 16), (16, 33), (64, 64)]
BOUNDS = [math.inf, 1.0, 0.5, 1e-3, 0.0]


def _with_values(rows: int, columns: int, sigma: Array, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((size, len(sigma))))[0] for size in (rows, columns))
    return np.asarray((u * sigma) @ v.T)


def _matrices(m: int, n: int) -> Array:
    """Usual matrices, and those of lower rank, at the bounds, at the ends of the range or outside the domain."""
    k, gaussian = min(m, n), np.random.default_rng(m + n).standard_normal((m, n))
    place = np.arange(k) / k
    spectra = [
        10.0 ** (-3 * place),
        10.0 ** (-16 * place),
        10.0 ** (-100 * place),
        np.where(place < 0.5, 1.0, 0.0),
        np.where(place < 0.5, 1.0, 0.5),
        0.5 + 1e-14 * np.arange(k),
        1 - 1e-10 * np.arange(k),
        np.where(place < 0.5, 1.0, 1e-9),
    ]
    usual = [_with_values(m, n, sigma, seed) for seed, sigma in enumerate(spectra)]
    others = [gaussian / np.linalg.norm(gaussian, 2), np.ones((m, n)) / math.sqrt(m * n), np.eye(m, n)]
    outside = [np.zeros((m, n)), np.full((m, n), np.nan), np.full((m, n), np.inf), np.eye(m, n) * 5e-324]
    return np.stack([*usual, *others, gaussian * 1e-300, gaussian * 1e300, *outside])


def _programs(shape: tuple[int, int], hi: float) -> tuple[LockstepSvdClip, SvdPolar]:
    question = Polar(*shape, (0.0, hi), torch.float64)
    usual = SvdPolar(question, Precision.FP64)
    return LockstepSvdClip(question, usual), usual


@pytest.mark.sampled(4)
@pytest.mark.parametrize("hi", BOUNDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("instructions")
def test_as_by_svd(shape: tuple[int, int], hi: float) -> None:
    """Values agree within the estimates, which are alike, and ranks and conditions are the same."""
    m = torch.from_numpy(_matrices(*shape))
    program, usual = _programs(shape, hi)
    with one_thread(), np.errstate(all="ignore"):
        found, wanted = program.run({"m": m}), usual.run({"m": m})
    is_known = torch.isfinite(wanted.error) & m.isfinite().flatten(1).all(-1)
    assert bool(found.outputs[0].isnan().flatten(1).any(-1)[~m.isfinite().flatten(1).all(-1)].all())
    assert found.rank is not None
    assert wanted.rank is not None
    assert torch.equal(found.rank[is_known], wanted.rank[is_known])
    np.testing.assert_allclose(found.condition[is_known], wanted.condition[is_known], rtol=1e-6)
    assert_alike(found, wanted, is_known, torch.float64)


@pytest.mark.parametrize("hi", [0.9, 0.5, 1e-3])
@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_estimates_cover_the_errors(shape: tuple[int, int], hi: float) -> None:
    """Clippings are off by no more than their estimates from those in 40 digits, and reach the default tolerance."""
    m = _matrices(*shape)[:11]
    with one_thread():
        found = _programs(shape, hi)[0].run({"m": torch.from_numpy(m)})
    value = released(found, torch.float64)[0][0].numpy()
    assert bool((found.error <= 50 * np.finfo(float).eps * found.condition).all())
    with mpmath.workdps(40):
        for place, matrix in enumerate(m):
            u, sigma, v = mpmath.svd_r(exact(matrix))
            truth = u * mpmath.diag([min(s, mpmath.mpf(hi)) for s in sigma]) * v
            apart = mpmath.mnorm(exact(value[place]) - truth, "f") / mpmath.mnorm(truth, "f")
            assert apart <= found.error[place].item(), place


@pytest.mark.parametrize("hi", [math.inf, 0.5, 1e-3])
@pytest.mark.usefixtures("instructions")
def test_same_bits_in_any_company(hi: float) -> None:
    """A matrix has the same bits and findings alone as beside any others, whoever looks at those."""
    m, program = torch.from_numpy(_matrices(33, 16)), _programs((33, 16), hi)[0]
    with one_thread(), np.errstate(all="ignore"):
        together = program.run({"m": m})
        values = released(together, torch.float64)[0][0]
        for place in range(len(m)):
            alone = program.run({"m": m[place : place + 1]})
            assert released(alone, torch.float64)[0][0].numpy().tobytes() == values[place].numpy().tobytes(), place
            assert alone.error.numpy().tobytes() == together.error[place].numpy().tobytes(), place


@pytest.mark.usefixtures("instructions")
def test_nothing_to_clip() -> None:
    """A matrix whose singular values are below the bound comes back bit for bit."""
    m = torch.from_numpy(_matrices(33, 16)[:11])
    with one_thread():
        found = _programs((33, 16), 1.5)[0].run({"m": m})
    assert torch.equal(found.outputs[0], m)


@pytest.mark.parametrize(
    ("small", "dtype", "bounds", "expected"),
    [
        (64, torch.float64, (0.0, 1.0), True),
        (65, torch.float64, (0.0, 1.0), False),
        (8, torch.float64, (0.5, 1.0), False),
        (8, torch.float64, None, False),
        (8, torch.float32, (0.0, 1.0), False),
        (8, torch.complex128, (0.0, 1.0), False),
    ],
)
def test_variants(small: int, dtype: torch.dtype, bounds: tuple[float, float] | None, expected: bool) -> None:
    """Clippings from above of float64 matrices that are small in one dimension have a variant in C."""
    usual = SvdPolar(Polar(small, 200, bounds, dtype), Precision.FP64)
    assert any(isinstance(variant, LockstepSvdClip) for variant in usual.variants()) is expected
