"""SOAP whose eigenbases are computed beside the training step, by any client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from matfn.optim.eigenbases import SQUARES, Eigenbases, into_bases, out_of_bases
from matfn.optim.factors import accumulate, bias_correction, has_factors
from matfn.optim.refreshed_optimizer import Refreshing
from matfn.optim.schedule import Schedule
from matfn.optim.shards import local_shard
from matfn.optim.soap_options import SoapOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Executor

    from torch import Tensor
    from torch.optim.optimizer import ParamsT

    from matfn.optim.refresh import RefreshClient
    from matfn.optim.schedule import First, OnLate
    from matfn.optim.soap_options import Oversize

__all__ = ["SOAP"]

_MEAN: Final = "exp_avg"


class SOAP(Refreshing[SoapOptions]):
    """Adam in the eigenbases of Shampoo's factors, with eigenbases that are one interval old.

    Every `refresh_every` steps, beginning with the first, all factors go out in one request with the bases in use. A
    step never waits for the answer, after the first: its bases are adopted at the next refresh, their columns matched
    to those before, with which the second moments move. A server that is down or slow costs warnings, not steps; the
    last good bases stay in use. Checkpoints carry factors, bases and the refresh under way, which is sent again when a
    run resumes.

    The first gradient of a matrix begins its factors and moves nothing. Vectors and scalars take the steps of AdamW, as
    does a matrix without bases. A convolution's weight is a matrix of its first dimension against the others. Of a
    DTensor each process has the factors of its own shard.

    Args:
        params: parameters, or groups of them, as any optimizer of torch takes them.
        lr: step length; a scheduler may change it.
        client: who computes the bases: a Client, or a LocalClient; None takes a LocalClient that all share.
        refresh_every: steps between two refreshes, SOAP's precondition_frequency.
        betas: decay of the averages of the gradient, and of its squares in the bases.
        shampoo_beta: decay of the factors; None is that of the squares, and 1 sums.
        eps: number added to the square roots.
        weight_decay: decoupled, as in AdamW.
        max_preconditioner_dim: largest order of a factor.
        oversize: for larger matrices, "blocks" up to that order, or the "identity" on the side that is too long.
        tol_drift: largest relative off-diagonal part of a factor in its basis at which the basis is kept.
        tol: relative error wanted of the bases; None is what float32 gives.
        start_step: the first step with a refresh.
        max_staleness: steps that the factors of the bases in use may be old; None is 2 refresh_every, and
            refresh_every adopts new bases at once.
        first: "sync" waits for the first refresh, "async" treats it like the others.
        on_late: where max_staleness is reached without an answer, "keep" the old bases, with a warning, or "wait".
        tolerated_failures: failures in a row that each factor may have; the next one raises its error.
        executor: runs the client's calls, one at a time; None runs them in a thread of the optimizer's own.

    Raises:
        ValueError: an argument is outside its domain; the message says which, and what is allowed.

    Source: Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, arXiv 2409.11321.
    """

    def __init__(  # noqa: PLR0913 - an optimizer's options are its interface
        self,
        params: ParamsT,
        lr: float | Tensor = 3e-3,
        client: RefreshClient | None = None,
        refresh_every: int = 10,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        max_preconditioner_dim: int = 1024,
        oversize: Oversize = "blocks",
        tol_drift: float = 0.0,
        tol: float | None = None,
        start_step: int = 1,
        max_staleness: int | None = None,
        first: First = "sync",
        on_late: OnLate = "keep",
        tolerated_failures: int = 3,
        executor: Executor | None = None,
    ) -> None:
        staleness = 2 * refresh_every if max_staleness is None else max_staleness
        schedule = Schedule(refresh_every, start_step, staleness, first, on_late)
        own: dict[str, Any] = {"lr": lr, "betas": betas, "shampoo_beta": shampoo_beta, "eps": eps}
        own |= {"weight_decay": weight_decay, "max_preconditioner_dim": max_preconditioner_dim, "oversize": oversize}
        own |= {"tol_drift": tol_drift, "tol": tol}
        super().__init__(params, own, client, schedule, tolerated_failures, executor)

    def _options(self, group: Mapping[str, Any]) -> SoapOptions:
        return SoapOptions.of(group)

    def _update(self, options: Sequence[SoapOptions], gradients: Sequence[dict[Tensor, Tensor]]) -> None:
        """Moves first: a gradient in bases that were made of it would have its own singular vectors for axes."""
        for own, taken in zip(options, gradients, strict=True):
            for parameter, gradient in taken.items():
                self._move(parameter, gradient, own)
        self._refresh(Eigenbases(self._states(), options))

    def _move(self, parameter: Tensor, gradient: Tensor, options: SoapOptions) -> None:
        """One step of a parameter, after which its factors have this gradient."""
        state, blocks = self.state[parameter], options.blocks(gradient.shape)
        is_known = has_factors(state)
        accumulate(state, blocks, gradient, options.factor_beta, options.max_preconditioner_dim)
        if has_factors(state) and not is_known:
            return
        state["step"] = state.get("step", torch.zeros((), dtype=torch.float32)) + 1
        mean, squares = (_kept(state, name, gradient) for name in (_MEAN, SQUARES))
        mean.lerp_(gradient, 1 - options.betas[0])
        rotated = into_bases(state, blocks, gradient)
        squares.mul_(options.betas[1]).addcmul_(rotated, rotated, value=1 - options.betas[1])
        means, scales = (bias_correction(beta, float(state["step"])) for beta in options.betas)
        direction = into_bases(state, blocks, mean / means).div_((squares / scales).sqrt_().add_(options.eps))
        own = local_shard(parameter)
        own.mul_(1 - options.lr * options.weight_decay)
        own.add_(out_of_bases(state, blocks, direction).to(own.dtype), alpha=-options.lr)


def _kept(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    """The moments of this name in a state, zeros where they are new; contiguous, so that their blocks are views."""
    if name not in state:
        state[name] = torch.zeros_like(like, memory_format=torch.contiguous_format)
    kept: Tensor = state[name]
    return kept
