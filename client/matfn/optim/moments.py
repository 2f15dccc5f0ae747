"""Moments of gradients, and the steps of simpler optimizers whose length a preconditioned step takes.

Lists of tensors go through torch's foreach operations, in one launch a list on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from matfn.optim.factors import bias_correction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn.optim.options import Options

__all__ = ["filtered", "grafted"]


def filtered(states: Sequence[dict[str, Any]], gradients: Sequence[Tensor], options: Options) -> list[Tensor]:
    """The moving averages of the gradients, corrected for their bias; the gradients themselves where beta1 is 0."""
    beta1 = options.betas[0]
    if not beta1:
        return list(gradients)
    averages = _kept(states, "exp_avg", gradients)
    torch._foreach_lerp_(averages, list(gradients), 1 - beta1)
    return list(torch._foreach_div(averages, [bias_correction(beta1, float(state["step"])) for state in states]))  # noqa: SLF001


def grafted(
    states: Sequence[dict[str, Any]], gradients: Sequence[Tensor], directions: Sequence[Tensor], options: Options
) -> Sequence[Tensor | None]:
    """The steps that the grafted optimizer takes in the filtered directions; None without grafting."""
    if options.grafting == "none":
        return [None] * len(directions)
    if options.grafting == "sgd":
        return list(directions)
    beta2 = 1.0 if options.grafting == "adagrad" else options.betas[1]
    squares = _kept(states, "exp_avg_sq", gradients)
    weight = 1 - beta2 if beta2 < 1 else 1.0
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, list(gradients), list(gradients), weight)
    beta = beta2 if options.grafting == "adam" else 1.0
    scales = torch._foreach_div(squares, [bias_correction(beta, float(state["step"])) for state in states])  # noqa: SLF001
    torch._foreach_sqrt_(scales)
    torch._foreach_add_(scales, options.grafting_epsilon)
    return list(torch._foreach_div(list(directions), scales))  # noqa: SLF001


def _kept(states: Sequence[dict[str, Any]], name: str, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors of this name in the states, zeros where they are new."""
    for state, tensor in zip(states, like, strict=True):
        if name not in state:
            state[name] = torch.zeros_like(tensor, memory_format=torch.preserve_format)
    return [state[name] for state in states]
