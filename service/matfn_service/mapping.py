"""Memory of a file, mapped without a descriptor of its own.

`mmap.mmap` keeps a copy of the descriptor for each mapping, and a server has many mappings and few descriptors. Python
can do without the copy since 3.13 only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Final

from matfn._aligned import address_of

__all__ = ["give_back", "map_file"]

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FAILED: Final = ctypes.c_void_p(-1).value
_MODE: Final = mmap.PROT_READ | mmap.PROT_WRITE


def map_file(descriptor: int, size: int, offset: int = 0, *, has_pages: bool = False) -> memoryview:
    """A part of a file as writable memory, mapped until nothing refers to it any more.

    Args:
        descriptor: of the file; it may be closed afterwards.
        size: bytes of the part.
        offset: first byte of the part, a multiple of the page size.
        has_pages: whether all pages exist, which are then mapped at once.

    Raises:
        OSError: the process may not have so much memory.
    """
    flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if has_pages else 0)
    address = _libc.mmap(None, size, _MODE, flags, descriptor, offset)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size).atexit = False
    return memoryview(memory).cast("B")


def give_back(memory: memoryview) -> None:
    """Gives the pages of mapped memory back to the system; they read as zeros when they are used again."""
    if _libc.madvise(address_of(memory), len(memory), mmap.MADV_REMOVE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
