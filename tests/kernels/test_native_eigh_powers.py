"""Powers of small symmetric matrices in C: the answers, certificates and refusals of the decomposition by torch."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from alike import assert_alike
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.linalg.single_thread import one_thread
from matfn_kernels.methods.roots.eigh_power import EighPower
from matfn_kernels.methods.roots.native_eigh_power import NativeEighPower
from matfn_kernels.methods.roots.power import Power
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from evaluating import Array
    from matfn_kernels.programs.findings import Findings

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

POWERS = [
    (r, s, inverse, pair)
    for (r, s), (inverse, pair) in product(
        ((2, 1), (4, 1), (3, 2), (1, 1), (2, 5)), ((False, False), (True, False), (False, True))
    )
    if not pair or (r, s) == (2, 1)
]


def _with_spectrum(w: Array, seed: int) -> Array:
    q: Array = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(w), len(w))))[0]
    return np.asarray((q * w) @ q.T)


def _matrices(n: int) -> Array:
    """Usual matrices, and those that the rules of damping have something to say about."""
    half = np.where(np.arange(n) < n // 2 + 1, 1.0, 0.0)
    gaussian = np.random.default_rng(n).standard_normal((n, n))
    return np.stack(
        [
            np.eye(n),
            _with_spectrum(np.logspace(0, -3, n), 1),
            _with_spectrum(np.logspace(0, -6, n), 2),
            _with_spectrum(half, 3),
            np.eye(n) * 1e20,
            _with_spectrum(np.linspace(-1e-9, 1, n), 4),
            np.ones((n, n)),
            np.diag(np.arange(1.0, n + 1)) * 1e-20,
            np.zeros((n, n)),
            _with_spectrum(np.linspace(-1, 1, n), 5),
            gaussian @ gaussian.T,
            np.full((n, n), np.nan),
            gaussian @ gaussian.T + 1e-3 * gaussian,
        ]
    )


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("damping", [None, 0.0, 1e-4, 1e-6, "range"])
@pytest.mark.parametrize("order", [1, 2, 5, 16, 33, 64, 65, 96])
@pytest.mark.usefixtures("instructions")
def test_as_by_torch(order: int, damping: float | str | None, dtype: torch.dtype) -> None:
    """Values agree within the estimates, and conditions, ranks, shifts, remarks and failures are the same."""
    a = torch.from_numpy(_matrices(order)).to(dtype)
    for r, s, inverse, pair in POWERS:
        power = Power(order, None, r, s, inverse, pair, damping, dtype)
        with one_thread(), np.errstate(all="ignore"):
            usual = EighPower(power, pinned=False, precision=Precision.FP64)
            found, wanted = NativeEighPower(power, pinned=False, usual=usual).run({"a": a}), usual.run({"a": a})
        _compare(found, wanted, dtype)


def _compare(found: Findings, wanted: Findings, dtype: torch.dtype) -> None:
    named = set(found.failures) | set(found.remarks) | set(wanted.failures) | set(wanted.remarks)
    none = torch.zeros(len(found.error), dtype=torch.bool)
    for name in named:
        one, other = (dict(x.failures).get(name, none) | dict(x.remarks).get(name, none) for x in (found, wanted))
        assert torch.equal(one, other), name
    failed = torch.stack([none, *wanted.failures.values()]).any(0) | ~torch.isfinite(wanted.error)
    usual = ~failed
    assert torch.equal(torch.isfinite(found.error)[usual], usual[usual])
    assert_alike(found, wanted, usual, dtype)
    assert found.rank is not None
    assert wanted.rank is not None
    assert torch.equal(found.rank[usual], wanted.rank[usual])
    for name in ("condition", "damping", "shift"):
        one, other = (getattr(x, name)[usual].to(torch.float64) for x in (found, wanted))
        one, other = (torch.where(x.abs() > 1e14, torch.inf, x.clamp_min(0)) for x in (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("instructions")
def test_same_bits_in_any_company(dtype: torch.dtype) -> None:
    """A matrix has the same bits and findings alone as beside any others, whoever looks at those."""
    power = Power(33, None, 4, 1, inverse=True, pair=False, damping=None, dtype=dtype)
    a = torch.from_numpy(_matrices(33)).to(dtype)
    program = NativeEighPower(power, pinned=False, usual=EighPower(power, pinned=False, precision=Precision.FP64))
    with one_thread(), np.errstate(all="ignore"):
        together = program.run({"a": a})
        for place in range(len(a)):
            alone = program.run({"a": a[place : place + 1]})
            assert _bits(alone, 0, dtype) == _bits(together, place, dtype), place


def _bits(found: Findings, place: int, dtype: torch.dtype) -> tuple[bytes, ...]:
    """An answer as it is handed out, and what is measured of it."""
    exponent = found.exponents[0]
    scale = 0 if exponent is None else exponent[place]
    value = (found.outputs[0][place].double() * 2.0**scale).to(dtype)
    return tuple(x.double().numpy().tobytes() for x in (value, found.error[place], found.residual[place]))
