"""The navigation of the documentation site has every page once; `make docs` builds the site itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LISTED = {"functions", "decisions"}
"""Folders whose pages scripts/site_hooks.py adds."""


class Plain(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Reads what mkdocs makes of Python's objects as nothing."""


Plain.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def pages(entry: object) -> Iterator[str]:
    """The paths in a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from pages(inner)


SITE = yaml.load((ROOT / "mkdocs.yml").read_text(), Plain)  # noqa: S506 - the loader is a safe one


def test_every_page_is_in_the_navigation() -> None:
    """A page that is added to docs/ is named in mkdocs.yml, in one place."""
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if page.parent.name != "parts"}
    expected = {
        page for page in written if page.split("/")[0] not in LISTED or page.endswith(("index.md", "README.md"))
    }
    named = list(pages(SITE["nav"]))

    assert sorted(named) == sorted(expected | {"repository/CHANGELOG.md"})


def test_site_needs_no_other_server() -> None:
    """Warnings are errors, and no fonts are loaded from elsewhere."""
    assert SITE["strict"] is True
    assert SITE["theme"]["font"] is False
    assert "search" in SITE["plugins"]
