"""The front process: `python -m matfn_service.fronts.process PIPE LISTENER OWN SHARED PARENT`.

The first four are inherited file descriptors: the pipe to the server, the socket that all accept from, this front's
memory, and the server's; the last is the server's process number. The system kills a front when its server ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from functools import partial

from matfn_service.fronts.messages import Hello
from matfn_service.fronts.pipe import read_one
from matfn_service.worker import dies_with

__all__ = ["main"]


def main(pipe: int, listener: int, own: int, shared: int, parent: int) -> None:
    """Serves until SIGTERM, then drains."""
    if not dies_with(parent):
        return
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to renew
    from matfn_service.app import application_of
    from matfn_service.fronts.listening import FrontServer
    from matfn_service.fronts.remote import FrontApplication, FrontService
    from matfn_service.fronts.server import Server
    from matfn_service.listening import Listener
    from matfn_service.logs import configure_logs
    from matfn_service.server import TURN_SECONDS, http_config, most_connections
    from matfn_service.shared_memory import SHARED
    from matfn_service.tracing import telemetry_of

    SHARED.use(own)
    end = socket.socket(fileno=pipe)
    hello = read_one(end)
    assert isinstance(hello, Hello)
    settings = hello.settings
    configure_logs(settings)
    sys.setswitchinterval(TURN_SECONDS)
    server = Server(end, shared)
    service = FrontService(settings, server, time.monotonic, telemetry_of(os.environ))
    app = application_of(service, partial(FrontApplication, server=server))
    listening = Listener(socket.socket(fileno=listener))
    connections = most_connections(settings.max_connections // settings.fronts)
    FrontServer(http_config(app, settings, connections), app, listening, service).run([listening.socket])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
