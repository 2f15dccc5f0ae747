"""Work in parts in C: every unit is done once, whichever threads are free."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from matfn_kernels.linalg.native.library import library
from matfn_kernels.linalg.native.structures import OUT_OF_MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(library() is None, reason="the kernels in C are not built")

WORK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
Part = tuple[int, int]


def in_parts(work: Callable[[int, int], int], units: int, size: int, threads: int) -> int:
    """What the library returns for work in Python, which C calls from its threads."""
    called = WORK(lambda _, first, last: work(first, last))
    counts = [ctypes.c_int64(count) for count in (units, size, threads)]
    status: int = library().matfn_in_parts(called, None, *counts)  # type: ignore[union-attr]
    return status


def done_parts(units: int, size: int, threads: int) -> list[Part]:
    """The parts that were done, in their order."""
    done: list[Part] = []

    def work(first: int, last: int) -> int:
        done.append((first, last))
        return 0

    assert in_parts(work, units, size, threads) == 0
    return sorted(done)


@pytest.mark.parametrize("units", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_unit_is_done_once(units: int, size: int, threads: int) -> None:
    """The parts follow each other, and none is larger than was asked, unless one thread does all."""
    done = done_parts(units, size, threads)

    assert [index for part in done for index in range(*part)] == list(range(units))
    assert threads == 1 or all(last - first <= size for first, last in done)


def test_callers_at_once_have_their_own_work() -> None:
    """Many callers share the threads, and each gets all of its own parts and no other."""
    with ThreadPoolExecutor(8) as callers:
        done = list(callers.map(lambda units: done_parts(units, 2, 3), range(100)))

    assert [[index for part in parts for index in range(*part)] for parts in done] == [
        list(range(units)) for units in range(100)
    ]


def test_caller_does_what_busy_threads_leave() -> None:
    """While another thread is held up in one part, the caller does all others."""
    held, go = threading.Event(), threading.Event()
    done: list[Part] = []
    caller = threading.get_ident()

    def work(first: int, last: int) -> int:
        if threading.get_ident() != caller:
            held.set()
            go.wait(30)
        elif not done:
            held.wait(30)
        done.append((first, last))
        if len(done) == 7:
            go.set()
        return 0

    assert in_parts(work, 8, 1, 2) == 0
    assert sorted(done) == [(index, index + 1) for index in range(8)]


@pytest.mark.parametrize("failing", range(8))
def test_failure_of_a_part_is_told(failing: int) -> None:
    """Whichever part fails, on whichever thread, the caller learns why."""
    assert in_parts(lambda first, _: OUT_OF_MEMORY if first == failing else 0, 8, 1, 3) == OUT_OF_MEMORY
