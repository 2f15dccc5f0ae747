"""Eigenbases of a parameter's factors, and the moments that live in them.

A block G of m rows and n columns has the factors L and R, moving averages of G G^T and G^T G, and their eigenvectors
Q_L and Q_R, in which G is Q_L^T G Q_R. A side that is too long, or has no basis yet, stands in its own axes. New bases
come with their columns matched to those of the old ones, and the second moments move with the columns.
Source: Vyas et al., SOAP, arXiv 2409.11321. Names in a state are numbered as in `factors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch

from matfn import call
from matfn.optim.factors import Factors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn.invocation import Invocation
    from matfn.optim.blocks import Blocks
    from matfn.optim.factors import Place
    from matfn.optim.soap_options import SoapOptions

__all__ = ["SQUARES", "Eigenbases", "into_bases", "out_of_bases"]

SQUARES: Final = "exp_avg_sq"
"""The second moments' name in a state."""
_BASIS: Final = "basis_"


def into_bases(state: Mapping[str, Any], blocks: Blocks, tensor: Tensor) -> Tensor:
    """The blocks G of a tensor as Q_L^T G Q_R."""
    found = tensor.clone(memory_format=torch.contiguous_format)
    for place, view in enumerate(blocks.views(found)):
        left, right = _bases(state, place)
        view.copy_(_between(None if left is None else left.mT, view, right))
    return found


def out_of_bases(state: Mapping[str, Any], blocks: Blocks, tensor: Tensor) -> Tensor:
    """The blocks D of a tensor as Q_L D Q_R^T."""
    found = tensor.clone(memory_format=torch.contiguous_format)
    for place, view in enumerate(blocks.views(found)):
        left, right = _bases(state, place)
        view.copy_(_between(left, view, None if right is None else right.mT))
    return found


def _bases(state: Mapping[str, Any], place: int) -> tuple[Tensor | None, Tensor | None]:
    return state.get(f"{_BASIS}{2 * place}"), state.get(f"{_BASIS}{2 * place + 1}")


def _between(left: Tensor | None, block: Tensor, right: Tensor | None) -> Tensor:
    """Left, block and right multiplied; None is the identity."""
    product = block if left is None else left @ block
    return product if right is None else product @ right


class Eigenbases(Factors["SoapOptions"]):
    """All factors of SOAP, as what a refresh computes eigenbases of.

    A basis in use is replaced only where the refresh about it is adopted, so that the calls may read it beside steps.
    """

    __slots__ = ()
    noun: ClassVar[str] = "bases"

    def _copy(self, factor: Tensor, options: SoapOptions, state: Mapping[str, Any]) -> Tensor:  # noqa: ARG002
        return factor.clone()

    def _call(self, place: Place, factor: Tensor) -> Invocation[Any]:
        """The eigenvectors of a factor in the order of the basis in use, which is the identity at first."""
        options, before = self.options[place.group], self.states[place.group][place.parameter]
        basis = before.get(f"{_BASIS}{place.number}")
        known = torch.eye(len(factor), dtype=factor.dtype, device=factor.device) if basis is None else basis
        return call.eigenbasis(factor, known, tol_drift=options.tol_drift, tol=options.tol)

    def _take(self, state: dict[str, Any], number: int, answer: Any, options: SoapOptions) -> None:
        """Uses a basis, and moves the second moments with its columns."""
        basis, _, _, permutation = answer
        state[f"{_BASIS}{number}"] = basis
        if (squares := state.get(SQUARES)) is not None:
            place, side = divmod(number, 2)
            view = options.blocks(squares.shape).views(squares)[place]
            view.copy_(view.index_select(side, permutation.to(torch.int64)))
