"""Products of large float32 matrices by oneDNN, which takes half of MKL's time for them where vectors are wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["product", "serves", "use"]

_LINEAR: Final = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""X Y^T as compiled models call it, where torch has it."""
_FROM: Final = 256
"""Least dimension: from there up an AVX-512 core of an AMD EPYC has 230 to 250 GFLOP/s by oneDNN, 110 by MKL."""
_HAS_WIDE_VECTORS: Final = torch.backends.cpu.get_cpu_capability() == "AVX512"

_least: int | None = _FROM if _HAS_WIDE_VECTORS else None


def use(least: int | None) -> None:
    """Sets the least order from which oneDNN serves in this process; None: it never does."""
    global _least  # noqa: PLW0603 - the tests' only
    _least = least


def serves(x: Tensor, y: Tensor) -> bool:
    """Whether oneDNN computes X Y of X (batch, m, k) and Y (batch, k, n)."""
    if _least is None or _LINEAR is None or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return bool(min(*x.shape[1:], y.shape[-1]) >= _least)


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
