"""Estimates of functions by eigh count what its vectors lack of orthonormality, which a residual does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.linalg
import torch

from evaluating import answer
from honesty import assert_covered
from matfn_kernels.linalg.backward_error import backward_error
from matfn_kernels.linalg.decompositions import Eigen
from spectra import orthogonal

if TYPE_CHECKING:
    from evaluating import Array

SKEWNESS = 1e-4


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64"])
@pytest.mark.parametrize("order", [2, 3, 16])
def test_skewness_is_a_backward_error(order: int, dtype: str) -> None:
    """V diag(w) V^H is A without a residual, whose eigenvalues w are not where V is not orthonormal."""
    rng = np.random.default_rng(order)
    is_complex = dtype.startswith("complex")
    q = np.stack([orthogonal(rng, order, order, is_complex=is_complex) for _ in range(8)])
    skew = SKEWNESS * orthogonal(rng, order, order, is_complex=is_complex)
    v = (q @ (np.eye(order) + skew + skew.conj().T)).astype(dtype)
    w = np.sort(rng.uniform(0.5, 1, (8, order)).astype(dtype).real, axis=-1)
    wide = v.astype(np.complex128 if is_complex else np.float64)
    a = (wide * w[:, None, :].astype(np.float64)) @ wide.conj().swapaxes(1, 2)
    nearest = np.stack([scipy.linalg.polar(one)[0] for one in wide])
    rows = np.linalg.norm(nearest.conj().swapaxes(1, 2) @ a @ nearest - w[:, :, None] * np.eye(order), axis=-1)

    none = torch.zeros(8, dtype=torch.float64)
    given = torch.from_numpy(a.astype(dtype))
    eigen = Eigen(given, none.long(), none, given, torch.from_numpy(w), torch.from_numpy(v), none, none)
    found = backward_error(eigen, torch.from_numpy(a)).numpy()

    assert (found >= rows / 4).all()  # random columns see less once in thousands of rows
    assert (found <= 8 * np.linalg.norm(rows, axis=-1, keepdims=True)).all()


def _with_spectra(values: Array, dtype: str, seed: int) -> Array:
    """Hermitian matrices (batch, n, n) with eigenvalues (batch, n), but for rounding."""
    rng, order = np.random.default_rng(seed), values.shape[-1]
    q = np.stack([orthogonal(rng, order, order, is_complex=dtype.startswith("complex")) for _ in values])
    a = (q * values[:, None, :]) @ q.conj().swapaxes(1, 2)
    return np.asarray((a + a.conj().swapaxes(1, 2)) / 2).astype(dtype)


def _error(found: Array, truth: Array) -> Array:
    """Relative errors of a batch, in extended precision."""
    wide = np.clongdouble if np.iscomplexobj(found) else np.longdouble
    difference, size = (np.abs(x).astype(np.float64) for x in (found.astype(wide) - truth, truth))
    return np.asarray(np.linalg.norm(difference, axis=(-2, -1)) / np.linalg.norm(size, axis=(-2, -1)))


@pytest.mark.parametrize(("order", "dtype"), [(65, "complex128"), (72, "float64"), (96, "complex128")])
def test_powers_beside_the_identity_are_covered(order: int, dtype: str) -> None:
    """A^p = I + p log A + p^2 (log A)^2 / 2 for a small p: the error is that of V V^H, and no backward error's."""
    p, values = 1e-6, np.exp(-np.random.default_rng(order).uniform(0, 2, (24, order)))
    a = _with_spectra(values, dtype, order)
    logarithm = np.stack([scipy.linalg.logm(one) for one in a])
    truth = np.eye(order, dtype=np.longdouble) + p * logarithm + p**2 / 2 * (logarithm @ logarithm)

    found = answer("power", {"a": a}, p=p)

    assert_covered(_error(found.outputs[0], truth), found.certificates)
    assert {c.outcome for c in found.certificates} == {"converged"}


@pytest.mark.parametrize(("order", "dtype"), [(96, "float64"), (512, "float32"), (1024, "float64")])
def test_clipping_all_eigenvalues_is_covered(order: int, dtype: str) -> None:
    """Hi I, which V V^H is but for the skewness of V."""
    a = _with_spectra(np.random.default_rng(order).uniform(1, 2, (1, order)), dtype, order)

    found = answer("eig_clip", {"a": a}, hi=0.25, precision="fp32" if dtype == "float32" else "auto")

    (certificate,) = found.certificates
    assert_covered(_error(found.outputs[0], 0.25 * np.eye(order)[None]), found.certificates)
    assert certificate.outcome == "converged"


@pytest.mark.parametrize(("function", "parameters"), [("exp", {"t": 10.0}), ("power", {"p": 16.5})])
@pytest.mark.parametrize("order", [512, 1024])
def test_steep_functions_of_large_near_multiples_of_the_identity_are_covered(
    order: int, function: str, parameters: dict[str, float]
) -> None:
    """All eigenvalues are off by several eps, and the function by as many times its derivative."""
    spread = 1e-12 * np.random.default_rng(order).random((1, order))
    a = _with_spectra(1 + spread, "complex128", order)
    off, slope = a - np.eye(order), next(iter(parameters.values()))  # 1 - 1e-12 from I: the next term is below 1e-21
    unit = np.exp(np.longdouble(slope)) if function == "exp" else 1

    found = answer(function, {"a": a}, **parameters)

    truth = unit * (np.eye(order) + slope * off.astype(np.clongdouble))
    (certificate,) = found.certificates
    assert_covered(_error(found.outputs[0], truth), found.certificates)
    assert certificate.outcome == "converged"
