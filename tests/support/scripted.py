"""The service on a scripted device: it computes with the real kernels, but when and how well the test says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import httpx
import numpy as np
from fastapi import FastAPI

from matfn import wire
from matfn_kernels.programs.profile import Profile
from matfn_kernels.running.evaluation import concatenate, evaluate_together
from matfn_service.encoding import encode
from matfn_service.executor import DeviceMemoryError, Run
from matfn_service.ledger import Account, Bounds, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from matfn_kernels.running.evaluation import Batch
    from matfn_service.assembly import Part
    from matfn_service.pulse import Loss
    from matfn_service.service import Service

__all__ = [
    "MSGPACK",
    "Opened",
    "ScriptedExecutor",
    "call_body",
    "endless_account",
    "matrices",
    "post",
    "service_behind",
    "until",
]

MSGPACK = {"content-type": "application/msgpack"}


def endless_account() -> Account:
    """An account of a ledger without bounds that are ever met."""
    return Ledger(Bounds(1 << 62, 1 << 62), lambda: 0.0).account()


class ScriptedExecutor:
    """A device that waits at a gate, remembers its batches, and fails where it is told to."""

    def __init__(self, workers: int = 1, ahead: int = 0) -> None:
        self.workers = workers
        self.ahead = ahead
        self.alive = workers
        self.losses: dict[Loss, int] = {}
        self.device = "scripted"
        self.gate = asyncio.Event()
        self.gate.set()
        self.warm = asyncio.Event()
        self.warm.set()
        self.busy = asyncio.Semaphore(0)
        self.sizes: list[list[int]] = []
        self.seen: list[Batch] = []
        self.seconds_each = 0.0
        self.fault: Callable[[Batch], Exception | None] = lambda batch: None  # noqa: ARG005

    async def load_profile(self, path: Path | None) -> Profile:
        """A made-up profile, when the test lets the device be warm."""
        del path
        await self.warm.wait()
        return Profile.nominal()

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes on the loop, once the gate is open."""
        batch = concatenate([part.batch for part in parts])
        self.sizes.append([part.items for part in parts])
        self.seen.append(batch)
        self.busy.release()
        await self.gate.wait()
        error = self.fault(batch)
        if error is not None:
            raise error
        evaluations = evaluate_together([(part.program, part.batch) for part in parts])
        return Run([encode(evaluation) for evaluation in evaluations], 0.001 + self.seconds_each * batch.items)

    async def watch(self) -> None:
        """Nothing to look after."""

    def close(self) -> None:
        """Nothing to let go."""

    async def hold(self) -> None:
        """Shuts the gate, so that the next batch stays on the device."""
        self.gate.clear()

    def finish_batch(self) -> None:
        """Lets go what is on the device now; the gate stays shut for the next batch."""
        self.gate.set()
        self.gate.clear()

    def forget(self) -> None:
        """Forgets all batches so far."""
        self.sizes.clear()
        self.seen.clear()
        self.busy = asyncio.Semaphore(0)

    def memory_for(self, items: int) -> None:
        """Runs out of memory on batches of more matrices than that."""
        self.fault = lambda batch: DeviceMemoryError("full") if batch.items > items else None


class Opened(Protocol):
    """Opens the application with these settings on the scripted device."""

    def __call__(self, **settings: object) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """A client of the application, which is warm unless the device is not."""


def service_behind(client: httpx.AsyncClient) -> Service:
    """The service that a client in this process talks to."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    assert isinstance(transport.app, FastAPI)
    service: Service = transport.app.state.service
    return service


def matrices(*shape: int, seed: int = 0) -> wire.Tensor:
    """Well conditioned symmetric positive definite float64 matrices."""
    g = np.random.default_rng(seed).standard_normal(shape)
    a = g @ np.swapaxes(g, -1, -2) / shape[-1] + np.eye(shape[-1])
    return wire.Tensor("float64", shape, a.tobytes())


def call_body(function: str = "msign", *shape: int, **options: wire.Value) -> bytes:
    """A msgpack body with one good call."""
    name, params = ("m", {}) if function in {"msign", "mclip"} else ("a", {"r": 2})
    call = wire.Call(function, {name: matrices(*(shape or (4, 4)))}, dict(params), options)
    return b"".join(wire.encode_call(call, wire.Media.MSGPACK))


async def post(
    client: httpx.AsyncClient, function: str = "msign", *shape: int, **options: wire.Value
) -> httpx.Response:
    """The answer to one good call."""
    return await client.post(f"/v1/{function}", content=call_body(function, *shape, **options), headers=MSGPACK)


async def until(condition: Callable[[], object]) -> None:
    """Lets other tasks run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for belongs to the code under test and has no event
            await asyncio.sleep(0)
