"""The socket that the server listens on; a unix socket never takes a live server's path, and leaves none behind."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from matfn.segments import side_path

if TYPE_CHECKING:
    from matfn_service.settings import Settings

__all__ = ["BACKLOG", "Listener", "listen", "listen_beside"]

BACKLOG: Final = 2048
_PROBE_SECONDS: Final = 1.0
_ANYONE: Final = 0o666  # the folder's permissions and the keys decide who connects
_OWNER: Final = 0o600


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and, for a unix socket, its path and the identity of its file."""

    socket: socket.socket
    path: Path | None = None
    mark: tuple[int, int, int] | None = None

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        if self.path is not None:
            return f"unix://{self.path}"
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def close(self) -> None:
        """Closes the socket and removes its path, unless another server has taken the path since."""
        self.socket.close()
        if self.path is not None and _mark(self.path) == self.mark:
            self.path.unlink(missing_ok=True)


def listen(settings: Settings) -> Listener:
    """A socket on the path, or on the host and port, of the settings.

    Raises:
        OSError: if the address is taken or cannot be.
    """
    if settings.uds is not None:
        return _on_path(settings.uds, _ANYONE)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return Listener(socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG))


def listen_beside(settings: Settings) -> Listener | None:
    """The side socket at which memory is handed over; None without a unix socket, or where memory cannot be shared.

    Raises:
        OSError: if its path is taken or cannot be.
    """
    if settings.uds is None or not settings.most_shared_bytes or not hasattr(os, "memfd_create"):
        return None
    return _on_path(Path(side_path(settings.uds)), _OWNER)


def _on_path(path: Path, mode: int) -> Listener:
    if path.is_socket():
        _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return Listener(listener, path, _mark(path))


def _remove_stale(path: Path) -> None:
    """Removes a socket that its server has left behind; one that accepts connections is in use."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except (TimeoutError, BlockingIOError):
            pass  # its server is there and has no time
    raise OSError(errno.EADDRINUSE, "another server listens on this socket")


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Identity of the file at this path: device, inode and time of change, since inodes are reused."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
