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


def rejection_of(function: str, inputs: dict[str, torch.Tensor], **params: object) -> tuple[str, str, str | None]:
    """Code, detail and hint of a single matrix."""
    with pytest.raises(Rejection) as caught:
        screen(parse_call(function, inputs, params, {}, Limits()))
    return caught.value.code, caught.value.detail, caught.value.hint


def gates(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Inputs of 300 gated recurrences, some of whose gates are above 0."""
    shape = 300, 3, 2
    inputs = {name: torch.randn(shape, generator=generator) for name in ("q", "k", "v")}
    return inputs | {name: torch.randn(300, 3, generator=generator) for name in ("beta", "log_gate")}


def flawed(case: str) -> tuple[str, dict[str, torch.Tensor], dict[str, object]]:
    """A function, 300 matrices with flaws of several kinds, and parameters."""
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 300, 2, 2, generator=generator)
    if case == "symmetric":
        a[::3] += a[::3].mT.clone()
        a[::5, 0, 0] = math.nan
        return "root", {"a": a.half()}, {"r": 2}
    if case == "two inputs":
        a[::2], b[::7, 0, 1] = a[::2] + a[::2].mT, math.inf
        return "geometric_mean", {"a": a, "b": b + b.mT + 1e-3 * a}, {}
    if case == "triangular":
        a[::4, 1, 1], a[::6, 1, 0] = 0.0, math.nan
        return "tri_inv", {"t": a}, {}
    return "delta_rule", gates(generator), {}


@pytest.mark.parametrize("case", ["symmetric", "two inputs", "triangular", "gates"])
def test_many_flaws_have_the_words_of_each_alone(case: str) -> None:
    """Each of many flawed matrices is rejected in the words that it gets alone; the first is the one that is raised."""
    function, inputs, params = flawed(case)
    rejected = screen(parse_call(function, inputs, params, {"on_failure": "nan"}, Limits())).rejected
    first = min(rejected)

    assert len(rejected) > 50
    assert rejection_of(function, inputs, **params)[1] == rejected[first].detail
    for index, rejection in rejected.items():
        code, detail, hint = rejection_of(function, {k: v[index : index + 1] for k, v in inputs.items()}, **params)
        words = detail.replace("matrix 0", f"matrix {index}").replace("item 0", f"item {index}")
        assert (rejection.code, rejection.detail, rejection.hint) == (code, words, hint)
        assert rejection.index == index
