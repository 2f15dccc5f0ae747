"""The worker process: `python -m matfn_service.worker CONNECTION ARENA SHARED PARENT`.

The first three are inherited file descriptors, the last is the service's process number. The worker answers the
messages of the service's end (`matfn_service.worker_process`) until that is closed, and the system kills it when the
service ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

__all__ = ["dies_with", "main"]

_PARENT_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG


def main(connection: int, memory: int, shared: int, parent: int) -> None:
    """Computes until the other end is closed; what takes long to import comes after the tie to the parent."""
    if not dies_with(parent):
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the service decides when a worker ends
    from matfn_service.computing import compute

    compute(connection, memory, shared)


def dies_with(parent: int) -> bool:
    """Has the system kill this process when its parent ends, even while it is stopped; False if that has happened."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
