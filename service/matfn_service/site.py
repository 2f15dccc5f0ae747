"""The documentation site at /docs/, read once from the archive that `make docs` writes (scripts/site_archive.py).

The archive holds each file as it is sent: texts compressed by gzip, under their names with `.gz`, and others as they
are. It is read when the server starts. A request looks its path up among the names in memory and never opens a file, so
that no path leads out of the site and an answer costs as much as sending it. The site needs no key and tells nothing of
this server.
"""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from zipfile import BadZipFile, ZipFile

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation at run time
from starlette.responses import HTMLResponse, Response

from matfn_service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

__all__ = ["ARCHIVE", "SITE_ROOT", "BrokenSite", "Site", "add_site", "read_site"]

SITE_ROOT: Final = "/docs/"
ARCHIVE: Final = Path(__file__).parent / "site.zip"
"""Where `make docs` writes it, and where a wheel has it."""

_BARE: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_INDEX: Final = "index.html"
_COMPRESSED: Final = ".gz"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".xml": "application/xml",
    ".py": "text/plain; charset=utf-8",
}
_OTHER: Final = "application/octet-stream"
_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_ASK_EACH_TIME: Final = "no-cache"
_LARGEST: Final = 64 * 2**20
"""Bytes of a whole site; that of this version has 3 MiB."""


class BrokenSite(Exception):  # noqa: N818 - the file's fault, told to whoever named it
    """Why an archive cannot be served, in words."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the site.

    Attributes:
        content: as it is sent.
        is_compressed: whether that is by gzip.
        headers: of every answer with it.
    """

    content: bytes
    is_compressed: bool
    headers: Mapping[str, str]

    def answer(self, request: Request) -> Response:
        """The file, or 304 to a browser that has it."""
        known = request.headers.get("if-none-match", "")
        if self.headers["etag"] in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=self.headers)
        if not self.is_compressed:
            return Response(self.content, headers=self.headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.content, headers={**self.headers, "content-encoding": "gzip"})
        return Response(gzip.decompress(self.content), headers=self.headers)


@dataclass(frozen=True, slots=True)
class Site:
    """The files of a site by their names."""

    files: Mapping[str, _File]

    def find(self, path: str) -> _File | None:
        """The file at a path below the site's root; that of a folder is its index."""
        return self.files.get(f"{path}{_INDEX}" if path == "" or path.endswith("/") else path)


def read_site(path: Path) -> Site:
    """The site in an archive.

    Raises:
        BrokenSite: if the file is no archive of a site.
    """
    try:
        with ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise BrokenSite(f"it holds more than {_LARGEST} bytes")
            contents = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (OSError, BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BrokenSite(str(error)) from None
    if _INDEX + _COMPRESSED not in contents:
        raise BrokenSite(f"it has no {_INDEX}: `make docs` writes a site")
    policy = _policy(contents)
    return Site({name.removesuffix(_COMPRESSED): _file(name, data, policy) for name, data in contents.items()})


def _file(name: str, content: bytes, policy: str) -> _File:
    headers = {
        "content-type": _TYPES.get(PurePosixPath(name.removesuffix(_COMPRESSED)).suffix, _OTHER),
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": _ASK_EACH_TIME,
        "vary": "accept-encoding",
        "etag": f'"{sha256(content).hexdigest()[:32]}"',
    }
    return _File(content, name.endswith(_COMPRESSED), headers)


def _policy(contents: Mapping[str, bytes]) -> str:
    """Sources that the pages may load: this server's files, and the inline scripts that they have, by their hashes."""
    pages = (gzip.decompress(data) for name, data in contents.items() if name.endswith(".html" + _COMPRESSED))
    scripts = " ".join(["'self'", *sorted({_hash(script) for page in pages for script in _SCRIPT.findall(page)})])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _hash(script: bytes) -> str:
    return f"'sha256-{b64encode(sha256(script).digest()).decode()}'"


def add_site(app: FastAPI, named: Path | None) -> None:
    """Adds the route of the site: that of the archive that is named, else of the package's own if it has one."""
    site = read_site(named or ARCHIVE) if named is not None or ARCHIVE.exists() else None

    @app.get(SITE_ROOT + "{path:path}", include_in_schema=False)
    async def page(request: Request, path: str) -> Response:
        found = None if site is None else site.find(path)
        if found is None:
            said = _absent(request.url.path, is_built=site is not None)
            if "text/html" in request.headers.get("accept", ""):  # the page at / links to here
                return HTMLResponse(_told(*said), HTTPStatus.NOT_FOUND, {"content-security-policy": _BARE})
            raise Refusal("not_found", *said)
        return found.answer(request)


def _told(detail: str, hint: str) -> str:
    """A page for a browser that says why there is no documentation, and what to do."""
    words = f'<p>{escape(detail)}: {escape(hint)}.</p><p><a href="/docs">/docs</a> <a href="/">/</a></p>'
    return f'<!doctype html><html lang="en"><title>matfn</title>{words}</html>'


def _absent(path: str, *, is_built: bool) -> tuple[str, str]:
    """The detail and the hint for a page that is not there."""
    if is_built:
        return f"there is no {path}", f"{SITE_ROOT} is the documentation's first page"
    return (
        "this server has no documentation site",
        "`make docs` in the repository builds it for the next start; /docs has functions, options and error codes",
    )
