"""Calls: their limits, options, inputs and parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matfn_kernels.contract.functions import ENTRIES, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from matfn_kernels.contract.rejection import Rejection

__all__ = ["Call", "Layout", "Limits", "Options", "refilled"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that a call may not exceed.

    Attributes:
        max_order: each dimension of a matrix.
        max_items: product of the leading dimensions.
        max_elements: numbers in all inputs after broadcasting, and in all outputs.
    """

    max_order: int = 8192
    max_items: int = 65536
    max_elements: int = 1 << 28


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a call, which all functions have in common."""

    method: str = "auto"
    certify: str = "estimate"
    tol: float | None = None
    precision: str = "auto"
    deadline: float | None = None
    priority: int = 0
    on_failure: str = "raise"


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose names, shapes, dtypes and parameters are right.

    Attributes:
        function: a name of the catalogue.
        inputs: tensors of shape (items, ...), leading dimensions broadcast and flattened.
        lead: the leading dimensions, to be restored on the outputs.
        parameters: every parameter of the function, defaults filled in, but those of which each matrix has its own:
            they are inputs (items,) by their names.
        options: the options of the call.
        rejected: matrices without an answer, by their index; their content has been replaced.
    """

    function: str
    inputs: Mapping[str, Tensor]
    lead: tuple[int, ...]
    parameters: Mapping[str, Value]
    options: Options
    rejected: Mapping[int, Rejection]

    @property
    def items(self) -> int:
        """Number of matrices."""
        return math.prod(self.lead)

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of the parameters of which each matrix has its own."""
        return tuple(entry.name for entry in ENTRIES[self.function].varying if entry.name in self.inputs)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype all inputs share."""
        return next(iter(self.inputs.values())).dtype


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape and dtype of an input."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def refilled(call: Call, inputs: Mapping[str, Tensor]) -> Call:
    """A call with its inputs replaced by others of the layouts that it was parsed from.

    Args:
        call: an outline, or what `parse_call` returned; the numbers of its inputs are not read.
        inputs: by name, as they were sent; other dtypes are promoted.
    """
    flat = {
        name: _spread(inputs[name].to(former.dtype), call.lead, tuple(former.shape))
        for name, former in call.inputs.items()
    }
    return Call(call.function, flat, call.lead, call.parameters, call.options, {})


def _spread(tensor: Tensor, lead: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    if tensor.shape == shape:
        return tensor
    if tensor.numel() == math.prod(shape):
        return tensor.reshape(shape)
    return tensor.expand(*lead, *shape[1:]).reshape(shape)
