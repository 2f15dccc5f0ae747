"""Symmetric products by half of their tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import gram, quadratic, symmetric_product
from matfn_kernels.linalg.triton.products import table_of
from matfn_kernels.linalg.triton.tiles import lower_tile
from matfn_kernels.programs.calibration import _GPU_ORDERS, _OPERATIONS
from spectra import positive

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
ROW = (3.0, -4.0, 2.0)


def _positive(order: int, items: int, dtype: torch.dtype) -> torch.Tensor:
    p = torch.as_tensor(positive(order, items=items)).to(dtype)
    return torch.tril(p) + torch.tril(p, -1).mT


def _distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((torch.linalg.matrix_norm(x.double() - y) / torch.linalg.matrix_norm(y)).max())


@triton.jit  # type: ignore[untyped-decorator]
def _numbering_kernel(rows_ptr, columns_ptr, COUNT: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    index = tl.arange(0, COUNT)
    i, j = lower_tile(index)
    tl.store(rows_ptr + index, i)
    tl.store(columns_ptr + index, j)


def test_tiles_count_the_lower_triangle() -> None:
    """Numbers run through the tiles on and below the diagonal, row by row, however many there are."""
    count = 1 << 16
    rows, columns = torch.empty(count, dtype=torch.int32), torch.empty(count, dtype=torch.int32)

    _numbering_kernel[(1,)](rows, columns, COUNT=count)

    expected = np.tril_indices(400)
    np.testing.assert_array_equal(rows.cpu(), expected[0][:count])
    np.testing.assert_array_equal(columns.cpu(), expected[1][:count])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 16, 33, 70])
def test_quadratic_is_the_polynomial(order: int, dtype: torch.dtype) -> None:
    """A I + b P + c P^2, symmetric to the bit."""
    p = _positive(order, 2, dtype)

    w = quadratic(p, ROW, torch.empty_like(p), Kernel.SYMMETRIC)

    assert _distance(w, quadratic(p.double(), ROW, torch.empty_like(p, dtype=torch.float64))) < torch.finfo(dtype).eps
    assert torch.equal(w, w.mT)


def test_coefficients_differ_from_element_to_element() -> None:
    """Each matrix has its own coefficients, and (1, 0, 0) gives exactly the identity."""
    p = _positive(40, 3, torch.float32)
    rows = [ROW, (1.0, 0.0, 0.0), (0.5, 1.0, -1.0)]
    a, b, c = (torch.tensor(column)[:, None, None] for column in zip(*rows, strict=True))

    w = quadratic(p, (a, b, c), torch.empty_like(p), Kernel.SYMMETRIC)

    for item, row in enumerate(rows):
        assert torch.equal(w[item], quadratic(p[[item]], row, torch.empty_like(p[:1]), Kernel.SYMMETRIC)[0])
    assert torch.equal(w[1], torch.eye(40))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(50, 40), (16, 16), (20, 70)])
def test_gram_is_the_product(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """X^T X of tall and wide matrices, whichever way they lie in memory."""
    x = torch.as_tensor(np.random.default_rng(0).integers(-8, 9, (2, *shape))).to(dtype)
    lying = x.mT.contiguous().mT
    out = torch.empty(2, shape[1], shape[1], dtype=dtype)

    square = gram(x, out.clone(), Kernel.SYMMETRIC)

    assert _distance(square, x.double().mT @ x.double()) < torch.finfo(dtype).eps
    assert torch.equal(square, square.mT)
    assert torch.equal(square, gram(lying, out.clone(), Kernel.SYMMETRIC))


def test_symmetric_product_is_the_product() -> None:
    """X Y where the factors commute."""
    p = _positive(50, 2, torch.float64)

    found = symmetric_product(p, p @ p, Kernel.SYMMETRIC)

    assert _distance(found, p @ p @ p) < 1e-15
    assert torch.equal(found, found.mT)


def test_other_matrices_beside_nan_keep_every_bit() -> None:
    """What is in one matrix of a batch reaches no other."""
    p = _positive(40, 3, torch.float32)
    spoilt = p.clone()
    spoilt[1] = torch.nan

    whole = quadratic(p, ROW, torch.empty_like(p), Kernel.SYMMETRIC)
    beside = quadratic(spoilt, ROW, torch.empty_like(p), Kernel.SYMMETRIC)

    assert torch.equal(beside[[0, 2]], whole[[0, 2]])
    assert beside[1].isnan().all()


def test_table_of_numbers_is_made_once() -> None:
    """Coefficients that all of a batch share lie on the device already when they are used again."""
    like = torch.empty(5, 3, 3)

    first, second = table_of([ROW, ROW], like), table_of([ROW, ROW], like[:2])

    assert first.shape == (5, 2, 3)
    assert first.data_ptr() == second.data_ptr()


@pytest.mark.parametrize("operation", sorted(_GPU_ORDERS))
def test_calibration_runs_every_operation(operation: str) -> None:
    """What a GPU's profile times is what its name says, and runs."""
    x = _positive(16, 2, torch.float32)

    assert _OPERATIONS[operation](x) is not None  # type: ignore[index]
