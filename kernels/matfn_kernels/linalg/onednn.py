"""Products of large float32 matrices by oneDNN, from the order that the plan's backends name (`linalg.backends`).

An AVX-512 core of an AMD EPYC has 230 to 250 GFLOP/s by oneDNN from order 256 on, 110 by MKL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import backends

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["is_built", "product", "serves"]

_LINEAR: Final = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""X Y^T as compiled models call it, where torch has it."""


def is_built() -> bool:
    """Whether torch offers oneDNN's products."""
    return _LINEAR is not None


def serves(x: Tensor, y: Tensor) -> bool:
    """Whether oneDNN computes X Y of X (batch, m, k) and Y (batch, k, n)."""
    if _LINEAR is None or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return bool(min(*x.shape[1:], y.shape[-1]) >= backends.chosen().least("onednn", "products", x.dtype))


def product(x: Tensor, y: Tensor) -> Tensor:
    """X Y, matrix by matrix and each without gaps, without which oneDNN takes a thousand times as long.

    Rounding errors are up to 1.6 times those of MKL.
    """
    assert _LINEAR is not None
    return torch.stack(
        [_LINEAR(_own(one), _own(other).mT, None, "none", [], "") for one, other in zip(x, y, strict=True)]
    )


def _own(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)
