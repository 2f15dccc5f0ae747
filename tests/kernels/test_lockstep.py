"""Eigendecompositions of small matrices, as many at once as a vector has lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.native import lapack, lockstep
from matfn_kernels.linalg.native.library import is_built

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Array

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

DTYPES = (np.float32, np.float64)
COMPLEX = {np.float32: np.complex64, np.float64: np.complex128}
ORDERS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 48, 63, 64)


def _with_spectrum(w: Array, seed: int) -> Array:
    q: Array = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(w), len(w))))[0]
    return np.asarray((q * w) @ q.T)


def _gaussian(order: int) -> Array:
    a = np.random.default_rng(order).standard_normal((order, order))
    return a + a.T


def _arrow(order: int) -> Array:
    a = np.diag(np.arange(2.0, order + 2))
    a[0] = a[:, 0] = 1
    return a


def _wilkinson(order: int) -> Array:
    return np.diag(abs(np.arange(order) - (order - 1) / 2)) + np.eye(order, k=1) + np.eye(order, k=-1)


def _glued(order: int) -> Array:
    blocks = np.kron(np.eye(order // 21 + 1), _wilkinson(21))[:order, :order]
    for at in range(21, order, 21):
        blocks[at, at - 1] = blocks[at - 1, at] = 1e-8
    return blocks


def _graded(order: int, downwards: bool) -> Array:
    scale = 10.0 ** -np.linspace(0, 12, order)
    a = np.random.default_rng(order).standard_normal((order, order))
    graded = (a + a.T) * np.sqrt(np.outer(scale, scale))
    return graded if downwards else graded[::-1, ::-1]


def _rows_to_nothing(order: int) -> Array:
    scale = 2.0 ** -np.linspace(0, 500, order)
    return np.outer(scale, scale) * (1 + np.eye(order))


PATHOLOGIES: dict[str, Callable[[int], Array]] = {
    "gaussian": _gaussian,
    "wilkinson": _wilkinson,
    "glued": _glued,
    "graded downwards": lambda n: _graded(n, downwards=True),
    "graded upwards": lambda n: _graded(n, downwards=False),
    "rows to nothing": _rows_to_nothing,
    "clustered": lambda n: _with_spectrum(1 + 1e-12 * np.arange(n), n),
    "two clusters": lambda n: _with_spectrum(np.where(np.arange(n) < n // 2, 1.0, 1e-9), n),
    "condition 1e150": lambda n: _with_spectrum(10.0 ** -np.linspace(0, 150, n), n),
    "rank one": lambda n: np.ones((n, n)),
    "zero": lambda n: np.zeros((n, n)),
    "identity": np.eye,
    "toeplitz": lambda n: 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1),
    "arrow": _arrow,
    "antidiagonal": lambda n: np.eye(n)[::-1],
    "indefinite": lambda n: _with_spectrum(np.linspace(-1, 1, n), n),
}


def _decompose(a: Array) -> tuple[Array, Array]:
    """Eigenvalues and, in columns, eigenvectors of A (batch, n, n)."""
    w, v = invariant.eigh(torch.from_numpy(np.ascontiguousarray(a)))
    return w.numpy(), v.numpy()


def _by_lapack(a: Array) -> tuple[Array, Array]:
    x, n = torch.from_numpy(a), a.shape[-1]
    w, v = torch.empty(a.shape[:-1], dtype=x.real.dtype), torch.empty_like(x)
    lapack.call("eigh", x.dtype, n, len(a), n**3, (n, x.data_ptr(), w.data_ptr(), v.data_ptr()))
    return w.numpy(), v.mT.numpy()


def _errors(a: Array, w: Array, v: Array) -> tuple[float, float]:
    """Residual relative to eps ||A||_F, and ||V^T V - I||_F relative to eps n^(1/2), in extended precision."""
    a, w, v = (x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble) for x in (a, w, v))
    size = max(abs(a).max(), np.finfo(np.longdouble).tiny)
    a, w = a / size, w / size
    norm = max(float(np.sqrt((abs(a) ** 2).sum())), 1e-30)
    residual, skew = a @ v - v * w, v.conj().T @ v - np.eye(len(a))
    return float(np.sqrt((abs(residual) ** 2).sum())) / norm, float(np.sqrt((abs(skew) ** 2).sum())) / len(a) ** 0.5


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PATHOLOGIES)
@pytest.mark.usefixtures("instructions")
def test_as_accurate_as_lapack(name: str, dtype: type[Any]) -> None:
    """Residual and orthogonality are at most twice those of LAPACK's QL, or a few eps, on textbook pathologies."""
    eps = float(np.finfo(dtype).eps)
    for order in ORDERS:
        a = PATHOLOGIES[name](order).astype(dtype)[None]
        (residual, skew), (own, own_skew) = _errors(a[0], *(x[0] for x in _decompose(a))), _lapack_errors(a)
        assert residual <= eps * max(2 * own / eps, 4 + 2 * order**0.5), order
        assert skew <= eps * max(2 * own_skew / eps, 4 + 2 * order**0.5), order


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PATHOLOGIES)
@pytest.mark.usefixtures("instructions")
def test_hermitian_as_accurate_as_lapack(name: str, dtype: type[Any]) -> None:
    """The same pathologies with phases, some of them real, and with an imaginary part that nearly vanishes."""
    eps = float(np.finfo(dtype).eps)
    for order in (1, 2, 3, 5, 8, 17, 32, 64):
        for turn in (0.0, 1e-9, 1.0):
            phases = np.exp(1j * turn * np.arange(order))
            base = PATHOLOGIES[name](order) * np.outer(phases, phases.conj())
            a = ((base + base.conj().T) / 2).astype(COMPLEX[dtype])[None]
            (residual, skew), (own, own_skew) = _errors(a[0], *(x[0] for x in _decompose(a))), _lapack_errors(a)
            assert residual <= max(2 * own, eps * (4 + 2 * order**0.5)), (order, turn)
            assert skew <= max(2 * own_skew, eps * (4 + 2 * order**0.5)), (order, turn)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.usefixtures("instructions")
