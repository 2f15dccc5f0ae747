"""The options of one parameter group, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Grafting", "Options", "require_finite", "require_whole"]

Grafting: TypeAlias = Literal["none", "sgd", "adagrad", "rmsprop", "adam"]


@dataclass(frozen=True, slots=True)
class Options:
    """Options that a parameter group of Shampoo may set for itself; the optimizer's docstring has the meanings."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    damping: float | None
    epsilon: float | None
    root: int
    grafting: Grafting
    grafting_epsilon: float
    max_preconditioner_dim: int
    tol: float | None
    foreach: bool | None

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "damping", "epsilon", "grafting_epsilon", "tol"):
            require_finite(name, getattr(self, name))
        if not (0 <= self.betas[0] < 1 and 0 < self.betas[1] <= 1):
            raise ValueError(
                f"betas={self.betas} must lie in [0, 1) and (0, 1]; a second of 1 sums instead of averaging"
            )
        if (self.damping is None) == (self.epsilon is None):
            given = f"damping={self.damping} (relative) and epsilon={self.epsilon} (absolute)"
            raise ValueError(f"{given}: give one of them, and None for the other")
        if self.grafting not in get_args(Grafting):
            raise ValueError(f"grafting={self.grafting!r} is none of {', '.join(map(repr, get_args(Grafting)))}")
        require_whole("root", self.root, 64)
        require_whole("max_preconditioner_dim", self.max_preconditioner_dim)

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> Options:
        """The options of a group, whose learning rate a scheduler may have changed, to a tensor if it was one."""
        given = {field.name: group[field.name] for field in fields(cls)}
        return cls(**given | {"lr": float(group["lr"]), "betas": tuple(group["betas"])})


def require_finite(name: str, value: float | None) -> None:
    """Refuses what is neither None nor a finite number of at least 0."""
    if value is not None and not 0 <= value < math.inf:
        raise ValueError(f"{name}={value} must be a finite number of at least 0")


def require_whole(name: str, value: object, most: float = math.inf) -> None:
    """Refuses what is no whole number from 1 to `most`."""
    if not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{name}={value!r} must be a whole number from 1" + (f" to {most}" if most < math.inf else ""))
