"""Memory, descriptors and threads of a server's processes, by /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Occupied", "family", "occupied", "private_bytes", "resident_bytes"]

_KIB: Final = 1024
_PROPORTIONAL: Final = b"Pss:"


@dataclass(frozen=True, slots=True)
class Occupied:
    """Resources of the processes of one server.

    Attributes:
        own_bytes: memory of the server's own process; memory that processes share is divided among them.
        all_bytes: memory of all processes.
        descriptors: open descriptors of the server's own process.
        all_descriptors: of all processes.
        threads: of all processes.
        workers: processes that compute.
    """

    own_bytes: int
    all_bytes: int
    descriptors: int
    all_descriptors: int
    threads: int
    workers: int


def occupied(pid: int) -> Occupied:
    """Resources of the server of this process number and its workers now."""
    pids = family(pid)
    resident = [resident_bytes(one) for one in pids]
    descriptors = [_entries(one, "fd") for one in pids]
    threads = sum(_entries(one, "task") for one in pids)
    return Occupied(resident[0], sum(resident), descriptors[0], sum(descriptors), threads, len(pids) - 1)


def family(pid: int) -> list[int]:
    """A process and its children."""
    children: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    return [pid, *children]


def resident_bytes(pid: int) -> int:
    """Memory of a process, 0 where it has ended; what it shares with others is divided among them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(_PROPORTIONAL):
                return int(line.split()[1]) * _KIB
    return 0


def private_bytes(pid: int) -> int:
    """Memory of a process and its children that they share with no other, told in microseconds.

    What `resident_bytes` reads takes milliseconds, in which the process cannot map memory: too long to look often.
    """
    return sum(map(_unshared, family(pid)))


def _unshared(pid: int) -> int:
    with suppress(OSError):
        _, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")
    return 0


def _entries(pid: int, folder: str) -> int:
    with suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{pid}/{folder}").iterdir())
    return 0
