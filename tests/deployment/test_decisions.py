"""The index of decisions and the glossary are complete."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("0*.md"))
ROW = re.compile(r"^\| (\d+) \| \[(.+)\]\((.+)\) \| (\S+) \| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall((DOCS / "decisions" / "README.md").read_text())


def test_every_decision_is_in_the_index() -> None:
    """The index has one row a decision, in their order, under the number and the title of its page."""
    pages = [(path, path.read_text().splitlines()[0]) for path in DECISIONS]

    assert [(number, title, name) for number, title, name, _, _ in ROWS] == [
        (str(int(path.name[:4])), head.removeprefix(f"# {int(path.name[:4])}. "), path.name) for path, head in pages
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_decision_has_a_date_and_a_status(row: tuple[str, ...]) -> None:
    """A decision is in force or replaced by one that is there, since a day of the calendar."""
    _, _, _, day, status = row

    assert date.fromisoformat(day)
    assert re.fullmatch(rf"in force|replaced by ({'|'.join(number for number, *_ in ROWS)})", status)


TERMS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", (DOCS / "glossary.md").read_text(), re.MULTILINE)[2:]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term[0])
def test_term_has_a_chinese_name_and_one_sentence(term: tuple[str, str, str]) -> None:
    """Each term of the glossary has a Chinese name and is explained in one sentence."""
    _, chinese, sentence = term

    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert re.fullmatch(r"[A-Z`].*[^.]\.", sentence)
    assert ". " not in sentence


def test_terms_are_in_order_and_unique() -> None:
    """A reader finds a term by its first letter."""
    names = [term.casefold() for term, _, _ in TERMS]

    assert names == sorted(set(names))
    assert len(names) > 40
