"""Connections of gRPC that are to be closed at once, for which grpcio has no call.

A message that its caller does not read stays in grpcio's memory, whatever becomes of the call that wrote it, until the
connection is gone. Its socket is found among those of the process by the addresses of both ends.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["cut"]

_DESCRIPTORS: Final = Path("/dev/fd")
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


def cut(peer: str, port: int) -> bool:
    """Closes the connection of a peer, as grpc names it, to a port of this process; returns whether there is one."""
    kind, _, address = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return False
    host, _, number = address.rpartition(":")
    wanted = _plain(host.strip("[]")), int(number)
    is_found = False
    for one in _sockets():
        with one, suppress(OSError, ValueError):  # one that is not connected, or no longer
            if one.family in _FAMILIES and one.getsockname()[1] == port and _ends(one) == wanted:
                one.shutdown(socket.SHUT_RDWR)
                is_found = True
    return is_found


def _sockets() -> Iterator[socket.socket]:
    """Every socket of the process, each by a descriptor of its own, which nobody else closes and opens as another."""
    with suppress(OSError):
        for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - the names are numbers
            with suppress(OSError):
                if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    yield _opened(os.dup(int(name)))


def _opened(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise


def _ends(one: socket.socket) -> tuple[str, int]:
    host, number = one.getpeername()[:2]
    return _plain(host), number


def _plain(host: str) -> str:
    """An address as IPv4 where it is one within IPv6."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
