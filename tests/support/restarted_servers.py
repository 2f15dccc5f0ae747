"""Server processes on unix sockets, each started again whenever it dies.

    python tests/support/restarted_servers.py SOCKET...

Prints the path and the process id of every server that starts. What takes long is loaded once, and the servers are
forks of this process; their device needs no time to start either.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from matfn_service.server import serve
from matfn_service.settings import Settings
from scripted import ScriptedExecutor

if TYPE_CHECKING:
    from types import FrameType

_running: dict[int, str] = {}


def _start(path: str) -> None:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os._exit(serve(Settings.model_validate({"uds": Path(path)}), ScriptedExecutor()))
    _running[child] = path
    print(path, child, flush=True)  # noqa: T201 - for whoever started this


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    for child in _running:
        os.kill(child, signal.SIGKILL)
    os._exit(0)


def main(paths: list[str]) -> None:
    """Keeps the servers running until SIGTERM."""
    signal.signal(signal.SIGTERM, _stop)
    for path in paths:
        _start(path)
    while True:
        child, _ = os.wait()
        _start(_running.pop(child))


if __name__ == "__main__":
    main(sys.argv[1:])
