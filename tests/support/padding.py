"""How a matrix is made larger without changing its answer: the padding is part of each function's mathematics.

Zero rows and columns are invisible to every iteration here: P = 0 stays 0, W = a I there and multiplies zeros; norms,
hence scalings, do not change; singular values 0 stay 0. Triangular and low-rank matrices are continued by a unit
diagonal, which decouples. LAPACK routes are never padded: a zero block adds eigenvalues 0, and an inverse root of them
is not zero. A clipped zero block is clip(0) and is cropped away; a zero covariance adds nothing to a distance.
Zero queries and keys have the logit 0 (t and s must grow by the same number, h and hk in proportion); a zero key is
never written to the state of a delta rule. `PADDINGS` says which it is, `pad` and `crop` are inverse to each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.contract.functions import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["PADDINGS", "Padding", "crop", "pad"]


@dataclass(frozen=True, slots=True)
class Padding:
    """What continues the main input, and others named, along its diagonal; the rest continues with zeros."""

    main: str
    diagonal: float
    also: tuple[str, ...] = ()


PADDINGS: Final[Mapping[str, Padding]] = MappingProxyType(
    {
        "root": Padding("a", 0.0),
        "inv_root": Padding("a", 0.0),
        "sqrt_pair": Padding("a", 0.0),
        "msign": Padding("m", 0.0),
        "mclip": Padding("m", 0.0),
        "mcsgn": Padding("a", 1.0),
        "solve_sylvester": Padding("a", 1.0, also=("b",)),
        "solve_lyapunov": Padding("a", 1.0),
        "solve_care": Padding("a", -1.0),
        "spectral_projector": Padding("a", -1.0),
        "tri_inv": Padding("t", 1.0),
        "tri_solve": Padding("t", 1.0),
        "dplr_inv": Padding("diag", 1.0),
        "dplr_solve": Padding("diag", 1.0),
        "frechet_distance": Padding("s1", 0.0),
        "eig_clip": Padding("a", 0.0),
        "geometric_mean": Padding("a", 1.0, also=("b",)),
        "max_logit": Padding("q", 0.0),
        "qk_clip": Padding("w_q", 0.0),
        "delta_rule": Padding("q", 0.0),
    }
)


def pad(function: str, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Inputs (batch, ...) enlarged to the named sizes, such as {"n": 64}; a name not given keeps its size."""
    shapes = {entry.name: entry.shape for entry in FUNCTIONS[function].inputs}
    return {name: _enlarge(tensor, shapes[name], sizes, PADDINGS[function], name) for name, tensor in inputs.items()}


def _enlarge(tensor: Tensor, labels: tuple[str, ...], sizes: Mapping[str, int], padding: Padding, name: str) -> Tensor:
    old = tensor.shape[1:]
    new = [sizes.get(label, size) for label, size in zip(labels, old, strict=True)]
    grown = tensor.new_zeros(tensor.shape[0], *new)
    grown[(slice(None), *(slice(0, size) for size in old))] = tensor
    if name in {padding.main, *padding.also} and padding.diagonal:
        diagonal = grown if len(labels) == 1 else torch.diagonal(grown, dim1=-2, dim2=-1)
        diagonal[:, old[0] :] = padding.diagonal
    return grown


def crop(outputs: tuple[Tensor, ...], shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The leading part of that shape of each output (batch, ...)."""
    return tuple(output[(slice(None), *(slice(0, size) for size in shape))] for output in outputs)
