"""A server that has a key, takes small bodies only, allows two origins and has a site."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import site_archive
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FIRST_PAGE", "KEY", "LIMIT", "ORIGIN", "guarded_server"]

KEY: Final = "secret"
LIMIT: Final = 1 << 20
"""Most bytes of a body."""
ORIGIN: Final = "https://lab.example.org"
"""One of the two."""
FIRST_PAGE: Final = b"<html><p>the first page</p></html>"


@contextmanager
def guarded_server(folder: Path) -> Iterator[ServerProcess]:
    """The server, with its site in this folder."""
    (folder / "site").mkdir()
    (folder / "site" / "index.html").write_bytes(FIRST_PAGE)
    site_archive.pack(folder / "site", folder / "site.zip")
    settings = {"cors_origins": f"{ORIGIN}, http://localhost:3000", "site": str(folder / "site.zip")}
    with running_server(api_keys=KEY, max_request_bytes=str(LIMIT), **settings) as server:
        yield server
