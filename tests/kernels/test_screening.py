"""Matrices that are declared symmetric are looked at in one pass, which misses no flaw."""

from __future__ import annotations

import math

import pytest
import torch

from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg import invariant
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.validation import Call, Limits, parse_call

DTYPES = (torch.float32, torch.float64)
ORDERS = (5, 16, 100, 256)


def symmetric(order: int, dtype: torch.dtype) -> torch.Tensor:
    """Three symmetric matrices (3, order, order), of 2^15 numbers or more at large orders."""
    g = torch.randn(3, order, order, dtype=dtype, generator=torch.Generator().manual_seed(order))
    return g + g.mT


def screened(a: torch.Tensor) -> Call:
    """The call of a square root, screened."""
    return screen(parse_call("root", {"a": a}, {"r": 2}, {}, Limits()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_largest_magnitudes_of_symmetric_matrices(order: int, dtype: torch.dtype) -> None:
    """A matrix's largest magnitude is found wherever it lies; a matrix that differs from its transpose has NaN."""
    a = symmetric(order, dtype)
    for place in ((0, 0), (order - 1, 0), (order - 1, order - 1), (order // 2, order // 3)):
        large, skew = a.clone(), a.clone()
        large[1][place] = large[1].mT[place] = -1000.0
        skew[1, -1, 0] += 1.0
        expected = a.abs().flatten(1).amax(-1)

        assert invariant.symmetric_peak(large).tolist() == [expected[0], 1000.0, expected[2]]
        assert invariant.symmetric_peak(skew).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_good_matrices_pass(order: int, dtype: torch.dtype) -> None:
    """Symmetric finite matrices, zeros of either sign and rounding among them, are taken as they are."""
    a = symmetric(order, dtype)
    a[0, 0, 1], a[0, 1, 0] = 0.0, -0.0
    a[2, 0, 1] *= 1 + 4 * torch.finfo(dtype).eps

    assert screened(a).inputs["a"] is not None
    assert not screened(a).rejected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("flaw", "code"), [(math.nan, "not_finite"), (math.inf, "not_finite"), (1e3, "not_symmetric")])
def test_a_flaw_anywhere_is_found(order: int, dtype: torch.dtype, flaw: float, code: str) -> None:
    """One bad number refuses its matrix, above the diagonal, below it or, not finite, on it."""
    places = [(0, order - 1), (order - 1, 0), (order // 2, order // 2 - 1)]
    places += [(order - 1, order - 1)] if code == "not_finite" else []
    for place in places:
        a = symmetric(order, dtype)
        a[1][place] = flaw
        with pytest.raises(Rejection) as refused:
            screened(a)
        assert (refused.value.code, refused.value.index) == (code, 1)
