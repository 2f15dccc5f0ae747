"""Many small calls on a real server: they travel together, and none of them can tell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn.answers import outputs_of
from spectra import positive

if TYPE_CHECKING:
    from processes import ServerProcess

COUNT = 60


def calls() -> list[matfn.Invocation[Any]]:
    """Small calls of several functions, kinds and shapes, in turn."""
    matrices = positive(16, items=COUNT, condition=1e3).astype(np.float32)
    made: list[matfn.Invocation[Any]] = []
    for number, a in enumerate(matrices):
        kinds = (
            matfn.call.inv_root(a, r=4),
            matfn.call.inv_root(a, r=2),
            matfn.call.sqrt_pair(a[:8, :8].astype(np.float64)),
            matfn.call.eig_clip(np.stack([a, 2 * a]), lo=0.25),
            matfn.call.geometric_mean(a, matrices[0]),
        )
        made.append(kinds[number % len(kinds)])
    return made


def bits(answer: matfn.Answer[Any]) -> tuple[Any, ...]:
    """All of an answer but its journey."""
    values = outputs_of(answer.value)
    return *((value.dtype, value.shape, value.tobytes()) for value in values), answer.certificates


def test_map_answers_each_call_as_if_it_were_alone(two_workers: ServerProcess) -> None:
    """Values and certificates are those of single calls, bit for bit."""
    with matfn.Client(two_workers.url) as client:
        alone = [bits(client.ask(call)) for call in calls()]
        together = [bits(answer) for answer in client.with_info.map(calls())]

    assert together == alone


def test_concurrent_calls_share_requests(two_workers: ServerProcess) -> None:
    """Values and certificates are those of single calls, bit for bit, from far fewer requests than calls."""
    with matfn.Client(two_workers.url) as client:
        alone = [bits(client.ask(call)) for call in calls()]

    async def together() -> list[matfn.Answer[Any]]:
        async with matfn.AsyncClient(two_workers.url) as client:
            await client.ask(calls()[0])
            return await asyncio.gather(*map(client.ask, calls()))

    answers = asyncio.run(together())

    assert [bits(answer) for answer in answers] == alone
    assert len({answer.request_id for answer in answers}) <= 3


@pytest.mark.parametrize("flaw", [np.nan, -1.0])
def test_map_gives_each_call_its_own_error(two_workers: ServerProcess, flaw: float) -> None:
    """A matrix without an answer fails its own call, in the words of a single call, and with its place."""
    good, bad = np.eye(4), np.diag([1.0, 1.0, 1.0, flaw])
    wanted = [matfn.call.inv_root(a, r=2) for a in (good, bad, good, np.stack([good, bad]), bad)]
    with matfn.Client(two_workers.url) as client:
        found: list[Any] = client.map(wanted, on_error="return")
        with pytest.raises(matfn.ProblemError) as alone:
            client.ask(wanted[1])

    assert [isinstance(value, matfn.MatfnError) for value in found] == [False, True, False, True, True]
    assert [type(found[place]) for place in (1, 3, 4)] == [type(alone.value)] * 3
    assert str(found[1]).replace("call 1: ", "").startswith(str(alone.value).partition(" [")[0])
    assert [found[place].call for place in (1, 3, 4)] == [1, 3, 4]
    assert [found[place].index for place in (1, 3, 4)] == [0, 1, 0]
