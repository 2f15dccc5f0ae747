"""Whole iterations and diagonal blocks in one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from matfn_kernels.linalg import iteration
from matfn_kernels.linalg.iteration import per_element
from matfn_kernels.linalg.triton import iteration as triton_small
from matfn_kernels.numbers.coefficients import safe, schedule
from spectra import positive, rectangular

if TYPE_CHECKING:
    from collections.abc import Callable

DTYPES = [torch.float32, torch.float64]
SHORT, LONG = (safe(schedule(2, bound), 2, 1.001)[:3] for bound in (0.1, 1e-2))


def _distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((torch.linalg.matrix_norm(x.double() - y) / torch.linalg.matrix_norm(y)).max())


def _positive(order: int, items: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    p = torch.as_tensor(positive(order, condition=50, items=items))
    scaled: torch.Tensor = p / torch.linalg.matrix_norm(p)[:, None, None]
    return scaled.to(dtype)


def _tall(rows: int, columns: int, items: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    m = torch.as_tensor(rectangular((rows, columns), condition=50, items=items))
    scaled: torch.Tensor = m / torch.linalg.matrix_norm(m)[:, None, None]
    return scaled.to(dtype)


def _triangle(order: int, items: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    strict = torch.as_tensor(np.random.default_rng(1).standard_normal((items, order, order))).tril(-1) / 4
    return strict.to(dtype) + torch.eye(order, dtype=dtype)


RUNS: dict[str, tuple[Callable[[int, int], torch.Tensor], Callable[..., torch.Tensor]]] = {
    "coupled": (_positive, lambda p, orders=None: triton_small.coupled(None, p, SHORT, 2, 1, orders)),
    "plain": (lambda n, items: _tall(n, n, items), lambda x, orders=None: triton_small.plain(x, SHORT, orders)),
    "leaf": (_triangle, triton_small.invert_leaf),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("r", "s"), [(1, 1), (2, 1), (3, 2), (4, 1), (4, 3), (5, 1), (8, 1)])
def test_roots_are_those_of_the_iteration(r: int, s: int, dtype: torch.dtype) -> None:
    """G P^(-s/r) as `iteration.coupled` has it in float64, for every form of the contraction and of the power."""
    p, rows = _positive(20, 2, dtype), safe(schedule(r, 0.02 ** (1 / r)), r, 1.001)[:3]
    g = torch.as_tensor(np.random.default_rng(0).standard_normal((2, 25, 20))).to(dtype)

    found = triton_small.coupled(g, p, rows, r, s)

    truth = iteration.coupled(g.double(), p.double(), rows, r, s)
    assert _distance(found, truth) < 100 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_roots_of_several_tiles(dtype: torch.dtype) -> None:
    """Orders above a tile, started from the identity, to convergence."""
    p, rows = _positive(70, 1, dtype), safe(schedule(2, 0.04), 2, 1.001)
    values, vectors = torch.linalg.eigh(p.double())

    found = triton_small.coupled(None, p, rows, 2, 1)

    assert _distance(found, (vectors * values**-0.5) @ vectors.mT) < 1000 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(20, 20), (50, 40), (70, 16)])
def test_polar_factors_are_those_of_the_iteration(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """The polar iteration as `iteration.plain` has it in float64."""
    x = _tall(*shape, 2, dtype)

    found = triton_small.plain(x, LONG)

    assert _distance(found, iteration.plain(x.double(), LONG)) < 100 * torch.finfo(dtype).eps


def test_bf16_is_rounded_at_the_end_only() -> None:
    """An iteration on bf16 matrices is kept in single precision."""
    p, x = _positive(20, 2, torch.bfloat16), _tall(30, 20, 2, torch.bfloat16)

    root, factor = triton_small.coupled(None, p, SHORT, 2, 1), triton_small.plain(x, SHORT)

    assert root.dtype == factor.dtype == torch.bfloat16
    assert _distance(root, iteration.coupled(None, p.double(), SHORT, 2, 1)) < torch.finfo(torch.bfloat16).eps
    assert _distance(factor, iteration.plain(x.double(), SHORT)) < torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 16, 33, 64])
def test_diagonal_blocks_are_inverted(order: int, dtype: torch.dtype) -> None:
    """Forward substitution has a small residual in every row, and reads nothing above the diagonal."""
    t = _triangle(order, 2, dtype)
    above = torch.full_like(t, torch.nan).triu(1)

    found = triton_small.invert_leaf(torch.where(above.isnan(), above, t))

    bound = order * torch.finfo(dtype).eps * (t.double().abs() @ found.double().abs())
    assert ((t.double() @ found.double() - torch.eye(order)).abs() <= bound).all()
    assert torch.equal(found, found.tril())


def test_diagonal_blocks_of_identical_keys_are_exact() -> None:
    """1 on and below the diagonal, where powers of the strict part would grow beyond all digits."""
    expected = torch.eye(64) - torch.eye(64).roll(1, 0).tril(-1)

    found = triton_small.invert_leaf(torch.ones(1, 64, 64).tril())

    assert torch.equal(found[0], expected)


@pytest.mark.parametrize("name", RUNS)
def test_orders_differ_within_a_launch(name: str) -> None:
    """Each matrix is answered as if it were alone; what lies beyond its order is not read, and zero in the answer.

    An iteration's bits are those of a matrix as small as its order; substitution adds by the width of the batch.
    """
    make, run = RUNS[name]
    orders = torch.tensor([7, 40, 33], dtype=torch.int32)
    singles = [make(int(order), 1) for order in orders]
    padded = torch.full((3, 40, 40), torch.nan)
    for item, single in enumerate(singles):
        size = single.shape[-1]
        padded[item] = 0 if name == "plain" else torch.nan
        padded[item, :, size:] = torch.nan
        padded[item, :size, :size] = single

    found = run(padded, orders)

    for item, single in enumerate(singles):
        size = single.shape[-1]
        alone = run(padded[[item]], orders[[item]]) if name == "leaf" else run(single)
        assert torch.equal(found[item, :size, :size], alone[0, :size, :size])
        assert not found[item, size:].any()
        assert not found[item, :, size:].any()


@pytest.mark.parametrize("name", RUNS)
def test_other_matrices_beside_nan_keep_every_bit(name: str) -> None:
    """What is in one matrix of a batch reaches no other, not even the next on the same scratch."""
    make, run = RUNS[name]
    whole = make(20, 3)
    spoilt = whole.clone()
    spoilt[1] = torch.nan

    assert torch.equal(run(spoilt)[[0, 2]], run(whole)[[0, 2]])


@pytest.mark.parametrize("name", ["coupled", "plain"])
def test_scratch_is_shared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More matrices than programs: each takes one after the other, NaN among them, to the same bits."""
    make, run = RUNS[name]
    x = make(20, 5)
    x[2] = torch.nan
    alone = torch.cat([run(x[[item]]) for item in range(5)])
    monkeypatch.setattr(triton_small, "_LEAST_PROGRAMS", 2)
    monkeypatch.setattr(triton_small, "_SCRATCH_BYTES", 1)

    found = run(x)

    torch.testing.assert_close(found, alone, rtol=0, atol=0, equal_nan=True)


