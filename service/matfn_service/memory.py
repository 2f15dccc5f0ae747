"""Memory: shortages are recognised, and freed pages go back to the system when the server is idle."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from matfn_service.shared_memory import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IDLE_SECONDS", "DeviceMemoryError", "is_for_memory", "trim", "trim_when_idle"]

IDLE_SECONDS: Final = 30.0
_WORTH: Final = 256 * 2**20  # less is sooner used again than given back
_CPU_ALLOCATOR: Final = "DefaultCPUAllocator"  # its errors are plain RuntimeErrors that name it
_STATM: Final = Path("/proc/self/statm")
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU C library's


class DeviceMemoryError(Exception):
    """The device has too little memory for this share; half of it may fit."""


def is_for_memory(error: Exception) -> bool:
    """Whether an exception says that memory ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM  # a file could not be mapped
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _CPU_ALLOCATOR in str(error)


async def trim_when_idle(work_done: Callable[[], int | None], seconds: float = IDLE_SECONDS) -> None:
    """Collects garbage and trims memory once after each period of work: when `work_done` returns a number twice."""
    if _trim is None or not _STATM.exists():
        return
    floor, before, collected = _resident(), None, None
    while True:
        await asyncio.sleep(seconds)
        done = work_done()
        if done is not None and done == before and done != collected:
            gc.collect()
            collected = done
        if done is not None and done == before and _resident() - floor > _WORTH:
            SHARED.trim()
            await asyncio.to_thread(_trim, 0)
            floor = _resident()
        before = done


def trim() -> None:
    """Gives freed pages back now, where the C library can."""
    if _trim is not None:
        _trim(0)


def _resident() -> int:
    """Bytes of memory that this process occupies."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
