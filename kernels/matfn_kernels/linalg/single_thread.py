"""One thread for every library that computes within a block, so that no number depends on how many there are.

MKL, OpenBLAS, oneDNN and torch's own loops cut sums where their threads meet. Within `one_thread` each of them has one
thread; whole matrices and fixed panels of large ones are computed in parallel, on threads in C (parts.c). Counts that
belong to a thread (OpenMP's, which torch and oneDNN follow, and MKL's) are set for the thread that computes. OpenBLAS
has one count for the process: it is set while any thread computes, and restored by the last one.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["one_thread", "part_of", "threads"]

_PARTS: Final = 4  # a thread: with one, all threads wait for the one whose core is busy

_LOCAL: Final = threading.local()
"""`threads`: how many the caller may use, set while it computes on one."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Gives every library one thread within the block, and the kernels in C as many as torch had before it.

    Ctrl-C may come between any two lines. A count that then stays at one costs time only; the note that this thread
    has been seen to must not stay, so it goes first.
    """
    if getattr(_LOCAL, "threads", None) is not None:
        yield
        return
    threads = torch.get_num_threads()  # asked before it is set: torch sets its default when first asked
    openmp, mkl = (None, None) if threads == 1 else (_openmp(), _mkl())
    _counts()
    before = 0
    try:
        _PROCESS_WIDE.enter()
        before = 0 if mkl is None else mkl(1)
        if openmp is not None:
            openmp(1)
        _LOCAL.threads = threads
        yield
    finally:
        _LOCAL.threads = None
        if openmp is not None:
            openmp(threads)
        if mkl is not None:
            mkl(before)
        _PROCESS_WIDE.leave()


def threads() -> int:
    """How many threads this one may compute with."""
    return getattr(_LOCAL, "threads", None) or torch.get_num_threads()


def part_of(units: int, least: int) -> int:
    """How many units are taken at a time, a multiple of the least."""
    return least * max(1, -(-units // (least * _PARTS * threads())))


@cache
def _openmp() -> Any | None:
    """`omp_set_num_threads` of the OpenMP that torch uses, for the calling thread; None where it uses another one."""
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None
    return library.omp_set_num_threads


@cache
def _mkl() -> Any | None:
    """`MKL_Set_Num_Threads_Local` of torch's MKL, for the calling thread; None where torch has another library."""
    try:
        return ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so")).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return None


@dataclass(frozen=True)
class _Count:
    """Getter and setter of a library's number of threads."""

    get: Any
    set: Any

    @classmethod
    def of(cls, path: str) -> _Count | None:
        """Getter and setter of the OpenBLAS in a file, whose names differ between builds; None without them."""
        library = ctypes.CDLL(path)
        for prefix, suffix in product(("scipy_", ""), ("64_", "_64", "")):
            names = (f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set"))
            get, put = (getattr(library, name, None) for name in names)
            if get is not None and put is not None:
                return cls(get, put)
        return None


class _ProcessWide:
    """Thread counts that belong to the process: they are 1 while any thread computes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._several: list[tuple[_Count, int]] = []

    def enter(self) -> None:
        """Sets the counts to 1, whether or not another thread computes."""
        with self._lock:
            self._inside += 1
            for one in _counts():
                threads = one.get()
                if threads != 1:
                    self._several.append((one, threads))
                    one.set(1)

    def leave(self) -> None:
        """Restores the counts if no other thread computes any more."""
        with self._lock:
            self._inside = max(0, self._inside - 1)
            if not self._inside:
                while self._several:
                    one, threads = self._several.pop()
                    one.set(threads)


_PROCESS_WIDE = _ProcessWide()


@cache
def _counts() -> list[_Count]:
    """Thread counts of numpy's and scipy's OpenBLAS.

    threadpoolctl finds the files. Its own limits do not serve here: since 3.8 those of a second thread have no effect.
    """
    import scipy.linalg  # noqa: F401 - which loads its own

    found = ThreadpoolController().select(internal_api="openblas").lib_controllers
    return [count for one in found if (count := _Count.of(one.filepath)) is not None]


def _forget_threads() -> None:
    """A child has none of its parent's threads, and computes with those libraries' counts that it finds."""
    global _PROCESS_WIDE  # noqa: PLW0603 - its lock may have been held by another thread when the parent forked
    _PROCESS_WIDE = _ProcessWide()
    _LOCAL.threads = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
