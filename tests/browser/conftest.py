"""What the browser's tests share; `make browser` runs them, with Playwright and the system's Chromium."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browsing import Opening

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
PATIENCE: Final = 20_000
"""Milliseconds that a page may take: two cores may be shared with other work."""

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or Playwright's own where there is none."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser, server: ServerProcess, complaints: list[str]) -> Iterator[Opening]:
    """Opens a page in a context of its own; what it complains of, breaches of the policy too, fails the test."""
    contexts = []

    def open_page(fragment: str = "", url: str = "", **context: Any) -> Page:
        own = chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-GB", **context})
        own.set_default_timeout(PATIENCE)
        contexts.append(own)
        page = own.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(f"{url or server.url}/#{fragment}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if "Failed to load resource" not in text] == []


@pytest.fixture
def complaints() -> list[str]:
    """Errors that pages have reported."""
    return []


@pytest.fixture(scope="session")
def keyed() -> Iterator[ServerProcess]:
    """A server with a key, and with requests of up to 20 kB."""
    with running_server(api_keys="s3cret", max_request_bytes="20000") as server:
        yield server


@pytest.fixture(scope="module")
def modules(chromium: Browser, server: ServerProcess) -> Iterator[Page]:
    """A page in which `use(file)` imports a module."""
    page = chromium.new_page()
    page.goto(f"{server.url}/#functions")
    page.wait_for_selector(".card")
    page.evaluate("""() => {
        const root = new URL(".", document.querySelector("script[src]").src);
        globalThis.use = (file) => import(new URL(file, root));
    }""")
    yield page
    page.close()
