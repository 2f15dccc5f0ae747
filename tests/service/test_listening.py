"""A unix socket's path belongs to the server that listens on it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from matfn_service.listening import listen
from matfn_service.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the socket goes."""
    return tmp_path / "matfn.sock"


def connects(path: Path) -> bool:
    """Whether a server accepts a connection there."""
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


def test_live_socket_is_not_taken(path: Path) -> None:
    """A second listener is refused, and the first goes on."""
    first = listen(Settings(uds=path))
    with pytest.raises(OSError, match="another server listens"):
        listen(Settings(uds=path))

    assert connects(path)
    first.close()
    assert not path.exists()


def test_stale_socket_is_replaced(path: Path) -> None:
    """A socket that a killed server left behind is no obstacle."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    listener = listen(Settings(uds=path))

    assert connects(path)
    listener.close()


def test_only_the_own_socket_is_removed(path: Path) -> None:
    """A path that another server has made its own since is left to it."""
    old = listen(Settings(uds=path))
    path.unlink()
    new = listen(Settings(uds=path))
    old.close()

    assert connects(path)
    new.close()


def test_path_that_is_no_socket_is_kept(path: Path) -> None:
    """Whatever else lies at the path stays there."""
    path.write_text("keep me")
    with pytest.raises(OSError, match="in use"):
        listen(Settings(uds=path))

    assert path.read_text() == "keep me"
