"""Random columns are those of their matrix alone, and no vector is orthogonal to them by design."""

from __future__ import annotations

import pytest
import torch

from matfn_kernels.linalg import probes

pytestmark = pytest.mark.parametrize("source", ["library", "tensors"])
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]


@pytest.fixture(autouse=True)
def _source(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns as the library in C makes them, where there is one, and as tensors do."""
    if source == "tensors":
        monkeypatch.setattr(probes, "library", lambda: None)


def _matrices(dtype: torch.dtype) -> torch.Tensor:
    """Matrices (500, 9, 7) with entries that half precision holds."""
    numbers = torch.randint(-9, 10, (500, 9, 7), generator=torch.Generator().manual_seed(0))
    return (numbers + (1j if dtype.is_complex else 0)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_are_those_of_their_matrix(dtype: torch.dtype) -> None:
    """Whatever else is in the batch and however the matrix lies in memory."""
    m = _matrices(dtype)

    found = probes.gaussian(m, 50)

    assert torch.equal(found[7], probes.gaussian(m[7:8].mT.contiguous().mT, 50)[0])
    assert found.dtype == (torch.complex128 if dtype.is_complex else torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_of_matrices_are_independent(dtype: torch.dtype) -> None:
    """Mean 0 and variance 1 over matrices, rows and columns, and no correlation beyond chance."""
    found = probes.gaussian(_matrices(dtype), 50).real.flatten(1)

    assert found.mean().abs() < 0.02
    assert (found.square().mean() - 1).abs() < 0.02
    assert (torch.corrcoef(found.T) - torch.eye(200)).abs().max() < 0.25
    assert (torch.corrcoef(found) - torch.eye(500)).abs().max() < 0.5


def test_a_change_of_one_bit_changes_all_columns() -> None:
    """Of any number, of zero too."""
    m = torch.zeros(3, 5, 5, dtype=torch.float64)
    m[1, 4, 4], m[2, 0, 0] = 5e-324, 1.0

    found = probes.gaussian(m, 5)

    assert (found[0] != found[1]).all()
    assert (found[0] != found[2]).all()
