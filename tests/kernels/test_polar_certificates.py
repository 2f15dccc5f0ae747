"""Polar factors and clippings at the threshold of rank: nothing converges whose error is above its estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluating import EPS, Array, answer
from honesty import assert_honest
from matfn_kernels import reference

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