def test_hermitian_in_any_company(dtype: type[Any]) -> None:
    """A Hermitian matrix has the same bits alone as beside others, and NaN where it is not finite."""
    rng = np.random.default_rng(11)
    batch = rng.standard_normal((19, 13, 13)) + 1j * rng.standard_normal((19, 13, 13))
    batch = ((batch + batch.conj().swapaxes(1, 2)) * rng.choice([1e-20, 1, 1e20], (19, 1, 1))).astype(dtype)
    batch[4, 3, 2] = np.inf
    w, v = _decompose(batch)
    assert np.isnan(w[4]).all()
    assert np.isnan(v[4]).all()
    for place in range(len(batch)):
        alone = _decompose(batch[place : place + 1])
        assert w[place].tobytes() == alone[0][0].tobytes()
        assert v[place].tobytes() == alone[1][0].tobytes()


def _lapack_errors(a: Array) -> tuple[float, float]:
    return _errors(a[0], *(x[0] for x in _by_lapack(a)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [-1, 1])
@pytest.mark.usefixtures("instructions")
def test_extreme_scales(exponent: int, dtype: type[Any]) -> None:
    """Matrices near overflow, and subnormal ones, have the eigenvalues of the matrix of usual size, scaled."""
    limits = np.finfo(dtype)
    base = np.array([[2, 1, 0], [1, 2, 1], [0, 1, 2]], dtype)
    size = limits.max / 8 if exponent > 0 else limits.smallest_subnormal * dtype(2**10)
    w, v = _decompose((base * size)[None])
    expected = np.array([2 - 2**0.5, 2, 2 + 2**0.5]) * float(size)

    np.testing.assert_allclose(w[0].astype(float), expected, rtol=1e-3 if exponent < 0 else 8 * limits.eps)
    assert _errors(base, w[0] / size, v[0])[1] <= 8 * limits.eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 2, 5, 16, 33, 64])
@pytest.mark.usefixtures("instructions")
def test_same_bits_in_any_company(order: int, dtype: type[Any]) -> None:
    """A matrix has the same bits alone, at any place of any batch, and beside NaN, zeros and huge numbers."""
    rng = np.random.default_rng(order)
    mine = rng.standard_normal((order, order))
    mine = (mine + mine.T).astype(dtype)
    others = [np.full_like(mine, np.nan), np.zeros_like(mine), np.eye(order, dtype=dtype), mine * dtype(1e30)]
    others += [np.full_like(mine, np.inf), mine[::-1, ::-1].copy(), np.ones_like(mine), mine * dtype(1e-30)]
    alone = [x.tobytes() for x in _decompose(mine[None])]

    for count in (2, 3, 4, 7, 8, 9, 16, 17, 35):
        batch = [others[i % len(others)] for i in range(count)]
        for place in {0, 1, count // 2, count - 1}:
            w, v = _decompose(np.stack([*batch[:place], mine, *batch[place + 1 :]]))
            assert [w[place].tobytes(), np.ascontiguousarray(v[place]).tobytes()] == alone, (count, place)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("instructions")
def test_not_finite(dtype: type[Any]) -> None:
    """A matrix that is not finite has NaN for an answer, and its neighbours have theirs."""
    a = np.stack([np.eye(6), np.eye(6), 2 * np.eye(6)]).astype(dtype)
    a[1, 4, 2] = np.inf
    w, v = _decompose(a)

    assert np.isnan(w[1]).all()
    assert np.isnan(v[1]).all()
    np.testing.assert_array_equal(w[[0, 2]], np.array([[1], [2]]) * np.ones(6))
    np.testing.assert_array_equal(abs(v[[0, 2]]).sum(-1), np.ones((2, 6)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("instructions")
def test_diagonal_is_exact(dtype: type[Any]) -> None:
    """The eigenvalues of a diagonal matrix are its entries, and its eigenvectors unit vectors."""
    entries = np.random.default_rng(3).permutation(np.arange(-5, 6)).astype(dtype) / 3
    w, v = _decompose(np.diag(entries)[None])

    np.testing.assert_array_equal(w[0], np.sort(entries))
    np.testing.assert_array_equal(abs(v[0]), np.eye(11)[np.argsort(entries)].T)


def test_values_ascend() -> None:
    """Eigenvalues come in ascending order, equal ones included."""
    rng = np.random.default_rng(7)
    a = np.stack([_with_spectrum(rng.integers(-2, 3, 20).astype(float), seed) for seed in range(20)])
    assert (np.diff(_decompose(a)[0], axis=-1) >= 0).all()


def test_orders_beyond_go_to_lapack() -> None:
    """Above its largest order LAPACK decomposes."""
    assert lockstep.serves(torch.complex128, lockstep.LARGEST)
    assert not lockstep.serves(torch.float64, lockstep.LARGEST + 1)
