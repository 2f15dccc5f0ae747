"""The page at / and its files: plain HTML, CSS and ES modules, served from memory and from nowhere else.

All files but the page itself lie under /page/RELEASE/, where RELEASE is a hash of them all: modules import each other
by relative names, so that a browser never mixes two versions, and what it has once fetched stays valid for good. The
page needs no key and tells nothing of this server; what it shows it asks for itself, with the caller's key.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

__all__ = ["FILES_ROOT", "PAGE_POLICY", "add_front_page"]

FILES_ROOT: Final = "/page/"
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FOLDER: Final = Path(__file__).parent / "page"
_INDEX: Final = "index.html"
_PLACE: Final = b"RELEASE"
"""Stands in the page where the files' folder is meant."""
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "vary": "accept-encoding",
}
_FOR_GOOD: Final = "public, max-age=31536000, immutable"
_ASK_EACH_TIME: Final = "no-cache"


@dataclass(frozen=True, slots=True)
class _File:
    """One file as it is sent: whole, and compressed once for all."""

    content: bytes
    compressed: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(cls, name: str, content: bytes, caching: str) -> _File:
        """The file of this name and content."""
        headers = _HEADERS | {
            "content-type": _TYPES[Path(name).suffix],
            "cache-control": caching,
            "etag": f'"{sha256(content).hexdigest()[:32]}"',
        }
        return cls(content, gzip.compress(content, 9, mtime=0), headers)

    def answer(self, request: Request) -> Response:
        """The file, or 304 to a browser that has it."""
        known = request.headers.get("if-none-match", "")
        if self.headers["etag"] in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=self.headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.compressed, headers={**self.headers, "content-encoding": "gzip"})
        return Response(self.content, headers=self.headers)


def add_front_page(app: FastAPI) -> None:
    """Adds the routes of the page and of its files."""
    page, release, files = _read()

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        return page.answer(request)

    @app.get(FILES_ROOT + "{of}/{name}", include_in_schema=False)
    async def file(request: Request, of: str, name: str) -> Response:
        if of != release or name not in files:
            raise HTTPException(404, f"there is no {request.url.path}")
        return files[name].answer(request)


def _read() -> tuple[_File, str, dict[str, _File]]:
    """The page, the name of its files' folder, and the files by name."""
    contents = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
    index = contents.pop(_INDEX)
    release = sha256(repr(sorted(contents.items())).encode()).hexdigest()[:16]
    files = {name: _File.of(name, content, _FOR_GOOD) for name, content in contents.items()}
    return _File.of(_INDEX, index.replace(_PLACE, release.encode()), _ASK_EACH_TIME), release, files
