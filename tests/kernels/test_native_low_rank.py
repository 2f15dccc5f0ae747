"""Diagonal plus low rank in C: the dense products and solutions, whoever is beside, by every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluating import EPS, Array, answer, truth
from honesty import assert_honest
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.reference import relative_error

pytestmark = pytest.mark.skipif(not native.is_built(), reason="installed without a C compiler")

SHAPES = [(1, 1, 1), (5, 3, 4), (8, 8, 16), (13, 40, 33), (64, 2, 1), (129, 17, 5)]


def _parts(order: int, rank: int, columns: int, dtype: str, items: int = 3) -> list[torch.Tensor]:
    """l, Q, K and B of well-conditioned matrices."""
    rng = np.random.default_rng(order)
    arrays = [rng.uniform(1, 2, (items, order))]
    arrays += [rng.standard_normal((items, order, width)) / order**0.5 for width in (rank, rank, columns)]
    return [torch.from_numpy(array.astype(dtype)) for array in arrays]


def _dense(diag: torch.Tensor, q: torch.Tensor, k: torch.Tensor, *, transpose: bool) -> Array:
    t: Array = np.tril(q.double().numpy() @ k.double().numpy().swapaxes(1, 2), -1)
    t += diag.double().numpy()[:, :, None] * np.eye(t.shape[-1])
    return np.asarray(t.swapaxes(1, 2) if transpose else t)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("transpose", [False, True])
def test_acts_as_the_dense_matrix(shape: tuple[int, int, int], dtype: str, *, transpose: bool) -> None:
    """Products and solutions, of the matrix and its transpose, are those of T itself to rounding."""
    diag, q, k, b = _parts(*shape, dtype)
    t = _dense(diag, q, k, transpose=transpose)
    product = native.apply_low_rank(diag, q, k, b, transpose=transpose, inverse=False).numpy()
    solution = native.apply_low_rank(diag, q, k, b, transpose=transpose, inverse=True).numpy()

    assert relative_error(product, t @ b.double().numpy()).max() < 8 * EPS[dtype] * np.sqrt(shape[0])
    assert relative_error(solution, np.linalg.solve(t, b.double().numpy())).max() < 32 * EPS[dtype] * shape[0] ** 0.5


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("inverse", [False, True])
def test_other_matrix_changes_no_bit(inverse: bool) -> None:
    """A matrix of NaN, infinities or a zero on the diagonal does not change the next answer."""
    parts = _parts(21, 5, 6, "float32")
    alone = [native.apply_low_rank(*(x[[2]] for x in parts), transpose=False, inverse=inverse)]
    for bad in (torch.nan, torch.inf, 0.0, 3e38):
        spoilt = [torch.cat([x[:2] * 0 + bad, x[2:]]) for x in parts]
        alone.append(native.apply_low_rank(*spoilt, transpose=False, inverse=inverse)[2:])

    assert all(torch.equal(alone[0], found) for found in alone[1:])


def test_torch_answers_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the answers and their estimates are those of the same matrices."""
    diag, q, k, b = (x.numpy() for x in _parts(150, 6, 4, "float32"))
    inputs = {"diag": diag, "q": q, "k": k, "b": b}
    in_c = answer("dplr_solve", inputs)
    monkeypatch.setattr(native, "is_built", lambda: False)
    by_torch = answer("dplr_solve", inputs)

    for found in (in_c, by_torch):
        assert_honest(found, *truth("dplr_solve", inputs, found.certificates))
