"""How a matrix is made larger without changing its answer: the padding is part of each function's mathematics.

Zero rows and columns are invisible to every iteration here: P = 0 stays 0, W = a I there and multiplies zeros; norms,
hence scalings, do not change; singular values 0 stay 0. Triangular and low-rank matrices are continued by a unit
diagonal, which decouples. LAPACK routes are never padded: a zero block adds eigenvalues 0, and an inverse root of them
is not zero. A clipped zero block is clip(0) and is cropped away; a zero covariance adds nothing to a distance.
Zero queries and keys have the logit 0 (t and s must grow by the same number, h and hk in proportion); a zero key is
never written to the state of a delta rule. The catalogue's `Input.padding` is the rule; `crop` undoes `pad`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from matfn_kernels.contract.functions import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.contract.schema import Input

__all__ = ["crop", "pad"]


def pad(function: str, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Inputs (batch, ...) enlarged to the named sizes, such as {"n": 64}; a name not given keeps its size."""
    entries = {entry.name: entry for entry in FUNCTIONS[function].inputs}
    return {name: _enlarged(tensor, entries[name], sizes) for name, tensor in inputs.items()}


def _enlarged(tensor: Tensor, entry: Input, sizes: Mapping[str, int]) -> Tensor:
    old = tensor.shape[1:]
    new = [sizes.get(label, size) for label, size in zip(entry.shape, old, strict=True)]
    grown = tensor.new_zeros(tensor.shape[0], *new)
    grown[(slice(None), *(slice(0, size) for size in old))] = tensor
    if entry.padding:
        diagonal = grown if len(entry.shape) == 1 else torch.diagonal(grown, dim1=-2, dim2=-1)
        diagonal[:, old[0] :] = entry.padding
    return grown


def crop(outputs: tuple[Tensor, ...], shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The leading part of that shape of each output (batch, ...)."""
    return tuple(output[(slice(None), *(slice(0, size) for size in shape))] for output in outputs)
