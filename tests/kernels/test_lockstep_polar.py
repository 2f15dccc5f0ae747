"""Polar factors and clippings of small matrices in C: the answers and certificates of the parts by torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from alike import assert_alike
from matfn_kernels.linalg.native import lockstep
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.linalg.single_thread import one_thread
from matfn_kernels.methods.polar.gram import GramPolar, NativeGramPolar
from matfn_kernels.methods.polar.lockstep_gram import LockstepGramPolar
from matfn_kernels.methods.polar.question import Polar

if TYPE_CHECKING:
    from evaluating import Array
    from matfn_kernels.programs.findings import Findings

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

BOUNDS = [None, (0.0, 1.0), (0.5, math.inf), (0.25, 0.5), (0.0, 1e9), (1e-5, 1e-3), (2.0, 2.0)]
SHAPES = [(1, 1), (7, 2), (5, 5), (33, 16), (16, 33), (64, 64), (150, 64)]


def _with_values(rows: int, columns: int, sigma: Array, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((size, len(sigma))))[0] for size in (rows, columns))
    return np.asarray((u * sigma) @ v.T)


def _matrices(m: int, n: int) -> Array:
    """Usual matrices, and those of lower rank, at the bounds, at the ends of the range or outside the domain."""
    k, gaussian = min(m, n), np.random.default_rng(m + n).standard_normal((m, n))
    return np.stack(
        [
            np.eye(m, n),
            gaussian,
            gaussian * 1e-30,
            gaussian * 1e30,
            _with_values(m, n, np.logspace(0, -3, k), 1),
            _with_values(m, n, np.logspace(0, -7, k), 2),
            _with_values(m, n, np.where(np.arange(k) < k // 2 + 1, 1.0, 0.0), 3),
            _with_values(m, n, np.where(np.arange(k) % 2, 0.25, 0.5), 4),
            _with_values(m, n, np.linspace(0.1, 1, k), 5),
            np.ones((m, n)),
            np.zeros((m, n)),
            np.full((m, n), np.nan),
            np.full((m, n), np.inf),
            np.eye(m, n) * 1e-42,
        ]
    )


@dataclass(frozen=True)
class _Pair:
    program: LockstepGramPolar
    usual: NativeGramPolar

    @classmethod
    def of(cls, shape: tuple[int, int], bounds: tuple[float, float] | None, dtype: torch.dtype) -> _Pair:
        question = Polar(*shape, bounds, dtype)
        usual = NativeGramPolar(question)
        return cls(LockstepGramPolar(question, usual), usual)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("instructions")
def test_as_by_torch(shape: tuple[int, int], bounds: tuple[float, float] | None, dtype: torch.dtype) -> None:
    """Values agree within the estimates, which are alike, and ranks and conditions are the same."""
    m, pair = torch.from_numpy(_matrices(*shape)).to(dtype), _Pair.of(shape, bounds, dtype)
    with one_thread(), np.errstate(all="ignore"):
        found, wanted = pair.program.run({"m": m}), pair.usual.run({"m": m})
    is_known = torch.isfinite(wanted.error)
    assert bool(torch.isfinite(found.error)[is_known].all())
    assert found.rank is not None
    assert wanted.rank is not None
    assert torch.equal(found.rank[is_known], wanted.rank[is_known])
    np.testing.assert_allclose(found.condition[is_known], wanted.condition[is_known], rtol=1e-5)
    assert_alike(found, wanted, is_known, dtype)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.usefixtures("instructions")
def test_same_bits_in_any_company(bounds: tuple[float, float] | None) -> None:
    """A matrix has the same bits and findings alone as beside any others, whoever looks at those."""
    m, program = torch.from_numpy(_matrices(33, 16)).float(), _Pair.of((33, 16), bounds, torch.float32).program
    with one_thread(), np.errstate(all="ignore"):
        together = program.run({"m": m})
        for place in range(len(m)):
            assert _bits(program.run({"m": m[place : place + 1]}), 0) == _bits(together, place), place


def _bits(found: Findings, place: int) -> tuple[bytes, ...]:
    exponent = found.exponents[0]
    scale = 0 if exponent is None else exponent[place]
    value = found.outputs[0][place].double() * 2.0**scale
    return tuple(x.double().numpy().tobytes() for x in (value, found.error[place], found.residual[place]))


@pytest.mark.usefixtures("instructions")
def test_nothing_to_clip() -> None:
    """A matrix whose singular values are within the bounds comes back bit for bit."""
    m = torch.from_numpy(_matrices(33, 16)[[0, 1, 4, 8, 9]]).float()
    with one_thread():
        found = _Pair.of((33, 16), (0.0, 1e9), torch.float32).program.run({"m": m})
    assert torch.equal(found.outputs[0], m)


@pytest.mark.usefixtures("instructions")
def test_subnormal_numbers_are_lifted() -> None:
    """Singular values of the least size come to a bound of ordinary size, where products in float32 overflow."""
    m = torch.eye(33, 16)[None]
    with one_thread():
        found = _Pair.of((33, 16), (0.5, math.inf), torch.float32).program.run({"m": m * 1e-42})
    assert torch.allclose(found.outputs[0], m / 2, rtol=1e-7)
    assert found.error.item() < torch.finfo(torch.float32).eps


@pytest.mark.parametrize(
    ("small", "dtype", "expected"),
    [
        (lockstep.LARGEST, torch.float32, True),
        (lockstep.LARGEST, torch.float16, True),
        (lockstep.LARGEST + 1, torch.float32, False),
        (8, torch.float64, False),
        (8, torch.complex64, False),
    ],
)
def test_variants(small: int, dtype: torch.dtype, expected: bool) -> None:
    """Matrices of float32 or less that are small in one dimension have a variant in C."""
    usual = GramPolar(Polar(small, 200, None, dtype))
    assert any(isinstance(variant, LockstepGramPolar) for variant in usual.variants()) is expected
