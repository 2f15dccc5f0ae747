"""Warm-up: one small call of every function on every worker, which loads what is loaded on first use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import FUNCTIONS, Call, Function, Limits, batch_of, make_plan, parse_call
from matfn_service.assembly import Part

if TYPE_CHECKING:
    from matfn_kernels import Profile
    from matfn_service.executor import Executor

__all__ = ["warm_up"]

_ORDER: Final = 4


async def warm_up(executor: Executor, profile: Profile) -> None:
    """Computes a call of every function once on each worker; the answers are thrown away."""
    for function in FUNCTIONS.values():
        call = _smallest(function)
        program = make_plan(call, profile).program
        part = Part(0, program, batch_of(call))
        await asyncio.gather(*(executor.run([part]) for _ in range(executor.workers)))


def _smallest(function: Function) -> Call:
    """A call with identities, which every function has an answer for."""
    inputs = {entry.name: _identity(len(entry.shape)) for entry in function.inputs if not entry.optional}
    parameters = {entry.name: entry.minimum for entry in function.parameters if entry.required}
    return parse_call(function.name, inputs, parameters, {}, Limits())


def _identity(rank: int) -> torch.Tensor:
    return torch.ones(1, _ORDER) if rank == 1 else torch.eye(_ORDER).expand([1, *[_ORDER] * rank])
