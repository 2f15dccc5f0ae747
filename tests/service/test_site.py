"""The documentation site at /docs/: served from an archive in memory, to anyone, with a strict policy."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

import site_archive
from matfn_service import site
from matfn_service.site import BrokenSite, read_site

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from scripted import Opened

pytestmark = pytest.mark.anyio

SCRIPT = 'document.title = "x"'
FILES = {
    "index.html": f"<html><script>{SCRIPT}</script><p>first</p></html>".encode(),
    "functions/index.html": b"<html>functions</html>",
    "site.css": b"p {}",
    "pictures/a.png": b"\x89PNG",
    "404.html": b"<html>no</html>",
    "bundle.js.map": b"{}",
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive as `make docs` writes it."""
    for name, content in FILES.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_bytes(content)
    site_archive.pack(tmp_path / "site", tmp_path / "site.zip")
    return tmp_path / "site.zip"


async def statuses(client: httpx.AsyncClient, *paths: str) -> list[int]:
    """The statuses of these paths, sent as they are written."""
    return [(await client.get(path)).status_code for path in paths]


async def test_site_needs_no_key(opened: Opened, archive: Path) -> None:
    """Pages, folders and files are open, with their types, where everything else needs a key."""
    async with opened(api_keys="secret", site=archive) as client:
        first = await client.get("/docs/")
        answers = {name: await client.get(f"/docs/{name}") for name in FILES}
        folder = await client.get("/docs/functions/")
        manual = await client.get("/docs")

    assert first.content == FILES["index.html"]
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert folder.content == FILES["functions/index.html"]
    assert {name for name, answer in answers.items() if answer.status_code != 200} == {"404.html", "bundle.js.map"}
    assert answers["pictures/a.png"].content == FILES["pictures/a.png"]
    assert manual.status_code == 401


async def test_no_path_leads_out_of_the_site(opened: Opened, archive: Path) -> None:
    """Paths are names of the archive, whatever dots, slashes and codes they hold; nothing else is opened by them."""
    outside = ["../v1/status", "..%2fapp.py", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "index.html.gz", "functions"]
    async with opened(api_keys="secret", site=archive) as client:
        found = await statuses(client, *(f"/docs/{path}" for path in outside))
        problem = (await client.get("/docs/nothing.html")).json()

    assert set(found) <= {401, 404}
    assert problem["code"] == "not_found"
    assert "/docs/" in problem["hint"]


async def test_other_methods_are_refused(opened: Opened, archive: Path) -> None:
    """Only GET and HEAD are answered; HEAD has the headers."""
    async with opened(site=archive) as client:
        assert (await client.post("/docs/")).status_code == 405
        assert (await client.delete("/docs/site.css")).status_code == 405
        assert (await client.head("/docs/site.css")).headers["content-type"] == "text/css; charset=utf-8"


async def test_policy_allows_only_the_pages_own_scripts(opened: Opened, archive: Path) -> None:
    """Inline scripts run by their hashes, and nothing comes from elsewhere."""
    async with opened(site=archive) as client:
        headers = (await client.get("/docs/")).headers

    own = b64encode(sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{own}';" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_files_are_sent_compressed_and_once(opened: Opened, archive: Path) -> None:
    """Browsers get what the archive holds, plain ones the text, and what is known is 304."""
    async with opened(site=archive) as client:
        async with client.stream("GET", "/docs/site.css", headers={"accept-encoding": "gzip"}) as answer:
            raw = b"".join([piece async for piece in answer.aiter_raw()])
        plain = await client.get("/docs/site.css", headers={"accept-encoding": "identity"})
        known = {"if-none-match": f'"other", W/{plain.headers["etag"]}'}
        again = [await client.get(f"/docs/{name}", headers=known) for name in ("site.css", "index.html")]

    assert gzip.decompress(raw) == plain.content == FILES["site.css"]
    assert "content-encoding" not in plain.headers
    assert [answer.status_code for answer in again] == [304, 200]
    assert plain.headers["cache-control"] == "no-cache"


async def test_server_without_a_site_says_how_to_get_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no site was built, every path below /docs/ says so, to a browser on a page; /docs is there as always."""
    monkeypatch.setattr(site, "ARCHIVE", tmp_path / "none.zip")
    async with opened() as client:
        problem = (await client.get("/docs/")).json()
        page = await client.get("/docs/<b>", headers={"accept": "text/html,*/*;q=0.8"})
        manual = await client.get("/docs")

    assert (problem["status"], problem["code"]) == (404, "not_found")
    assert "make docs" in problem["hint"]
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert problem["hint"] in page.text
    assert manual.status_code == 200


def test_same_pages_give_the_same_archive(archive: Path, tmp_path: Path) -> None:
    """An archive depends on the pages alone."""
    first = archive.read_bytes()
    site_archive.pack(tmp_path / "site", archive)

    assert archive.read_bytes() == first


def nothing(path: Path) -> None:
    """No file."""
    assert not path.exists()


def no_archive(path: Path) -> None:
    """A text."""
    path.write_text("no zip")


def no_pages(path: Path) -> None:
    """An archive without a first page."""
    with ZipFile(path, "w") as packed:
        packed.writestr("notes.txt", "x")


def too_large(path: Path) -> None:
    """An archive of more than a site may have."""
    with ZipFile(path, "w", 8) as packed:
        packed.writestr("index.html", bytes(65 * 2**20))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (nothing, "No such file"),
        (no_archive, "not a zip file"),
        (no_pages, "it has no index.html"),
        (too_large, "more than"),
    ],
)
def test_what_is_no_site_is_told_in_words(write: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    """A file that is missing, no archive, without pages or too large is refused before the server starts."""
    write(tmp_path / "site.zip")

    with pytest.raises(BrokenSite, match=re.escape(reason)):
        read_site(tmp_path / "site.zip")
