"""Findings of two programs for the same matrices: the values, and the errors that they state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg.scaling import release

if TYPE_CHECKING:
    from matfn_kernels.programs.findings import Findings

__all__ = ["assert_alike", "released"]

_ALIKE = 8.0
"""Factor between errors that two programs may state."""


def released(findings: Findings, dtype: torch.dtype) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The outputs in their dtype, and the error with that of rounding them."""
    pairs = [release(*pair, dtype) for pair in zip(findings.outputs, findings.exponents, strict=True)]
    return [value for value, _ in pairs], findings.error + torch.stack([error for _, error in pairs]).amax(0)


def assert_alike(found: Findings, wanted: Findings, usual: torch.Tensor, dtype: torch.dtype) -> None:
    """Asserts that errors are alike, and values no further apart than they say, of the matrices `usual` (batch,)."""
    (values, error), (others, allowed) = released(found, dtype), released(wanted, dtype)
    eps = torch.finfo(dtype).eps
    ratio = error.clamp_min(eps) / allowed.clamp_min(eps)
    assert bool(((ratio < _ALIKE) & (ratio > 1 / _ALIKE))[usual].all())
    for value, other in zip(values, others, strict=True):
        size = torch.linalg.matrix_norm(other.double()).clamp_min(1e-300)
        apart = torch.linalg.matrix_norm((value - other).double()) / size
        is_same = (value == other).flatten(1).all(-1)  # where both overflow too
        assert bool((is_same | (apart <= error + allowed))[usual].all())
