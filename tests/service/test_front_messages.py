"""What travels between a front and the server arrives as it was, however it is cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.arena import Arena, Slot
from matfn_service.fronts.parcels import Parcel, packed, unpacked
from matfn_service.fronts.pipe import Pipe, framed
from matfn_service.problems import Refusal, problem_of
from matfn_service.settings import Settings
from matfn_service.shared_memory import LEAST, SHARED, lent
from matfn_service.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]


def arrived(message: object) -> object:
    """A message at the other end of a pipe."""
    received: list[object] = []
    Pipe(received.append, lambda: None).data_received(framed(message))
    (one,) = received
    return one


@given(st.lists(st.binary(max_size=50), max_size=5), st.lists(st.integers(0, 300), max_size=6))
def test_messages_arrive_however_they_are_cut(messages: Sequence[bytes], cuts: Sequence[int]) -> None:
    """Each once and in order."""
    received: list[object] = []
    pipe = Pipe(received.append, lambda: None)
    octets = b"".join(map(framed, messages))

    bounds = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    for start, stop in pairwise(bounds):
        pipe.data_received(octets[start:stop])

    assert received == messages


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 3), (0, 4, 4), (2, 0)])
def test_small_tensors_travel_by_their_numbers(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Any dtype and shape, rows of a larger tensor and what is broadcast among them."""
    tensor = torch.ones(shape).to(dtype) * 3
    parcel = arrived(packed(tensor))

    assert isinstance(parcel, Parcel)
    assert torch.equal(unpacked(parcel, Arena(-1, -1)), tensor)


@pytest.mark.parametrize("shape", [(1, 4, 4), (5, 1, 4)])
def test_strided_tensors_travel(shape: tuple[int, ...]) -> None:
    """A broadcast or transposed tensor arrives as the numbers that it shows."""
    tensor = torch.arange(4.0).expand(shape).transpose(-1, -2)

    assert torch.equal(unpacked(packed(tensor), Arena(-1, -1)), tensor)


def test_large_tensors_stay_where_they_lie() -> None:
    """The other side sees the same memory, by its own mapping."""
    tensor = torch.frombuffer(lent(2 * LEAST), dtype=torch.float64).view(4, -1)[1:3]
    tensor.fill_(7.0)

    place = packed(tensor)

    assert isinstance(place, Slot)
    seen = unpacked(place, Arena(-1, SHARED.descriptor))
    assert seen.data_ptr() != tensor.data_ptr()
    tensor[0, 0] = 9.0
    assert torch.equal(seen, tensor)


def test_refusals_travel() -> None:
    """With everything that their problem says."""
    refusal = Refusal("busy", "full", "wait", index=3, retry_after=0.25, status=503, allow="GET")

    told = arrived(refusal)

    assert isinstance(told, Refusal)
    assert vars(told) == vars(refusal)
    assert problem_of(told, "id") == problem_of(refusal, "id")


def test_what_a_front_counts_is_counted_once() -> None:
    """It is taken from one and added to the other, by all sums."""
    front, server = Statistics(), Statistics()
    for statistics in (front, server):
        statistics.count_call("msign")
        statistics.count_call("msign", "busy", 2)
        statistics.count_sent(10, 0.2)
        statistics.count_stage("read", 0.1)
        statistics.count_unread()
    front.loop_lag_seconds.count(0.5)

    server.add_edge(front.taken_edge())
    server.add_edge(front.taken_edge())

    assert server.calls == {("msign", "ok"): 2, ("msign", "busy"): 4}
    assert (server.bytes_sent, server.dropped_unread) == (20, 2)
    assert (sum(server.request_seconds.counts), server.request_seconds.sum) == (2, 0.4)
    assert sum(server.stage_seconds["read"].counts) == 2
    assert sum(server.loop_lag_seconds.counts) == 1


def test_fronts_want_a_port() -> None:
    """Callers on a unix socket share memory with one process."""
    with pytest.raises(ValueError, match=r"MATFN_FRONTS=2.*MATFN_UDS"):
        Settings(fronts=2, uds=Path("/run/matfn.sock"))


def test_fronts_take_memory() -> None:
    """What they need before they hold anything is left out of what requests may hold."""
    one, four = Settings(memory=8 * 2**30, workers=2), Settings(memory=8 * 2**30, workers=2, fronts=4)

    assert four.held_bytes < one.held_bytes
    with pytest.raises(ValueError, match="MATFN_FRONTS"):
        Settings(memory=10**9, workers=1, fronts=4)
