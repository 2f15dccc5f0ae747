"""The documentation site in a browser: its own inline scripts run, and nothing that is not in the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import site_archive
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from processes import ServerProcess

PAGE = """<html><head><script>document.title = "ran"</script><script src="own.js"></script></head>
<body><img src="moving.svg"><p id="p" onclick="document.title = 'inline'">text</p></body></html>"""
OWN = 'document.documentElement.dataset.own = "ran"'
MOVING = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8"/></svg>'


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a site of one page."""
    folder: Path = tmp_path_factory.mktemp("site")
    (folder / "site").mkdir()
    for name, text in {"index.html": PAGE, "own.js": OWN, "moving.svg": MOVING}.items():
        (folder / "site" / name).write_text(text)
    site_archive.pack(folder / "site", folder / "site.zip")
    with running_server(site=str(folder / "site.zip")) as server:
        yield server


def test_policy_lets_the_pages_scripts_run(documented: ServerProcess, chromium: Browser) -> None:
    """Inline scripts of the archive and its files run; handlers and scripts that come later do not."""
    page = chromium.new_page()
    page.goto(f"{documented.url}/docs/")
    page.click("#p")
    later = page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'document.title = \"later\"';"
        " document.body.append(s); return document.querySelector('img').naturalWidth; }"
    )

    assert page.title() == "ran"
    assert page.evaluate("document.documentElement.dataset.own") == "ran"
    assert later == 8
    page.close()
