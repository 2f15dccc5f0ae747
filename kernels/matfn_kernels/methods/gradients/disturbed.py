"""Errors of gradients as the changes that random disturbances of the inputs cause, of the size of backward errors.

A gradient is computed again for each of a few disturbances, with a multiple of the largest rounding that its
decompositions leave. They are the same for every matrix of an order, so that nothing depends on the batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.scaling import norm
from matfn_kernels.methods.gradients.program import EPS, Gradient

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

__all__ = ["MARGIN", "disturbed", "largest", "noise"]

_LEVEL: Final = 4.0
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
    """Fixed Gaussian matrices (probes, kinds, n, n) whose rows have norms near 1, times `_LEVEL` eps."""
    generator = torch.Generator().manual_seed(_SEED)
    shape = (max(_PROBES, _PROBE_ROWS // order), kinds, order, order)
    found = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    scaled: Tensor = found * (_LEVEL * EPS / order**0.5)
    return scaled


def largest(found: Sequence[Tensor], moved: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """Norms of the largest changes of some gradients (batch, ...), (batch,) each; infinite where one is not finite.

    Args:
        found: the gradients.
        moved: the same for each disturbance, one after the other, which takes the memory of one.
    """
    changes = [torch.zeros(len(one), dtype=torch.float64, device=one.device) for one in found]
    for some in moved:
        sizes = [norm(other - one).nan_to_num(torch.inf) for one, other in zip(found, some, strict=True)]
        changes = [torch.maximum(change, size) for change, size in zip(changes, sizes, strict=True)]
    return changes


def disturbed(value: Tensor, change: Tensor, size: Tensor, most: Tensor, exponent: Tensor | None = None) -> Gradient:
    """A gradient and the largest change that disturbances cause, (batch,) each as in `Gradient`."""
    return Gradient(value, MARGIN * change, size, most, size + change / (_LEVEL * EPS), exponent)
