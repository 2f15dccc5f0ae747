"""Triton's names of torch's dtypes."""

from __future__ import annotations

from typing import Final

import torch
import triton.language as tl

__all__ = ["NAMES", "TYPES"]

NAMES: Final = {torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
"""Names in signatures of kernels."""

TYPES: Final = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32, torch.float64: tl.float64}
"""Types within kernels."""
