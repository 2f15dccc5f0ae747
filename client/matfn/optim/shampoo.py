"""Shampoo whose inverse roots are computed beside the training step, by any client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from matfn.optim.blocks import Blocks
from matfn.optim.factors import Curvature, accumulate, preconditioned
from matfn.optim.moments import filtered, grafted
from matfn.optim.options import Options
from matfn.optim.refreshed_optimizer import Refreshing
from matfn.optim.schedule import Schedule
from matfn.optim.shards import local_shard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Executor

    from torch import Tensor
    from torch.optim.optimizer import ParamsT

    from matfn.optim.options import Grafting
    from matfn.optim.refresh import RefreshClient
    from matfn.optim.schedule import First, OnLate

__all__ = ["Shampoo"]

_DAMPING: Final = 1e-6  # far above the rounding of a float32 factor, far below the eigenvalues that matter


class Shampoo(Refreshing[Options]):
    """Shampoo with blocks, grafting, and inverse roots that are one interval old.

    Every `refresh_every` steps all factors go out in one request. A step never waits for the answer, after the first:
    its roots are adopted at the next refresh. A server that is down or slow costs warnings, not steps; the last good
    roots stay in use. Checkpoints carry factors, roots and the refresh under way, which is sent again when a run
    resumes, so that its losses are the same to the last bit.

    Vectors and scalars take the grafted optimizer's step. A convolution's weight is a matrix of its first dimension
    against the others. Of a DTensor each process preconditions its own shard.

    Args:
        params: parameters, or groups of them, as any optimizer of torch takes them.
        lr: step length; a scheduler may change it.
        client: who computes the roots: a Client, or a LocalClient; None takes a LocalClient that all share.
        refresh_every: steps between two refreshes.
        damping: number added to a factor's diagonal, relative to its largest eigenvalue.
        epsilon: number added to the diagonal, in place of the damping.
        betas: decay of the gradient's average, and of the factors' and squares'; a second of 1 sums.
        weight_decay: decoupled, as in AdamW.
        root: the r of a factor's power -1/r.
        grafting: whose step length a block takes: "adam", "rmsprop", "adagrad", "sgd", or "none" for its own.
        grafting_epsilon: number added to the square roots of the grafted optimizer.
        max_preconditioner_dim: largest order of a factor; larger matrices are split into blocks.
        tol: relative error wanted of the roots; None is what float32 gives.
        foreach: whether to update all tensors of a group in one launch; None does on a GPU.
        start_step: the first step with a refresh; None is refresh_every. Earlier steps are the grafted optimizer's.
        max_staleness: steps that the factors of the roots in use may be old; None is 2 refresh_every, and
            refresh_every adopts new roots at once.
        first: "sync" waits for the first refresh, "async" treats it like the others.
        on_late: where max_staleness is reached without an answer, "keep" the old roots, with a warning, or "wait".
        tolerated_failures: failures in a row that each factor may have; the next one raises its error.
        executor: runs the client's calls, one at a time; None runs them in a thread of the optimizer's own.

    Raises:
        ValueError: an argument is outside its domain; the message says which, and what is allowed.
    """

    def __init__(  # noqa: PLR0913 - an optimizer's options are its interface
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        client: RefreshClient | None = None,
        refresh_every: int = 10,
        damping: float | None = _DAMPING,
        *,
        epsilon: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        root: int = 4,
        grafting: Grafting = "adam",
        grafting_epsilon: float = 1e-8,
        max_preconditioner_dim: int = 1024,
        tol: float | None = None,
        foreach: bool | None = None,
        start_step: int | None = None,
        max_staleness: int | None = None,
        first: First = "sync",
        on_late: OnLate = "keep",
        tolerated_failures: int = 3,
        executor: Executor | None = None,
    ) -> None:
        schedule = Schedule(
            refresh_every,
            refresh_every if start_step is None else start_step,
            2 * refresh_every if max_staleness is None else max_staleness,
            first,
            on_late,
        )
        own: dict[str, Any] = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "epsilon": epsilon}
        own["damping"] = None if epsilon is not None and damping == _DAMPING else damping
        own |= {"root": root, "grafting": grafting, "grafting_epsilon": grafting_epsilon, "tol": tol}
        own |= {"max_preconditioner_dim": max_preconditioner_dim, "foreach": foreach}
        super().__init__(params, own, client, schedule, tolerated_failures, executor)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, as any optimizer of torch does.

        Raises:
            ValueError: an option is outside its domain, or belongs to all groups.
            TypeError: a parameter is complex.
        """
        shift = {"damping", "epsilon"} & param_group.keys()
        if len(shift) == 1:  # the group's own takes the place of the default's other
            param_group |= dict.fromkeys({"damping", "epsilon"} - shift)
        super().add_param_group(param_group)

    def _options(self, group: Mapping[str, Any]) -> Options:
        return Options.of(group)

    def _update(self, options: Sequence[Options], gradients: Sequence[dict[Tensor, Tensor]]) -> None:
        for own, some in zip(options, gradients, strict=True):
            self._accumulate(own, some)
        self._refresh(Curvature(self._states(), options))
        for own, taken in zip(options, gradients, strict=True):
            for some in _launches(own, taken):
                self._move(own, some)

    def _accumulate(self, options: Options, gradients: dict[Tensor, Tensor]) -> None:
        for parameter, gradient in gradients.items():
            state = self.state[parameter]
            state["step"] = state.get("step", torch.zeros((), dtype=torch.float32)) + 1
            accumulate(state, _blocks(gradient, options), gradient, options.betas[1])

    def _move(self, options: Options, gradients: dict[Tensor, Tensor]) -> None:
        """One step of parameters by their gradients."""
        states, parameters = [self.state[one] for one in gradients], [local_shard(one) for one in gradients]
        directions = filtered(states, list(gradients.values()), options)
        lengths = grafted(states, list(gradients.values()), directions, options)
        steps = [
            preconditioned(state, _blocks(direction, options), direction, length)
            for state, direction, length in zip(states, directions, lengths, strict=True)
        ]
        if options.weight_decay:
            torch._foreach_mul_(parameters, 1 - options.lr * options.weight_decay)
        moves = [step.to(parameter.dtype) for step, parameter in zip(steps, parameters, strict=True)]
        torch._foreach_add_(parameters, moves, alpha=-options.lr)


def _blocks(tensor: Tensor, options: Options) -> Blocks:
    return Blocks.of(tensor.shape, options.max_preconditioner_dim)


def _launches(options: Options, gradients: dict[Tensor, Tensor]) -> list[dict[Tensor, Tensor]]:
    """The gradients that are updated together: those of a device, or each by itself."""
    together = all(one.is_cuda for one in gradients) if options.foreach is None else options.foreach
    if together:
        return [gradients] if gradients else []
    return [{parameter: gradient} for parameter, gradient in gradients.items()]
