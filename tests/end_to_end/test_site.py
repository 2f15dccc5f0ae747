"""The documentation site of a real server: paths that no client would send, and its cost while calls are computed."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn
from guarded_server import FIRST_PAGE

if TYPE_CHECKING:
    from processes import ServerProcess

OUTSIDE = ("../v1/status", "../../etc/passwd", "%2e%2e/v1/status", "..%2fapp.py", "//etc/passwd", "\\..\\app.py")


def answer(server: ServerProcess, path: str) -> bytes:
    """The whole answer to a path that is sent as it is written."""
    with socket.create_connection(server.address, timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_first_page_is_open(guarded: ServerProcess) -> None:
    """The site needs no key, and the manual does."""
    assert answer(guarded, "/docs/").endswith(FIRST_PAGE)
    assert answer(guarded, "/docs").startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_are_not_resolved(guarded: ServerProcess, path: str) -> None:
    """Dots, slashes and codes are part of a name that is not there: no other route, and no file, is reached by them."""
    found = answer(guarded, f"/docs/{path}")

    assert found.startswith(b"HTTP/1.1 404")
    assert b'"not_found"' in found


def test_pages_are_sent_beside_calls(guarded: ServerProcess) -> None:
    """A reader of the site and a caller are both answered over connections that stay open."""
    reader = HTTPConnection(*guarded.address, timeout=30)
    with matfn.Client(guarded.url, api_key="secret") as client:
        for _ in range(20):
            reader.request("GET", "/docs/index.html")
            assert reader.getresponse().read() == FIRST_PAGE
            assert client.inv_root(np.diag([1.0, 16.0]), r=4)[1, 1] == pytest.approx(0.5)
    reader.close()
