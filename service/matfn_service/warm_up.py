"""Warm-up: one small call of every function on every worker, which loads what is loaded on first use.

It begins anew when a worker is lost meanwhile, a few times.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
import torch

from matfn_kernels import FUNCTIONS, Call, Function, Limits, batch_of, make_plan, parse_call
from matfn_service.assembly import Part
from matfn_service.memory import DeviceMemoryError
from matfn_service.pulse import WorkerLost

if TYPE_CHECKING:
    from matfn_kernels import Profile
    from matfn_service.executor import Executor

__all__ = ["warm_up", "warm_up_surely"]

_ORDER: Final = 4
_TRIES: Final = 8
_LONGEST_PAUSE: Final = 5.0

_log = structlog.get_logger(__name__)


async def warm_up_surely(executor: Executor, profile: Profile, pause: float = 1.0) -> None:
    """Warms up; again after a pause, which grows, where a worker was lost.

    Raises:
        WorkerLost: if workers were lost every time.
        DeviceMemoryError: likewise, if memory ran out.
    """
    for number in range(1, _TRIES):
        try:
            return await warm_up(executor, profile)
        except (WorkerLost, DeviceMemoryError) as error:
            _log.warning("warm-up begins anew", reason=str(error), tries=number, of=_TRIES)
        await asyncio.sleep(min(pause * 2 ** (number - 1), _LONGEST_PAUSE))
    return await warm_up(executor, profile)


async def warm_up(executor: Executor, profile: Profile) -> None:
    """Computes a call of every function once on each worker; the answers are thrown away."""
    for function in FUNCTIONS.values():
        call = _smallest(function)
        program = make_plan(call, profile).program
        part = Part(0, program, batch_of(call))
        runs = (executor.run([part]) for _ in range(executor.workers))
        for outcome in await asyncio.gather(*runs, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


def _smallest(function: Function) -> Call:
    """A call with identities, which every function has an answer for."""
    inputs = {entry.name: _identity(len(entry.shape)) for entry in function.inputs if not entry.optional}
    parameters = {entry.name: entry.minimum for entry in function.parameters if entry.required}
    return parse_call(function.name, inputs, parameters, {}, Limits())


def _identity(rank: int) -> torch.Tensor:
    return torch.ones(1, _ORDER) if rank == 1 else torch.eye(_ORDER).expand([1, *[_ORDER] * rank])
