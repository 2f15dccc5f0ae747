"""Kronecker factors of a parameter's curvature, their inverse roots, and the direction that these give.

A block G of m rows and n columns has the factors L and R, moving averages (beta2 < 1) or sums (beta2 = 1) of G G^T
and G^T G, and the direction L^(-1/r) G R^(-1/r); r is 4 in Shampoo (Gupta, Koren, Singer, arXiv 1802.09568). A
parameter's state holds the factors and roots by number, those of block b being 2b and 2b + 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch

from matfn import call

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from torch import Tensor

    from matfn.invocation import Invocation
    from matfn.optim.blocks import Blocks
    from matfn.optim.options import Options

__all__ = ["Curvature", "Factors", "Place", "accumulate", "bias_correction", "has_factors", "preconditioned"]

_FACTOR, _ROOT, _FROZEN = "factor_", "root_", "frozen_"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a factor belongs: which parameter of which group, and its number there."""

    group: int
    parameter: int
    number: int

    def __str__(self) -> str:
        return f"factor {self.number} of parameter {self.parameter} in group {self.group}"


def accumulate(state: dict[str, Any], blocks: Blocks, gradient: Tensor, beta2: float, largest: float = inf) -> None:
    """Adds a gradient's blocks to the factors, of which none is of an order above `largest`."""
    weight = 1 - beta2 if beta2 < 1 else 1.0
    for place, block in enumerate(blocks.views(gradient)):
        for number, part in ((2 * place, block), (2 * place + 1, block.mT)):
            if part.shape[0] > largest:
                continue
            name = f"{_FACTOR}{number}"
            if name not in state:
                state[name] = part.new_zeros(part.shape[0], part.shape[0])
            state[name].addmm_(part, part.mT, beta=beta2, alpha=weight)


def has_factors(state: Mapping[str, Any]) -> bool:
    """Whether any gradient was accumulated."""
    return any(name.startswith(_FACTOR) for name in state)


def preconditioned(state: Mapping[str, Any], blocks: Blocks, gradient: Tensor, grafted: Tensor | None) -> Tensor:
    """The direction of each block, scaled to the norm of `grafted` there if that is given.

    A block without roots takes `grafted` itself, or the gradient.
    """
    direction = (gradient if grafted is None else grafted).clone(memory_format=torch.contiguous_format)
    for place, (out, block) in enumerate(zip(blocks.views(direction), blocks.views(gradient), strict=True)):
        left, right = state.get(f"{_ROOT}{2 * place}"), state.get(f"{_ROOT}{2 * place + 1}")
        if left is not None and right is not None:
            own = left @ block @ right
            out.copy_(own if grafted is None else own * _ratio(out, own))
    return direction


def _ratio(wanted: Tensor, given: Tensor) -> Tensor:
    """The quotient of two norms, 0 where both directions are 0."""
    norm = torch.linalg.vector_norm(given)
    ratio: Tensor = torch.linalg.vector_norm(wanted) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return ratio


def bias_correction(beta: float, step: float) -> float:
    """The factor by which a moving average that began at 0 is too small; 1 for a sum."""
    return 1.0 if beta == 1 else 1 - beta**step


OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, slots=True)
class Factors(ABC, Generic[OptionsT]):
    """All factors of an optimizer, as what a refresh is about.

    Attributes:
        states: the parameters' states, by group and place in it.
        options: the groups' options.
    """

    states: Sequence[Sequence[dict[str, Any]]]
    options: Sequence[OptionsT]

    def freeze(self) -> None:
        """Keeps copies of the factors in the states."""
        for _, options, state in self._all():
            for name in named(state, _FACTOR):
                state[_FROZEN + name.removeprefix(_FACTOR)] = self._copy(state[name], options, state)

    def frozen(self) -> dict[Hashable, Tensor]:
        """The frozen factors by their places."""
        return {
            Place(*where, int(name.removeprefix(_FROZEN))): state[name]
            for where, _, state in self._all()
            for name in named(state, _FROZEN)
        }

    def calls(self, frozen: Mapping[Hashable, Tensor]) -> dict[Hashable, Invocation[Any]]:
        """The call about each frozen factor, made exactly symmetric; about one of zeros there is none yet."""
        flags = _nonzero(list(frozen.values()))
        return {
            place: self._call(place, (factor + factor.mT).mul_(0.5))
            for (place, factor), nonzero in zip(frozen.items(), flags, strict=True)
            if nonzero and isinstance(place, Place)
        }

    def adopt(self, answers: Mapping[Hashable, Any]) -> None:
        """Takes what was answered, and drops the frozen factors."""
        for where, options, state in self._all():
            for name in list(named(state, _FROZEN)):
                del state[name]
                number = int(name.removeprefix(_FROZEN))
                if (answer := answers.get(Place(*where, number))) is not None:
                    self._take(state, number, answer, options)

    @abstractmethod
    def _copy(self, factor: Tensor, options: OptionsT, state: Mapping[str, Any]) -> Tensor:
        """The copy of a factor that is sent."""

    @abstractmethod
    def _call(self, place: Place, factor: Tensor) -> Invocation[Any]:
        """The call about a factor."""

    @abstractmethod
    def _take(self, state: dict[str, Any], number: int, answer: Any, options: OptionsT) -> None:
        """Uses the answer about a factor from now on."""

    def _all(self) -> Iterator[tuple[tuple[int, int], OptionsT, dict[str, Any]]]:
        for group, (options, states) in enumerate(zip(self.options, self.states, strict=True)):
            for parameter, state in enumerate(states):
                yield (group, parameter), options, state


class Curvature(Factors["Options"]):
    """All factors of Shampoo, as what a refresh computes roots of."""

    __slots__ = ()
    noun: ClassVar[str] = "roots"

    def _copy(self, factor: Tensor, options: Options, state: Mapping[str, Any]) -> Tensor:
        """The factor, corrected for its bias."""
        corrected: Tensor = factor / bias_correction(options.betas[1], float(state.get("step", 0)))
        return corrected

    def _call(self, place: Place, factor: Tensor) -> Invocation[Any]:
        options = self.options[place.group]
        return call.inv_root(factor, options.root, damping=options.damping, shift=options.epsilon, tol=options.tol)

    def _take(self, state: dict[str, Any], number: int, answer: Any, options: Options) -> None:  # noqa: ARG002
        state[f"{_ROOT}{number}"] = answer


def named(state: Mapping[str, Any], prefix: str) -> list[str]:
    """The entries of a state whose names begin so."""
    return [name for name in state if name.startswith(prefix)]


def _nonzero(matrices: Sequence[Tensor]) -> list[bool]:
    """Which of these semidefinite matrices are not 0, by their diagonals; the device is asked once."""
    if not matrices:
        return []
    flags = torch.stack([matrix.diagonal().any().to(matrices[0].device) for matrix in matrices])
    return [bool(flag) for flag in flags.tolist()]
