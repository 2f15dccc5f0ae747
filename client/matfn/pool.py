"""Kept connections to one server, safe to share between threads."""

from __future__ import annotations

import os
import select
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["MAX_AGE_S", "MAX_KEPT", "Pool"]

MAX_KEPT: Final = 32
MAX_AGE_S: Final = 300.0  # so that clients find new replicas behind a name


class _Kept(Protocol):
    @property
    def socket(self) -> socket.socket:
        """The connection's socket."""

    @property
    def born(self) -> float:
        """When it was connected, on the pool's clock."""


KeptT = TypeVar("KeptT", bound=_Kept)


@dataclass(slots=True)
class Pool(Generic[KeptT]):
    """Kept connections, the freshest used first."""

    clock: Callable[[], float]
    kept: list[KeptT] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    process: int = field(default_factory=os.getpid)

    def take(self) -> KeptT | None:
        """A connection that is young and quiet; what came unasked on a kept one can only be its end."""
        with self.lock:
            self._forget_after_fork()
            while self.kept:
                connection = self.kept.pop()
                young = self.clock() - connection.born < MAX_AGE_S
                if young and not _readable(connection.socket):
                    return connection
                connection.socket.close()
        return None

    def put(self, connection: KeptT) -> None:
        """Keeps a connection, or closes it where enough are kept."""
        with self.lock:
            self._forget_after_fork()
            if len(self.kept) < MAX_KEPT:
                self.kept.append(connection)
                return
        connection.socket.close()

    def close(self) -> None:
        """Closes the kept connections."""
        with self.lock:
            for connection in self.kept:
                connection.socket.close()
            self.kept.clear()

    def _forget_after_fork(self) -> None:
        """Parent and child must not read each other's answers from one socket."""
        if self.process != os.getpid():
            self.process = os.getpid()
            for connection in self.kept:
                connection.socket.close()
            self.kept.clear()


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
