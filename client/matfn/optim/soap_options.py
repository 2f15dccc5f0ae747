"""The options of one parameter group of SOAP, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from matfn.optim.blocks import Blocks
from matfn.optim.options import require_finite, require_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Oversize", "SoapOptions"]

Oversize: TypeAlias = Literal["blocks", "identity"]


@dataclass(frozen=True, slots=True)
class SoapOptions:
    """Options that a parameter group of SOAP may set for itself; the optimizer's docstring has the meanings."""

    lr: float
    betas: tuple[float, float]
    shampoo_beta: float | None
    eps: float
    weight_decay: float
    max_preconditioner_dim: int
    oversize: Oversize
    tol_drift: float
    tol: float | None

    def __post_init__(self) -> None:
        for name in ("lr", "eps", "weight_decay", "tol_drift", "tol"):
            require_finite(name, getattr(self, name))
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas} must lie in [0, 1)")
        if self.shampoo_beta is not None and not 0 < self.shampoo_beta <= 1:
            raise ValueError(f"shampoo_beta={self.shampoo_beta} must lie in (0, 1]; 1 sums instead of averaging")
        if self.oversize not in get_args(Oversize):
            raise ValueError(f"oversize={self.oversize!r} is none of {', '.join(map(repr, get_args(Oversize)))}")
        require_whole("max_preconditioner_dim", self.max_preconditioner_dim)

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> SoapOptions:
        """The options of a group, whose learning rate a scheduler may have changed, to a tensor if it was one."""
        given = {field.name: group[field.name] for field in fields(cls)}
        return cls(**given | {"lr": float(group["lr"]), "betas": tuple(group["betas"])})

    @property
    def factor_beta(self) -> float:
        """The decay of the factors."""
        return self.betas[1] if self.shampoo_beta is None else self.shampoo_beta

    def blocks(self, shape: Sequence[int]) -> Blocks:
        """The blocks of a tensor; with oversize="identity" there is one, whatever its size."""
        limit = self.max_preconditioner_dim if self.oversize == "blocks" else math.prod(shape)
        return Blocks.of(shape, max(1, limit))
