"""Errors of gradients as the changes that random disturbances of the inputs cause, of the size of backward errors.

A gradient is computed again for each of a few disturbances, with a multiple of the largest rounding that its
decompositions leave. They are the same for every matrix of an order, so that nothing depends on the batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from matfn_kernels.linalg.scaling import norm
from matfn_kernels.methods.gradients.program import EPS

__all__ = ["LEVEL", "MARGIN", "noise", "repeated", "spread"]

LEVEL: Final = 4.0
"""Size of a disturbance in units of eps times the norm of a row: half of what LAPACK leaves at most as a rule."""
MARGIN: Final = 4.0
"""How often the largest change counts. With 1 true errors were at most 0.4 of the estimate: 200 random pairs each of
positive definite matrices and of covariances, orders 1 to 3, conditions to 1e9, against 60 digits."""
_PROBES: Final = 4
"""Disturbances that are tried, at the price of as many gradients."""
_PROBE_ROWS: Final = 32
"""Rows that the disturbances have together where n is small: more are tried for n up to 8."""
_SEED: Final = 20241129
"""Any number: it makes the disturbances the same in every process."""


@lru_cache(maxsize=64)
def noise(kinds: int, order: int) -> Tensor:
    """Fixed Gaussian matrices (kinds, probes, n, n) whose rows have norms near 1, times `LEVEL` eps."""
    generator = torch.Generator().manual_seed(_SEED)
    shape = (kinds, max(_PROBES, _PROBE_ROWS // order), order, order)
    found = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    scaled: Tensor = found * (LEVEL * EPS / order**0.5)
    return scaled


def repeated(x: Tensor, probes: int) -> Tensor:
    """X (batch, ...) as often as there are disturbances, (batch * probes, ...)."""
    return x[:, None].expand(-1, probes, *x.shape[1:]).flatten(0, 1)


def spread(value: Tensor, disturbed: Tensor) -> Tensor:
    """Norm of the largest change, (batch,), infinite where a disturbed gradient is not finite.

    Args:
        value: the gradient (batch, ...).
        disturbed: the gradients for all disturbances (batch * probes, ...).
    """
    probes = len(disturbed) // len(value)
    changes = norm(disturbed - repeated(value, probes)).reshape(len(value), probes)
    return changes.nan_to_num(torch.inf, torch.inf, torch.inf).amax(-1)
