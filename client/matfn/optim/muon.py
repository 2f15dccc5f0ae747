"""Muon whose polar factors are computed by any client, by default in this process.

Orthogonalising a matrix takes a few products, in which moving it over a network can cost more than computing it: a
server is used only where one is named, and up to a budget of bytes a step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args, overload

import torch
from torch.optim import Optimizer

from matfn import call
from matfn.errors import MatfnError
from matfn.local import LocalClient
from matfn.optim.refresh import chosen_client
from matfn.optim.shards import is_sharded, local_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor
    from torch.optim.optimizer import ParamsT

    from matfn.answers import Answer
    from matfn.invocation import Invocation
    from matfn.optim.refresh import RefreshClient

__all__ = ["AdjustLr", "Muon"]

AdjustLr: TypeAlias = Literal["original", "match_rms_adamw"]

_MATRIX: Final = 2  # dimensions
_BYTES_PER_STEP: Final = 16 << 20  # 0.13 s on a link of 1 Gbit/s, about what a step of a small model takes


class Muon(Optimizer):
    """Muon with the names of torch.optim.Muon's arguments, and exact polar factors of the momenta.

    Every step asks for all polar factors in one request and waits for them.

    Args:
        params: matrices, or groups of them; embeddings, heads, vectors and scalars belong to another optimizer.
        lr: step length; a scheduler may change it.
        client: who computes the polar factors; None takes a LocalClient that all share.
        weight_decay: decoupled, as in AdamW.
        momentum: decay of the gradient's average.
        nesterov: whether to look ahead by one step of the momentum.
        ns_coefficients: (a, b, c) of Newton-Schulz steps in place of the exact factor, as torch.optim.Muon takes them.
        ns_steps: number of these steps.
        adjust_lr_fn: how the rate follows an m x n matrix: "original", the default, by sqrt(max(1, m / n)), and
            "match_rms_adamw" by 0.2 sqrt(max(m, n)).
        max_bytes_per_step: bytes that a client other than a LocalClient may move in one step, both ways together.

    Raises:
        ValueError: an argument is outside its domain, a parameter is no matrix or is sharded, or the matrices exceed
            the budget.
    """

    def __init__(  # noqa: PLR0913 - an optimizer's options are its interface
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        client: RefreshClient | None = None,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] | None = None,
        ns_steps: int = 5,
        adjust_lr_fn: AdjustLr | None = None,
        max_bytes_per_step: int = _BYTES_PER_STEP,
    ) -> None:
        self._client = chosen_client(client)
        self._max_bytes = max_bytes_per_step
        own: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        own |= {"ns_coefficients": ns_coefficients, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        super().__init__(params, own)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, as any optimizer of torch does.

        Raises:
            ValueError: as the constructor.
        """
        _require_options(self.defaults | param_group)
        super().add_param_group(param_group)
        try:
            for parameter in self.param_groups[-1]["params"]:
                _require_matrix(parameter)
            self._require_budget()
        except ValueError:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates all parameters that have a gradient.

        Args:
            closure: computes the loss and the gradients anew.

        Raises:
            MatfnError: a polar factor could not be computed; no parameter has moved.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = [
            (group, parameter)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        calls = [_polar_factor(self._momentum(group, parameter), group) for group, parameter in moving]
        factors = [_value(answer) for answer in self._client.with_info.map(calls, on_error="return")]
        for (group, parameter), factor in zip(moving, factors, strict=True):
            _move(local_shard(parameter), factor, group)
        return loss

    def __getstate__(self) -> dict[str, Any]:
        """The optimizer with its client."""
        return super().__getstate__() | {"_client": self._client, "_max_bytes": self._max_bytes}

    def _momentum(self, group: Mapping[str, Any], parameter: Tensor) -> Tensor:
        """The momentum after the parameter's gradient."""
        assert parameter.grad is not None
        gradient, state = local_shard(parameter.grad), self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient, memory_format=torch.preserve_format)
        momentum: Tensor = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum

    def _require_budget(self) -> None:
        moved = 2 * sum(one.numel() * one.element_size() for group in self.param_groups for one in group["params"])
        if not isinstance(self._client, LocalClient) and moved > self._max_bytes:
            raise ValueError(
                f"these matrices move {moved:,} bytes in each step, both ways, and max_bytes_per_step is"
                f" {self._max_bytes:,}: client=None orthogonalises them in this process, which is faster over most"
                " links; a larger max_bytes_per_step sends them all the same"
            )


def _require_options(group: Mapping[str, Any]) -> None:
    for name in ("lr", "weight_decay", "momentum"):
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"{name}={group[name]} must be a finite number of at least 0")
    if group["adjust_lr_fn"] not in (None, *get_args(AdjustLr)):
        allowed = ", ".join(map(repr, get_args(AdjustLr)))
        raise ValueError(f"adjust_lr_fn={group['adjust_lr_fn']!r} is none of {allowed} and None")


def _require_matrix(parameter: Tensor) -> None:
    if parameter.ndim != _MATRIX or parameter.is_complex():
        kind = f"{parameter.dtype} of shape {tuple(parameter.shape)}"
        raise ValueError(f"Muon takes real matrices; a parameter is {kind}: give it to another optimizer")
    if is_sharded(parameter):
        raise ValueError(
            "Muon takes whole matrices; the polar factor of a shard is no shard of the polar factor: gather the"
            " parameter with full_tensor(), or distribute matrices whole among the processes"
        )


def _polar_factor(momentum: Tensor, group: Mapping[str, Any]) -> Invocation[Tensor]:
    if group["ns_coefficients"] is None:
        return call.msign(momentum)
    rows: Sequence[tuple[float, float, float]] = [group["ns_coefficients"]]
    return call.msign(momentum, coefficients=rows, steps=group["ns_steps"])


def _value(answer: Answer[Tensor] | MatfnError) -> Tensor:
    if isinstance(answer, MatfnError):
        raise answer
    return answer.value


def _move(parameter: Tensor, direction: Tensor, group: Mapping[str, Any]) -> None:
    rows, columns = parameter.shape
    matched = 0.2 * math.sqrt(max(rows, columns))
    ratio = matched if group["adjust_lr_fn"] == "match_rms_adamw" else math.sqrt(max(1, rows / columns))
    lr = float(group["lr"])
    parameter.mul_(1 - lr * group["weight_decay"]).add_(direction.to(parameter.dtype), alpha=-lr * ratio)
