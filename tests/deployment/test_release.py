"""Releases: version, changelog and tag say the same."""

from __future__ import annotations

from importlib.metadata import version as installed
from pathlib import Path

import pytest

import release

ROOT = Path(__file__).parents[2]

GOOD = """# Changelog

## [Unreleased]

## [0.2.0] - 2027-01-15

### Fixed

- A sentence.

## [0.1.0] - 2026-11-29

- Another.
"""


def test_this_tree_can_be_released() -> None:
    """The newest version of CHANGELOG.md is pyproject.toml's, and every version has a date and a text."""
    assert list(release.faults(release.version(), (ROOT / "CHANGELOG.md").read_text(), [])) == []


def test_sections_are_cut_at_their_headings() -> None:
    """A section's text ends where the next version begins."""
    assert release.sections(GOOD) == [
        release.Section("Unreleased", None, ""),
        release.Section("0.2.0", "2027-01-15", "### Fixed\n\n- A sentence."),
        release.Section("0.1.0", "2026-11-29", "- Another."),
    ]


@pytest.mark.parametrize("tags", [[], ["v0.2.0"]])
def test_agreement_has_no_fault(tags: list[str]) -> None:
    """A commit is releasable before its tag is set and after."""
    assert list(release.faults("0.2.0", GOOD, tags)) == []


@pytest.mark.parametrize(
    ("version", "changelog", "tags", "fault"),
    [
        ("0.3.0", GOOD, [], "pyproject.toml's version 0.3.0 is not the newest one of CHANGELOG.md"),
        ("0.2.0", GOOD, ["v0.1.0"], "the tag v0.1.0 is not v0.2.0"),
        ("0.2.0", GOOD.replace("## [Unreleased]\n", ""), [], "CHANGELOG.md does not begin with [Unreleased]"),
        ("0.2.0", GOOD.replace(" - 2027-01-15", ""), [], "0.2.0 has no date of the form YYYY-MM-DD"),
        ("0.2.0", GOOD.replace("2027-01-15", "2027-15-01"), [], "0.2.0 has no date of the form YYYY-MM-DD"),
        ("0.2.0", GOOD.replace("- Another.", ""), [], "CHANGELOG.md says nothing of 0.1.0"),
        ("0.2", GOOD.replace("0.2.0", "0.2"), [], "0.2 is no version of the form X.Y.Z"),
        ("0.0.9", GOOD.replace("0.2.0", "0.0.9"), [], "the versions of CHANGELOG.md do not go from the newest to"),
    ],
)
def test_disagreement_is_told(version: str, changelog: str, tags: list[str], fault: str) -> None:
    """Each disagreement is one line."""
    found = list(release.faults(version, changelog, tags))

    assert len(found) == 1
    assert found[0].startswith(fault)


def test_version_has_one_source() -> None:
    """The packages read pyproject.toml's version from what is installed, and no source repeats it."""
    sources = [path for folder in ("client", "service", "kernels") for path in (ROOT / folder).rglob("*.py")]

    assert [path.name for path in sources if f'"{release.version()}"' in path.read_text()] == []
    assert installed("matfn") == release.version()
