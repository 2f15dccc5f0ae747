"""The part of an optimizer of torch whose matrix functions are refreshed beside the training step.

`Refreshing` has parameter groups, gradients, checkpoints and the refresher; an optimizer adds its options and update.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

import torch
from torch.optim import Optimizer

from matfn.optim.refresh import Refresher, chosen_client
from matfn.optim.schedule import Progress, Schedule
from matfn.optim.shards import local_shard
from matfn.own_thread import OwnThread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from torch import Tensor
    from torch.optim.optimizer import ParamsT

    from matfn.optim.refresh import RefreshClient, Refreshed, Subject

__all__ = ["Refreshing"]

OptionsT = TypeVar("OptionsT")

_OF_ALL: Final = {"client", "refresh_every", "start_step", "max_staleness", "first", "on_late", "tolerated_failures"}


class Refreshing(Optimizer, Generic[OptionsT]):
    """An optimizer with a refresher.

    Args:
        params: parameters, or groups of them, as any optimizer of torch takes them.
        defaults: the options of groups.
        client: who computes; None takes a LocalClient that all share.
        schedule: when to ask, adopt and wait.
        tolerated_failures: failures in a row that each matrix may have.
        executor: runs the client's calls; None runs them in a thread of the optimizer's own.
    """

    def __init__(
        self,
        params: ParamsT,
        defaults: dict[str, Any],
        client: RefreshClient | None,
        schedule: Schedule,
        tolerated_failures: int,
        executor: Executor | None,
    ) -> None:
        self._refresher = Refresher(chosen_client(client), schedule, tolerated_failures, executor or OwnThread())
        super().__init__(params, defaults | Progress().entries())

    @property
    def last_refresh(self) -> Refreshed | None:
        """The outcome of the latest refresh, with the largest error estimate of its answers; None before the first."""
        return self._refresher.last

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, as any optimizer of torch does.

        Raises:
            ValueError: an option is outside its domain, or belongs to all groups.
            TypeError: a parameter is complex.
        """
        name = type(self).__name__
        if of_all := sorted(_OF_ALL & param_group.keys()):
            raise ValueError(f"{', '.join(of_all)}: these belong to all groups; pass them to {name} itself")
        self._options(self.defaults | param_group)
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        if any(parameter.is_complex() for parameter in added["params"]):
            self.param_groups.pop()
            raise TypeError(f"{name} takes no complex parameters; optimize torch.view_as_real of them")
        added.update(Progress.of(self.param_groups[0]).entries())

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
            MatfnError: a matrix had no answer more often than is tolerated, or a gradient is not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        options = [self._options(group) for group in self.param_groups]
        self._update(options, [self._gradients(group) for group in self.param_groups])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the state of another run; a refresh that was under way there is sent again by the next step.

        What the state holds keeps its dtype, where torch would cast it to the parameter's.
        """
        super().load_state_dict(state_dict)
        numbers = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                device = value.device if name == "step" else parameter.device
                self.state[parameter][name] = value.detach().to(device, copy=True)
        self._refresher = self._refresher.renewed()

    def __getstate__(self) -> dict[str, Any]:
        """The optimizer without the refresh under way, which its next step sends again."""
        return super().__getstate__() | {"_refresher": self._refresher.renewed()}

    @abstractmethod
    def _options(self, group: Mapping[str, Any]) -> OptionsT:
        """The options of a group, checked."""

    @abstractmethod
    def _update(self, options: Sequence[OptionsT], gradients: Sequence[dict[Tensor, Tensor]]) -> None:
        """One step of all groups, whose gradients are by parameter."""

    def _gradients(self, group: dict[str, Any]) -> dict[Tensor, Tensor]:
        """The gradients of a group by parameter, of DTensors the local shards, in at least float32."""
        found = {parameter: parameter.grad for parameter in group["params"] if parameter.grad is not None}
        if any(gradient.is_sparse for gradient in found.values()):
            name = type(self).__name__
            raise RuntimeError(f"{name} takes no sparse gradients; optimize that embedding by SparseAdam")
        shards = {parameter: local_shard(gradient) for parameter, gradient in found.items()}
        return {
            parameter: shard.to(torch.promote_types(shard.dtype, torch.float32))
            for parameter, shard in shards.items()
            if shard.numel()
        }

    def _states(self) -> list[list[dict[str, Any]]]:
        """The parameters' states, by group and place in it."""
        return [[self.state.get(parameter, {}) for parameter in group["params"]] for group in self.param_groups]

    def _refresh(self, subject: Subject) -> None:
        """This step's part of the refreshes."""
        progress = Progress.of(self.param_groups[0])
        progress.step += 1
        try:
            self._refresher.advance(progress, subject)
        finally:
            progress.store(self.param_groups)
