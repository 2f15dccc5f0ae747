"""The documentation site of a real server: paths that no client would send, and its cost while calls are computed."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn
import site_archive
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import ServerProcess

PAGE = b"<html><p>the first page</p></html>"
OUTSIDE = ("../v1/status", "../../etc/passwd", "%2e%2e/v1/status", "..%2fapp.py", "//etc/passwd", "\\..\\app.py")


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a key and a site."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "site").mkdir()
    (folder / "site" / "index.html").write_bytes(PAGE)
    site_archive.pack(folder / "site", folder / "site.zip")
    with running_server(site=str(folder / "site.zip"), api_keys="secret") as server:
        yield server


def answer(server: ServerProcess, path: str) -> bytes:
    """The whole answer to a path that is sent as it is written."""
    with socket.create_connection(server.address, timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_first_page_is_open(documented: ServerProcess) -> None:
    """The site needs no key, and the manual does."""
    assert answer(documented, "/docs/").endswith(PAGE)
    assert answer(documented, "/docs").startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_are_not_resolved(documented: ServerProcess, path: str) -> None:
    """Dots, slashes and codes are part of a name that is not there: no other route, and no file, is reached by them."""
    found = answer(documented, f"/docs/{path}")

    assert found.startswith(b"HTTP/1.1 404")
    assert b'"not_found"' in found


def test_pages_are_sent_beside_calls(documented: ServerProcess) -> None:
    """A reader of the site and a caller are both answered over connections that stay open."""
    reader = HTTPConnection(*documented.address, timeout=30)
    with matfn.Client(documented.url, api_key="secret") as client:
        for _ in range(20):
            reader.request("GET", "/docs/index.html")
            assert reader.getresponse().read() == PAGE
            assert client.inv_root(np.diag([1.0, 16.0]), r=4)[1, 1] == pytest.approx(0.5)
    reader.close()
