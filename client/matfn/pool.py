"""Kept connections to one server, safe to share between threads; a forked child has none of its parent's."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from matfn.forks import Slots, generation

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_AGE_S", "MAX_CONNECTIONS", "MAX_KEPT", "Pool", "hang_up"]

MAX_CONNECTIONS: Final = 100
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
    lock: Slots = field(default_factory=Slots)
    process: int = field(default_factory=generation)

    def take(self) -> KeptT | None:
        """A connection that is young and quiet; what came unasked on a kept one can only be its end."""
        with self.lock:
            self._forget_after_fork()
            while self.kept:
                connection = self.kept.pop()
                young = self.clock() - connection.born < MAX_AGE_S
                if young and not _readable(connection.socket):
                    return connection
                hang_up(connection.socket)
        return None

    def put(self, connection: KeptT) -> None:
        """Keeps a connection, or closes it where enough are kept."""
        with self.lock:
            self._forget_after_fork()
            if len(self.kept) < MAX_KEPT:
                self.kept.append(connection)
                return
        hang_up(connection.socket)

    def close(self) -> None:
        """Closes the kept connections."""
        with self.lock:
            self._forget_after_fork()
            for connection in self.kept:
                hang_up(connection.socket)
            self.kept.clear()

    def _forget_after_fork(self) -> None:
        """Parent and child must not read each other's answers from one socket."""
        if self.process != generation():
            self.process = generation()
            for connection in self.kept:
                connection.socket.close()
            self.kept.clear()


def hang_up(sock: socket.socket) -> None:
    """Ends a connection, though a forked child may have it open too."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
