"""Singular value decompositions of small matrices, made of eigendecompositions in lockstep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.measured import laws
from matfn_kernels.linalg.native import lockstep
from matfn_kernels.linalg.native.library import is_built

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Array

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

SHAPES = [(1, 1), (3, 1), (5, 5), (8, 8), (33, 17), (17, 33), (64, 64), (150, 40)]


def _gaussian(m: int, n: int) -> Array:
    return np.random.default_rng(m + n).standard_normal((m, n))


def _with_values(sigma: Callable[[Array], Array]) -> Callable[[int, int], Array]:
    def build(m: int, n: int) -> Array:
        rng, place = np.random.default_rng(7), np.arange(min(m, n)) / min(m, n)
        u, v = (np.linalg.qr(rng.standard_normal((size, len(place))))[0] for size in (m, n))
        return np.asarray((u * sigma(place)) @ v.T)

    return build


MATRICES: dict[str, Callable[[int, int], Array]] = {
    "gaussian": _gaussian,
    "condition 1e8": _with_values(lambda x: 10 ** (-8 * x)),
    "condition 1e16": _with_values(lambda x: 10 ** (-16 * x)),
    "condition 1e100": _with_values(lambda x: 10 ** (-100 * x)),
    "half the rank": _with_values(lambda x: np.where(x < 0.5, 1.0, 0.0)),
    "rank one": lambda m, n: np.ones((m, n)),
    "clustered": _with_values(lambda x: 1 + 1e-12 * x),
    "two clusters": _with_values(lambda x: np.where(x < 0.5, 1.0, 1e-10)),
    "graded rows": lambda m, n: _gaussian(m, n) * 10.0 ** -np.linspace(0, 40, m)[:, None],
    "graded columns": lambda m, n: _gaussian(m, n) * 10.0 ** -np.linspace(0, 40, n),
    "columns of zeros": lambda m, n: _gaussian(m, n) * (np.arange(n) % 3 > 0),
    "rows of zeros": lambda m, n: _gaussian(m, n) * (np.arange(m) % 3 > 0)[:, None],
    "one long column": lambda m, n: _gaussian(m, n) * np.where(np.arange(n) == n // 2, 1e12, 1.0),
    "hilbert": lambda m, n: 1 / (1.0 + np.arange(m)[:, None] + np.arange(n)),
    "kahan": lambda m, n: np.eye(m, n) - 0.3 * np.triu(np.ones((m, n)), 1),
    "identity": np.eye,
    "zero": lambda m, n: np.zeros((m, n)),
}


def _all(shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.stack([build(*shape) for build in MATRICES.values()])).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("instructions")
def test_backward_error_and_orthogonality(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """U diag(sigma) V^T is the matrix and both bases are orthonormal, within the laws that LAPACK's results keep."""
    m = _all(shape, dtype)
    u, sigma, vh = invariant.svd(m)
    law, skew_law = laws(dtype, max(shape), min(shape))
    wide, left, right = m.double(), u.double(), vh.double()
    missing = torch.linalg.matrix_norm(wide - (left * sigma[:, None].double()) @ right)
    one = torch.eye(min(shape), dtype=torch.float64)
    skew = torch.linalg.matrix_norm(torch.stack([left.mT @ left - one, right @ right.mT - one]))
    for place, name in enumerate(MATRICES):
        assert missing[place] <= law * sigma[place, 0], name
        assert skew[:, place].max() <= skew_law, name
        assert bool((sigma[place].diff() <= 0).all()), name


@pytest.mark.parametrize("shape", [(1, 1), (33, 17), (64, 64)])
@pytest.mark.usefixtures("instructions")
def test_values(shape: tuple[int, int]) -> None:
    """Singular values are those by LAPACK within a few roundings of the largest one."""
    m = _all(shape, torch.float64)
    sigma = invariant.svd(m)[1].numpy()
    wanted = np.linalg.svd(m.numpy(), compute_uv=False)
    np.testing.assert_array_less(abs(sigma - wanted).max(-1), 32 * np.finfo(float).eps * wanted[:, 0] + 1e-300)


@pytest.mark.parametrize("power", [-1060, -1000, 1000])
@pytest.mark.usefixtures("instructions")
def test_ends_of_the_range(power: int) -> None:
    """Matrices of subnormal or huge numbers have the singular vectors of ordinary ones, and scaled values."""
    m = np.round(_gaussian(9, 9) * 64)[None]
    near, far = (invariant.svd(torch.from_numpy(np.ldexp(m, exponent))) for exponent in (0, power))
    assert torch.equal(near[0], far[0])
    assert torch.equal(near[2], far[2])
    np.testing.assert_allclose(far[1], np.ldexp(near[1].numpy(), power), rtol=1e-15, atol=5e-324)


@pytest.mark.usefixtures("instructions")
def test_same_bits_in_any_company() -> None:
    """A matrix is decomposed into the same bits alone as beside others, which may be NaN."""
    m = torch.cat([_all((33, 17), torch.float64), torch.full((1, 33, 17), torch.nan, dtype=torch.float64)])
    together = invariant.svd(m)
    for place in range(len(m)):
        for alone, part in zip(invariant.svd(m[place : place + 1]), together, strict=True):
            assert alone[0].numpy().tobytes() == part[place].numpy().tobytes()
    assert bool(together[0][-1].isnan().all())


@pytest.mark.parametrize(
    ("dtype", "rows", "columns", "expected"),
    [
        (torch.float64, 64, 64, True),
        (torch.float32, lockstep.TALLEST, 64, True),
        (torch.float64, 65, 65, False),
        (torch.float64, lockstep.TALLEST + 1, 8, False),
        (torch.complex128, 8, 8, False),
    ],
)
def test_shapes(dtype: torch.dtype, rows: int, columns: int, expected: bool) -> None:
    """Real matrices that are small in one dimension and not long in the other are decomposed so."""
    assert lockstep.decomposes(dtype, rows, columns) is expected
    assert lockstep.decomposes(dtype, columns, rows) is expected