def test_frozen_elements_keep_every_bit() -> None:
    """The row (1, 0, 0) leaves one element unchanged while the others go on."""
    p, x = _positive(20, 2), _tall(30, 20, 2)
    rows = per_element([SHORT[:2], LONG], p)

    root, factor = triton_small.coupled(None, p, rows, 2, 1), triton_small.plain(x, rows)

    assert torch.equal(root[:1], triton_small.coupled(None, p[:1], SHORT[:2], 2, 1))
    assert torch.equal(root[1:], triton_small.coupled(None, p[1:], LONG, 2, 1))
    assert torch.equal(factor[:1], triton_small.plain(x[:1], SHORT[:2]))


def test_only_the_identity_is_skipped() -> None:
    """A row whose quadratic coefficient alone is not zero is a step like others."""
    p, rows = _positive(20, 2), ((1.0, 0.0, -0.5), (1.0, 0.0, 0.25))

    found = triton_small.coupled(None, p, rows, 2, 1)

    assert _distance(found, iteration.coupled(None, p.double(), rows, 2, 1)) < 10 * torch.finfo(torch.float32).eps


def test_inputs_are_not_written_to() -> None:
    """The iterations work on a scratch of their own."""
    p, x = _positive(20, 2), _tall(30, 20, 2)
    before = p.clone(), x.clone()

    triton_small.coupled(p, p, SHORT, 3, 2)
    triton_small.plain(x, SHORT)

    assert torch.equal(p, before[0])
    assert torch.equal(x, before[1])
