"""What travels between a front and the server arrives as it was, however it is cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.arena import Arena
from matfn_service.fronts.parcels import Parcels, unpacked
from matfn_service.fronts.pipe import Pipe, framed
from matfn_service.problems import Refusal, problem_of
from matfn_service.settings import Settings
from matfn_service.shared_memory import LEAST, SHARED, lent
from matfn_service.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]


class End(Pipe):
    """An end of a pipe that receives what it is fed."""

    def __init__(self) -> None:
        self.received: list[tuple[object, bytes]] = []
        self.numbers: list[memoryview] = []
        super().__init__(self._keep, lambda: None)

    def _keep(self, message: object, numbers: memoryview) -> None:
        self.received.append((message, bytes(numbers)))
        self.numbers.append(numbers)

    def feed(self, octets: bytes) -> None:
        """Receives octets, as many at a time as it takes."""
        while octets:
            room = self.get_buffer(-1)
            size = min(len(room), len(octets))
            room[:size] = octets[:size]
            octets = octets[size:]
            self.buffer_updated(size)


def octets_of(message: object, numbers: Sequence[bytes] = ()) -> bytes:
    """A message as it is sent."""
    return b"".join(framed(message, [memoryview(piece) for piece in numbers]))


def arrived(message: object) -> object:
    """A message at the other end of a pipe."""
    end = End()
    end.feed(octets_of(message))
    ((one, _),) = end.received
    return one


def carried(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Tensors at the other end of a pipe."""
    parcels, end = Parcels(), End()
    slots = [parcels.add(tensor) for tensor in tensors]
    end.feed(b"".join(framed(slots, parcels.numbers)))
    ((found, _),) = end.received
    assert isinstance(found, list)
    return [unpacked(slot, end.numbers[0], Arena(-1, SHARED.descriptor)) for slot in found]


LENGTHS = st.one_of(st.integers(0, 50), st.integers(0, 10_000))
MESSAGES = st.lists(st.tuples(LENGTHS, LENGTHS), max_size=5)


@given(MESSAGES, st.lists(st.integers(0, 40_000), max_size=6))
def test_messages_arrive_however_they_are_cut(lengths: Sequence[tuple[int, int]], cuts: Sequence[int]) -> None:
    """Each once and in order, with its numbers."""
    messages = [(bytes([at]) * pickled, bytes([at + 1]) * numbers) for at, (pickled, numbers) in enumerate(lengths)]
    octets = b"".join(octets_of(message, [numbers]) for message, numbers in messages)

    end = End()
    bounds = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    for start, stop in pairwise(bounds):
        end.feed(octets[start:stop])

    assert end.received == messages


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 3), (0, 4, 4), (2, 0), (5, 31, 33)])
def test_small_tensors_travel_by_their_numbers(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Any dtype and shape, several in one message, aligned; they may be written at the other end."""
    tensors = [torch.ones(2, 1).to(torch.float16), torch.ones(shape).to(dtype) * 3, torch.ones(shape).to(dtype)]

    found = carried(*tensors)

    assert all(torch.equal(one, other) for one, other in zip(found, tensors, strict=True))
    assert all(one.dtype == other.dtype for one, other in zip(found, tensors, strict=True))
    assert all(one.data_ptr() % one.dtype.itemsize == 0 for one in found)
    found[1].zero_()
    assert torch.equal(found[2], tensors[2])


def test_strided_tensors_travel() -> None:
    """Broadcast, transposed and conjugated tensors arrive as the numbers that they show."""
    matrix = torch.arange(20.0).view(4, 5)
    complex_one = torch.complex(matrix, -matrix)
    tensors = [
        matrix.T,
        matrix.expand(3, 4, 5),
        matrix[1:, ::2],
        complex_one.conj(),
        complex_one.mH,
        complex_one.conj().imag,
    ]

    assert all(torch.equal(one, other) for one, other in zip(carried(*tensors), tensors, strict=True))


def test_large_tensors_stay_where_they_lie() -> None:
    """The other side sees the same memory, by its own mapping."""
    tensor = torch.frombuffer(lent(2 * LEAST), dtype=torch.float64).view(4, -1)[1:3]
    tensor.fill_(7.0)

    (seen,) = carried(tensor)

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
