"""Work in parts: every unit is done once, whichever threads are free."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch

from matfn_kernels.linalg.single_thread import in_parts, one_thread

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def caller_with(count: int) -> Iterator[None]:
    """A block whose caller may use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with one_thread():
            yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("units", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize("least", [1, 3, 16])
@pytest.mark.parametrize("count", [1, 3])
def test_each_unit_is_done_once_in_parts_of_a_multiple(units: int, least: int, count: int) -> None:
    """The parts follow each other, and all but the last are multiples of the least one."""
    done: list[tuple[int, int]] = []

    with caller_with(count):
        in_parts(lambda first, last: done.append((first, last)), units, least)

    assert sorted(index for part in done for index in range(*part)) == list(range(units))
    assert all((last - first) % least == 0 for first, last in sorted(done)[:-1])


def test_caller_does_what_busy_threads_leave() -> None:
    """While another thread is held up in one part, the caller does all others."""
    held, go = threading.Event(), threading.Event()
    done: list[tuple[int, int]] = []
    caller = threading.current_thread()

    def work(first: int, last: int) -> None:
        if threading.current_thread() is not caller:
            held.set()
            go.wait(30)
        elif not done:
            held.wait(30)
        done.append((first, last))
        if len(done) == 7:
            go.set()

    with caller_with(2):
        in_parts(work, 8)

    assert sorted(done) == [(index, index + 1) for index in range(8)]


def test_error_of_a_part_is_raised() -> None:
    """What one part raises ends the work, on whichever thread it was."""

    def work(first: int, last: int) -> None:
        del last
        if first:
            raise MemoryError("full")

    with caller_with(2), pytest.raises(MemoryError, match="full"):
        in_parts(work, 8)
