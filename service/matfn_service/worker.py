"""The worker process: `python -m matfn_service.worker CONNECTION ARENA SHARED`, three inherited file descriptors.

It answers the messages of the service's end (`matfn_service.worker_process`) until that is closed.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

import torch

from matfn_service.arena import Arena
from matfn_service.memory import IDLE_SECONDS, is_for_memory, trim
from matfn_service.messages import Done, Failed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_NICENESS: Final = 10  # so that the event loop, which needs little, gets a core at once when it wants one


def main(connection: int, memory: int, shared: int) -> None:
    """Computes until the other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the service decides when a worker ends
    torch.set_num_threads(1)
    os.nice(_NICENESS)
    gc.freeze()
    link, arena = Connection(connection), Arena(memory, shared)
    while True:
        if not link.poll(IDLE_SECONDS):
            arena = Arena(memory, shared)
            trim()
            link.poll(None)
        try:
            link.send(_replied(link, arena))
        except (EOFError, OSError):  # the other end is closed
            return


def _replied(link: Connection, arena: Arena) -> Done[object] | Failed:
    octets = link.recv_bytes()
    started = time.perf_counter()
    try:
        message: Callable[[Arena], object] = pickle.loads(octets)  # noqa: S301 - from the other end of this program
        value = message(arena)
    except Exception as error:  # noqa: BLE001 - any exception of a kernel is reported, and the worker lives on
        return Failed(traceback.format_exc(), is_for_memory(error))
    return Done(value, time.perf_counter() - started)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
