"""The loop of a worker process: it answers the messages of the service's end until that is closed."""

from __future__ import annotations

import gc
import os
import pickle
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

__all__ = ["compute"]

_NICENESS: Final = 10  # so that the event loop, which needs little, gets a core at once when it wants one


def compute(connection: int, memory: int, shared: int) -> None:
    """Answers messages from one file descriptor, with tensors in two others."""
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
