"""Checks that version, CHANGELOG.md and tag agree, or prints the notes of the version in pyproject.toml.

python scripts/release.py            the version, its section and its tag, if it has one
python scripts/release.py --notes    the section of CHANGELOG.md alone, for the tag's message
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Section", "faults", "sections"]

ROOT: Final = Path(__file__).parents[1]
UNRELEASED: Final = "Unreleased"

_HEADING: Final = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\S+))?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """The part of the changelog that is one version's."""

    name: str
    date: str | None
    text: str


def sections(changelog: str) -> list[Section]:
    """The sections in their order."""
    headings = list(_HEADING.finditer(changelog))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    return [
        Section(heading["name"], heading["date"], changelog[heading.end() : end].strip())
        for heading, end in zip(headings, ends, strict=True)
    ]


def faults(version: str, changelog: str, tags: list[str]) -> Iterator[str]:
    """The reasons why this version with these tags on its commit is no release."""
    found = sections(changelog)
    if not found or found[0].name != UNRELEASED:
        yield f"CHANGELOG.md does not begin with [{UNRELEASED}]"
    released = [section for section in found if section.name != UNRELEASED]
    if [section.name for section in released[:1]] != [version]:
        yield f"pyproject.toml's version {version} is not the newest one of CHANGELOG.md"
    for section in released:
        yield from _of_section(section)
    if _sorted([section.name for section in released]) != [section.name for section in released]:
        yield "the versions of CHANGELOG.md do not go from the newest to the oldest"
    for tag in tags:
        if tag != f"v{version}":
            yield f"the tag {tag} is not v{version}"


def _of_section(section: Section) -> Iterator[str]:
    if not re.fullmatch(r"\d+\.\d+\.\d+", section.name):
        yield f"{section.name} is no version of the form X.Y.Z"
    if not section.text:
        yield f"CHANGELOG.md says nothing of {section.name}"
    try:
        date.fromisoformat(section.date or "")
    except ValueError:
        yield f"{section.name} has no date of the form YYYY-MM-DD"


def _sorted(names: list[str]) -> list[str]:
    try:
        return sorted(names, key=Version, reverse=True)
    except InvalidVersion:
        return names  # its own fault


def version() -> str:
    """The version of this tree."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def _tags() -> list[str]:
    """The version tags of the commit that is checked out."""
    command = ["git", "-C", str(ROOT), "tag", "--points-at", "HEAD", "v*"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def main() -> int:
    """Prints what is wrong, or what would be released."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    if sys.argv[1:] == ["--notes"]:
        print(next(section.text for section in sections(changelog) if section.name == version()))
        return 0
    found = list(faults(version(), changelog, tags := _tags()))
    print("\n".join(found) or f"matfn {version()}, {'tagged ' + ', '.join(tags) if tags else 'not tagged'}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
