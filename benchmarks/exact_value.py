"""An exact value of the study, and what it may be off by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Exact", "Found"]

Array: TypeAlias = "NDArray[Any]"
Found: TypeAlias = "tuple[tuple[Array, ...], Array | None]"
"""Outputs, and what their errors are relative to; None for the norm of the value."""


@dataclass(frozen=True, slots=True)
class Exact:
    """True values of a batch.

    Attributes:
        outputs: (batch, ...) each.
        error: relative error of these values, (batch,).
        ordinary: items that no answer need flag, (batch,); None where the certificate's condition tells.
        scale: what errors are relative to, (batch,); None for the norm of the value.
    """

    outputs: tuple[Array, ...]
    error: Array
    ordinary: Array | None = None
    scale: Array | None = None
