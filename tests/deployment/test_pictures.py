"""Pictures of the documentation are small, shown by a page and drawn by the script of their name."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = sorted(path for path in (DOCS / "pictures").iterdir() if path.suffix in {".png", ".svg"})
TEXT = "\n".join(page.read_text() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_picture_is_small_and_shown(picture: Path) -> None:
    """A page shows the picture and links to its script; it has less than 100 KB."""
    assert picture.stat().st_size < 100_000
    assert f"pictures/{picture.name})" in TEXT
    assert f"pictures/{picture.stem}.py)" in TEXT


def test_every_script_has_drawn_its_picture() -> None:
    """There is one script a picture."""
    scripts = {path.stem for path in (DOCS / "pictures").glob("*.py")}

    assert scripts == {path.stem for path in PICTURES}
    assert len(scripts) >= 10


def test_animations_are_plain() -> None:
    """An animated picture has neither scripts nor styles of its own: it moves in any page and under any policy."""
    for picture in (path for path in PICTURES if path.suffix == ".svg"):
        text = picture.read_text()

        assert "<script" not in text
        assert "style" not in text
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
