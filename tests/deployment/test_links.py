"""Links between the pages of the repository lead to files, and to headings that are there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "demo" / "README.md"])
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")


def named(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


@cache
def anchors(page: Path) -> frozenset[str]:
    """Anchors of a page's headings as GitHub makes them: letters, digits, hyphens and underscores, in lower case."""
    text = BLOCK.sub("", page.read_text())
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", head).strip().lower() for head in heads)
    return frozenset(re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in plain)


def links(page: Path) -> list[re.Match[str]]:
    """The links of a page to files of the repository, outside blocks of code."""
    text = re.sub(r"`[^`\n]+`", "", BLOCK.sub("", page.read_text()))
    return [link for link in LINK.finditer(text) if not re.match(r"[a-z]+:", link["path"])]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link is relative, to a file that is there, and its anchor to a heading."""
    for link in links(page):
        target = (page.parent / link["path"]).resolve() if link["path"] else page

        assert target.is_relative_to(ROOT), link[0]
        assert target.exists(), link[0]
        assert link["anchor"] is None or link["anchor"] in anchors(target), link[0]


@pytest.mark.parametrize("page", [page for page in PAGES if "docs" in page.parts], ids=named)
def test_pages_begin_with_their_title(page: Path) -> None:
    """A page of the documentation has one title, in its first line; parts of pages have none."""
    text = BLOCK.sub("", page.read_text())

    assert len(re.findall(r"^# ", text, re.MULTILINE)) == (0 if page.parent.name == "parts" else 1)
    assert page.parent.name == "parts" or re.match(r"(<!-- .* -->\n)?# ", text)


def test_links_are_found() -> None:
    """There are pages and links to look at."""
    assert sum(len(links(page)) for page in PAGES) > 100
