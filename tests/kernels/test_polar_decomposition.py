"""M = U H: both factors are within the estimate, U is msign's, and H is positive semidefinite."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from evaluating import EPS, Array, answer
from matfn_kernels import Rejection
from matfn_kernels.reference import relative_error
from spectra import orthogonal

SHAPES = [(1, 1), (3, 3), (12, 12), (9, 5), (5, 9), (1, 7), (7, 1)]


def graded(shape: tuple[int, int], condition: float, dtype: str) -> Array:
    """Three matrices whose singular values fall from 1 to 1 / condition, of other sizes each."""
    rng = np.random.default_rng(shape)
    small, is_complex = min(shape), dtype.startswith("complex")
    left, right = (np.stack([orthogonal(rng, size, small, is_complex=is_complex) for _ in range(3)]) for size in shape)
    values = condition ** -np.linspace(0, 1, small)
    scales = np.array([1.0, 1e-12, 1e12])[:, None, None]
    return np.asarray((left * values @ right.conj().swapaxes(-1, -2)) * scales).astype(dtype)


def factors(m: Array) -> tuple[Array, Array]:
    """U and H of a matrix of full rank, by 60 digits."""
    with mpmath.workdps(60):
        u, s, vh = mpmath.svd_c(mpmath.matrix(m.tolist()))
        h = vh.H * mpmath.diag(list(s)) * vh
        return np.array((u * vh).tolist(), dtype=complex), np.array(h.tolist(), dtype=complex)


@pytest.mark.parametrize("condition", [1.0, 1e3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_factors_are_within_the_estimate(shape: tuple[int, int], dtype: str, condition: float) -> None:
    """For every shape, size and dtype; the estimate is that of the worse factor."""
    m = graded(shape, condition, dtype)

    found = answer("polar", {"m": m})

    for one, u, h, certificate in zip(m, *found.outputs, found.certificates, strict=True):
        true_u, true_h = factors(one)
        assert certificate.outcome == "converged"
        assert certificate.error_estimate is not None
        assert relative_error(u, true_u) <= certificate.error_estimate
        assert relative_error(h, true_h) <= certificate.error_estimate


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_u_is_the_polar_factor_and_h_is_semidefinite(shape: tuple[int, int], dtype: str) -> None:
    """U has the bits of msign by the svd; H is Hermitian to the bit, without an eigenvalue that is negative."""
    m = graded(shape, 1e3, dtype)

    u, h = answer("polar", {"m": m}).outputs

    assert np.array_equal(u, answer("msign", {"m": m}, method="svd").outputs[0])
    assert np.array_equal(h, h.conj().swapaxes(-1, -2))
    for one in h:
        w = np.linalg.eigvalsh(one.astype(np.complex128))
        assert w[0] >= -8 * EPS[dtype] * w[-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_matrix_of_any_rank_is_its_factors_product(dtype: str) -> None:
    """Zero, rank one, and rank deficient matrices: U vanishes where H does, and M = U H."""
    rng = np.random.default_rng(1)
    tall, wide = rng.standard_normal((9, 3)), rng.standard_normal((3, 7))
    m = np.stack([np.zeros((9, 7)), np.outer(tall[:, 0], wide[0]), tall @ wide]).astype(dtype)

    found = answer("polar", {"m": m})
    u, h = (output.astype(np.float64) for output in found.outputs)

    assert [certificate.rank for certificate in found.certificates] == [0, 1, 3]
    assert (np.linalg.norm(u @ h - m, axis=(-2, -1)) <= 20 * EPS[dtype] * np.linalg.norm(m, axis=(-2, -1))).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_h_of_an_empty_matrix_is_zero(shape: tuple[int, int]) -> None:
    """U is empty, and H of the columns' order is a sum over nothing."""
    u, h = answer("polar", {"m": np.zeros((2, *shape))}).outputs

    assert u.shape == (2, *shape)
    assert np.array_equal(h, np.zeros((2, shape[1], shape[1])))


def test_bf16_is_refused() -> None:
    """There is no singular value decomposition in bf16, and the message says what to ask for."""
    with pytest.raises(Rejection, match="no bf16 arithmetic"):
        answer("polar", {"m": np.eye(2, dtype="float32")}, precision="bf16")


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1.0], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5)], ids=str)
def test_no_size_costs_a_digit(shape: tuple[int, int], scale: float) -> None:
    """U is the same to the bit for a matrix times a power of two near `scale`, and H scales with it."""
    power = 2.0 ** round(np.log2(scale))
    m = graded(shape, 10.0, "float64")[:1]

    u, h = answer("polar", {"m": m}).outputs
    scaled_u, scaled_h = answer("polar", {"m": m * power}).outputs

    assert np.array_equal(scaled_u, u)
    assert np.array_equal(scaled_h, h * power)
