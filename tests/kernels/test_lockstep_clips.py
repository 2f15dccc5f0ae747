"""Clipped eigenvalues of small symmetric matrices in C: the answers and certificates of the decomposition by torch."""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from alike import assert_alike, released
from matfn_kernels.linalg.native import lockstep
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.linalg.single_thread import one_thread
from matfn_kernels.methods.hermitian.eig_clip import EigClipProgram
from matfn_kernels.methods.hermitian.lockstep_clip import LockstepClip
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from evaluating import Array
    from matfn_kernels.programs.findings import Findings

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

BOUNDS = [(0.0, math.inf), (-math.inf, 0.0), (-1.0, 1.0), (0.25, 0.5), (1e-12, math.inf), (-1e9, 1e9), (2.0, 2.0)]
ORDERS = [1, 2, 5, 16, 33, 64]


def _with_spectrum(w: Array, seed: int) -> Array:
    q: Array = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(w), len(w))))[0]
    return np.asarray((q * w) @ q.T)


def _matrices(n: int) -> Array:
    """Usual matrices, and those that lie at the bounds, at the ends of the range or outside the domain."""
    gaussian = np.random.default_rng(n).standard_normal((n, n))
    return np.stack(
        [
            np.eye(n),
            -np.eye(n),
            gaussian + gaussian.T,
            gaussian,
            gaussian @ gaussian.T,
            _with_spectrum(np.linspace(-1, 1, n), 1),
            _with_spectrum(np.where(np.arange(n) % 2, 0.25, 0.5), 2),
            _with_spectrum(np.logspace(0, -12, n) * (-1.0) ** np.arange(n), 3),
            _with_spectrum(np.linspace(-1e-9, 1, n), 4),
            np.ones((n, n)),
            np.zeros((n, n)),
            np.diag(np.arange(n) - n / 2) * 1e20,
            np.diag(np.arange(n) - n / 2) * 1e-30,
            np.full((n, n), np.nan),
            np.full((n, n), np.inf),
            1e3 * np.eye(n) - gaussian @ gaussian.T / n,
        ]
    )


def _programs(order: int, bounds: tuple[float, float], dtype: torch.dtype) -> tuple[LockstepClip, EigClipProgram]:
    usual = EigClipProgram(order, *bounds, dtype, Precision.FP64, Precision.FP64)
    return LockstepClip(usual), usual


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.usefixtures("instructions")
def test_as_by_torch(order: int, bounds: tuple[float, float], dtype: torch.dtype) -> None:
    """Values agree within the estimates, which are alike, and conditions and remarks are the same."""
    a = torch.from_numpy(_matrices(order)).to(dtype)
    program, usual = _programs(order, bounds, dtype)
    with one_thread(), np.errstate(all="ignore"):
        found, wanted = program.run({"a": a}), usual.run({"a": a})
    is_known = torch.isfinite(wanted.error)
    assert torch.equal(torch.isfinite(found.error), is_known)
    assert torch.equal(found.remarks["asymmetric"][is_known], wanted.remarks["asymmetric"][is_known])
    np.testing.assert_allclose(found.condition[is_known], wanted.condition[is_known], rtol=1e-6)
    assert_alike(found, wanted, is_known, dtype)
    (value,), _ = released(found, dtype)
    assert torch.equal(value[is_known], value[is_known].mT)


@pytest.mark.parametrize("w", [np.linspace(-2, 2, 32), np.round(np.linspace(-2, 2, 32))])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.usefixtures("instructions")
def test_estimates_cover_the_errors(bounds: tuple[float, float], w: Array) -> None:
    """Clippings of matrices with known eigenvectors are off by no more than their estimates."""
    signs = np.array([[1.0, 1.0], [1.0, -1.0]])
    hadamard = reduce(np.kron, [signs] * 5)
    a, truth = (torch.from_numpy((hadamard * values) @ hadamard.T / 32)[None] for values in (w, np.clip(w, *bounds)))
    with one_thread():
        found = _programs(32, bounds, torch.float64)[0].run({"a": a})
    apart = torch.linalg.matrix_norm(found.outputs[0] - truth) / torch.linalg.matrix_norm(truth)
    assert bool((apart <= found.error + 1e-15).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("instructions")
def test_nothing_to_clip(dtype: torch.dtype) -> None:
    """A symmetric matrix whose eigenvalues are within the bounds comes back bit for bit, with an error of zero."""
    a = torch.from_numpy(_matrices(33)[[0, 2, 4, 15]]).to(dtype)
    a = (a + a.mT) / 2
    with one_thread():
        found = _programs(33, (-1e9, 1e9), dtype)[0].run({"a": a})
    assert torch.equal(found.outputs[0], a)
    assert found.error.tolist() == [0.0] * len(a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("instructions")
def test_same_bits_in_any_company(dtype: torch.dtype) -> None:
    """A matrix has the same bits and findings alone as beside any others, whoever looks at those."""
    a = torch.from_numpy(_matrices(33)).to(dtype)
    program = _programs(33, (-1.0, 1.0), dtype)[0]
    with one_thread(), np.errstate(all="ignore"):
        together = program.run({"a": a})
        for place in range(len(a)):
            assert _bits(program.run({"a": a[place : place + 1]}), 0) == _bits(together, place), place


def _bits(found: Findings, place: int) -> tuple[bytes, ...]:
    exponent = found.exponents[0]
    scale = 0 if exponent is None else exponent[place]
    value = found.outputs[0][place].double() * 2.0**scale
    return tuple(x.double().numpy().tobytes() for x in (value, found.error[place], found.residual[place]))


@pytest.mark.parametrize(
    ("order", "dtype", "precision", "expected"),
    [
        (lockstep.LARGEST, torch.float32, Precision.FP64, True),
        (lockstep.LARGEST, torch.float64, Precision.FP64, True),
        (lockstep.LARGEST + 1, torch.float64, Precision.FP64, False),
        (8, torch.float32, Precision.FP32, False),
        (8, torch.complex128, Precision.FP64, False),
    ],
)
def test_variants(order: int, dtype: torch.dtype, precision: Precision, expected: bool) -> None:
    """Small real matrices in float64 have a variant in C."""
    usual = EigClipProgram(order, 0.0, 1.0, dtype, precision, precision)
    assert any(isinstance(variant, LockstepClip) for variant in usual.variants()) is expected
