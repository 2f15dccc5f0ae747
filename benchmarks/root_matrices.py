"""Matrices whose inverse fourth roots are taken: synthetic factors of Shampoo, and those of two models.

* synthetic: Gram matrices G G^T / n of float32 gradients of rank n / 4, rounded, so that their smallest eigenvalues are
  rounding of either sign;
* a language model's: blocks on the diagonals of the factors that ship in `demo/`;
* a perceptron's: both factors of every layer's weights, summed over the steps of a training that is run here.
"""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = ["SOURCES"]

_SHIPPED: Final = Path(__file__).parents[1] / "demo" / "matrices.npz"
_LAYERS: Final = 3
_STEPS: Final = 20
_SAMPLES: Final = 32
_RATE: Final = 0.05


def _synthetic(order: int, items: int) -> Tensor:
    generator = torch.Generator().manual_seed(order)
    g = torch.randn(items, order, order // 4, generator=generator)
    return g @ g.mT / order


def _shipped(order: int, items: int) -> Tensor:
    with np.load(_SHIPPED) as arrays:
        factors = [arrays[name] for name in ("shampoo_l_step1", "shampoo_l_step20", "shampoo_r_step20")]
    blocks = [f[i : i + order, i : i + order] for f in factors for i in range(0, len(f) - order + 1, order)]
    return torch.from_numpy(np.stack(list(islice(cycle(blocks), items))).astype(np.float32))


def _trained(order: int, items: int) -> Tensor:
    """Factors after each step of a training, the last steps' first."""
    generator = torch.Generator().manual_seed(order)
    weights = [(torch.randn(order, order, generator=generator) / order**0.5).requires_grad_() for _ in range(_LAYERS)]
    teacher = torch.randn(order, order, generator=generator) / order**0.5
    left, right = torch.zeros(2, _LAYERS, order, order)
    seen: list[Tensor] = []
    for _ in range(_STEPS):
        x = torch.randn(_SAMPLES, order, generator=generator)
        g = torch.stack(torch.autograd.grad(_loss(weights, x, x @ teacher), weights))
        left, right = left + g @ g.mT, right + g.mT @ g
        seen = [*left, *right, *seen]
        weights = [(w - _RATE * slope).detach().requires_grad_() for w, slope in zip(weights, g, strict=True)]
    return torch.stack(list(islice(cycle(seen), items)))


def _loss(weights: list[Tensor], x: Tensor, target: Tensor) -> Tensor:
    for weight in weights[:-1]:
        x = torch.nn.functional.gelu(x @ weight)
    return torch.nn.functional.mse_loss(x @ weights[-1], target)


SOURCES: Final[Mapping[str, Callable[[int, int], Tensor]]] = {
    "synthetic": _synthetic,
    "a language model's": _shipped,
    "a perceptron's": _trained,
}
"""From an order and a number, float32 matrices (number, order, order); the same every time."""
