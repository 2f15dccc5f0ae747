"""Shared memory is lent while it is referred to, kept afterwards, and given back to the system beyond a bound."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from matfn._aligned import address_of
from matfn_service.arena import Arena, Slot
from matfn_service.mapping import map_file
from matfn_service.memory import is_for_memory
from matfn_service.shared_memory import LEAST, SHARED, SharedMemory, anonymous_file, lent

MIB = 1 << 20


@pytest.fixture
def shared() -> SharedMemory:
    """Memory of its own that keeps up to 8 MiB."""
    return SharedMemory(kept=8 * MIB)


def filled(shared: SharedMemory, size: int) -> memoryview:
    """Lent memory whose pages are there."""
    memory = shared.lend(size)
    np.frombuffer(memory, np.uint8)[:] = 1
    return memory


def resident(shared: SharedMemory) -> int:
    """Bytes of the file that have pages."""
    return os.fstat(shared.descriptor).st_blocks * 512


def test_memory_is_lent_once_at_a_time(shared: SharedMemory) -> None:
    """Two lenders never get the same memory while both refer to it."""
    one, other = filled(shared, 2 * MIB), filled(shared, 2 * MIB)
    np.frombuffer(other, np.uint8)[:] = 2

    assert bytes(one[:: MIB // 2]) == b"\1" * 4
    assert abs(address_of(one) - address_of(other)) >= 2 * MIB


@pytest.mark.parametrize(
    "hold", [memoryview, lambda memory: torch.frombuffer(memory, dtype=torch.uint8).view(2, -1)[1]]
)
def test_memory_is_lent_again_when_nothing_refers_to_it(shared: SharedMemory, hold: object) -> None:
    """Views and tensors of lent memory keep it; without them the next of its size gets it, pages and all."""
    memory = filled(shared, 2 * MIB)
    first = address_of(memory)
    held = hold(memory)  # type: ignore[operator]
    del memory

    assert address_of(shared.lend(2 * MIB)) != first
    del held
    assert address_of(shared.lend(2 * MIB - 100)) == first
    assert resident(shared) >= 2 * MIB


def test_pages_beyond_the_bound_are_given_back(shared: SharedMemory) -> None:
    """Free memory keeps its pages up to the bound only, and can be lent again without them."""
    several = [filled(shared, 4 * MIB) for _ in range(4)]
    assert resident(shared) == 16 * MIB

    del several
    assert resident(shared) == 8 * MIB

    again = shared.lend(4 * MIB)

    assert shared.kept_bytes == 4 * MIB
    assert len(again) == 4 * MIB
    assert len([shared.lend(4 * MIB) for _ in range(4)]) == 4


def test_an_idle_service_keeps_no_pages(shared: SharedMemory) -> None:
    """Trimming gives the pages of all free pieces back, and of no lent one."""
    held, other = filled(shared, 2 * MIB), filled(shared, 2 * MIB)
    del other
    shared.trim()

    assert resident(shared) == 2 * MIB
    assert held[-1] == 1


def descriptors() -> int:
    """How many descriptors this process has open, with the one that counts them."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_pieces_take_no_descriptors(shared: SharedMemory) -> None:
    """However many pieces there are, where they are lent and where they are told of, one file is open."""
    other = Arena(anonymous_file(), shared.descriptor)
    before = descriptors()
    several = [torch.frombuffer(filled(shared, (2 + number) * MIB), dtype=torch.uint8) for number in range(6)]
    for tensor in several:
        piece, offset = shared.find(tensor) or pytest.fail("a lent tensor is found")
        assert torch.equal(other.get(Slot(tensor.dtype, tuple(tensor.shape), offset, piece)), tensor)

    assert descriptors() == before


def test_a_file_that_cannot_be_mapped_is_a_shortage_of_memory() -> None:
    """More memory than there are addresses is refused as such."""
    with pytest.raises(OSError, match="memory") as caught:
        map_file(SHARED.descriptor, 1 << 60)

    assert is_for_memory(caught.value)


def test_tensors_are_found_by_their_place(shared: SharedMemory) -> None:
    """A tensor without gaps in lent memory has a piece and an offset; one elsewhere, or with gaps, has none."""
    numbers = torch.frombuffer(filled(shared, 2 * MIB), dtype=torch.float32).view(4, -1)
    found = shared.find(numbers[1])

    assert found is not None
    assert shared.find(numbers) == (found[0], 0)
    assert found[1] == numbers[0].nbytes
    assert shared.find(numbers.T) is None
    assert shared.find(torch.zeros(4)) is None


@pytest.mark.parametrize("length", [1, LEAST - 1, LEAST, 3 * MIB + 5])
def test_bodies_lie_aligned(length: int) -> None:
    """The byte at the offset has an address that is a multiple of 64, in shared memory or not."""
    memory = lent(length, 39)

    assert len(memory) == length
    assert (address_of(memory) + 39) % 64 == 0
    assert (SHARED.find(torch.frombuffer(memory, dtype=torch.uint8)) is not None) == (length >= LEAST)
