"""README and documentation are spelled alike, and use the field's words: docs/glossary.md lists the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```$|^    .*$|`[^`\n]+`|\]\([^)]*\)|<!--.*?-->", re.MULTILINE | re.DOTALL)
"""What is no prose: blocks, code in a line, the targets of links, and comments."""


def unused() -> list[str]:
    """The words of the glossary's last table."""
    table = GLOSSARY.read_text().partition("| not | but |\n")[2]
    cells = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    return [word.strip() for cell in cells for word in cell.split(",") if re.match(r"\w", word.strip())]


WORDS = re.compile(rf"(?<![\w-])({'|'.join(unused())})(?![\w-])", re.IGNORECASE)


def prose(page: Path) -> str:
    """The text of a page without code, and without the table that lists the words."""
    return CODE.sub(" ", page.read_text().partition("| not | but |\n")[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_uses_the_fields_words(page: Path) -> None:
    """No page has a word that the glossary replaces."""
    assert WORDS.findall(prose(page)) == []


@pytest.mark.parametrize("text", ["The behavior of it.", "Non-symmetric matrices", "a Frechet distance", "their mates"])
def test_words_are_found(text: str) -> None:
    """The test is not blind: a sentence with such a word is found, whatever its case."""
    assert WORDS.findall(text) != []


def test_code_is_not_prose() -> None:
    """Names that others have chosen are no fault of the page."""
    assert WORDS.findall(CODE.sub(" ", "`normalize_grads` and\n```text\ncolor\n```\nin [this](color.md)")) == []


def test_table_is_read() -> None:
    """The glossary lists words."""
    assert len(unused()) > 30
