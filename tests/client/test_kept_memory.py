"""Memory of large answers is used again when the caller has dropped them, and never before."""

from __future__ import annotations

import numpy as np
import pytest

from matfn._aligned import KEPT, KeptMemory, address_of, received

MIB = 1 << 20


def test_memory_is_used_again_when_nothing_refers_to_it() -> None:
    """A view, or a slice of it, keeps the memory from being lent again."""
    kept = KeptMemory(8 * MIB)
    memory = kept.lend(2 * MIB)
    first = address_of(memory)
    held = np.frombuffer(memory, np.float32)[100:200].reshape(10, 10).T
    del memory

    assert address_of(kept.lend(2 * MIB)) != first
    held[:] = 1
    del held
    assert address_of(kept.lend(2 * MIB - 50)) == first


def test_no_more_than_the_bound_is_kept() -> None:
    """Of what is dropped, the last so many bytes are kept; nothing larger than the bound is."""
    kept = KeptMemory(8 * MIB)
    several = [kept.lend(3 * MIB) for _ in range(5)]
    assert kept.kept_bytes == 0

    del several
    assert kept.kept_bytes == 6 * MIB
    kept.lend(9 * MIB)
    assert kept.kept_bytes <= 8 * MIB


@pytest.mark.parametrize("length", [1, MIB - 1, MIB, 3 * MIB + 7])
def test_received_bodies_lie_aligned(length: int) -> None:
    """The byte at the offset has an address that is a multiple of 64, in memory of any age."""
    for _ in range(3):
        memory = received(length, 39)
        memory[-1] = 1

        assert len(memory) == length
        assert (address_of(memory) + 39) % 64 == 0
    assert KEPT.kept_bytes <= 128 * MIB
