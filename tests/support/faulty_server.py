"""A server process whose device fails, or waits, where the entries of a matrix say so.

    python tests/support/faulty_server.py

A batch that holds the entry `HOLD` keeps the device busy until the process gets SIGUSR1, `RAISE` makes the kernel
raise, and `SHORTAGE` makes the device run out of memory.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

from matfn_service.executor import CpuExecutor, DeviceMemoryError, Run
from matfn_service.server import serve
from matfn_service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn_service.assembly import Part

__all__ = ["HOLD", "RAISE", "SHORTAGE"]

HOLD: Final = 3333.0
RAISE: Final = 4444.0
SHORTAGE: Final = 5555.0


class FaultyExecutor(CpuExecutor):
    """One worker of the CPU, with faults."""

    def __init__(self) -> None:
        super().__init__(1)
        self.releases = threading.Semaphore(0)

    async def run(self, parts: Sequence[Part]) -> Run:
        """Computes one share, unless one of its matrices asks for something else."""
        if _holds(parts, RAISE):
            raise ValueError("a bug in a kernel")
        if _holds(parts, SHORTAGE):
            raise DeviceMemoryError("full")
        if _holds(parts, HOLD):
            await asyncio.to_thread(self.releases.acquire)
        return await super().run(parts)


def _holds(parts: Sequence[Part], entry: float) -> bool:
    return any(bool((tensor == entry).any()) for part in parts for tensor in part.batch.inputs.values())


def main() -> int:
    """Serves as `matfn serve` does."""
    executor = FaultyExecutor()
    signal.signal(signal.SIGUSR1, lambda *_: executor.releases.release())
    return serve(Settings(), executor)


if __name__ == "__main__":
    sys.exit(main())
