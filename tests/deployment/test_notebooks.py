"""The notebooks are those of their scripts, were executed from top to bottom, and have pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.py"))


def cells_of(script: Path) -> list[tuple[str, str]]:
    """Kind and text of each cell of a script, whose cells begin with `# %%`."""
    found = re.split(r"^# %%(.*)\n", script.read_text(), flags=re.MULTILINE)[1:]
    return [
        ("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip())
        if kind.strip() == "[markdown]"
        else ("code", text.strip())
        for kind, text in zip(found[::2], found[1::2], strict=True)
    ]


@pytest.fixture(params=SCRIPTS, ids=lambda script: script.stem)
def script(request: pytest.FixtureRequest) -> Path:
    """Each script."""
    found: Path = request.param
    return found


@pytest.fixture
def notebook(script: Path) -> list[dict[str, Any]]:
    """The cells of its notebook."""
    cells: list[dict[str, Any]] = json.loads(script.with_suffix(".ipynb").read_text())["cells"]
    return cells


def test_notebook_is_that_of_its_script(script: Path, notebook: list[dict[str, Any]]) -> None:
    """`make notebooks` was run after the last change."""
    assert [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook] == cells_of(script)


def test_notebook_was_executed(notebook: list[dict[str, Any]]) -> None:
    """Every cell of code ran, in order and without an error or a warning, and pictures came of it."""
    code = [cell for cell in notebook if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]

    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_every_script_is_found() -> None:
    """A folder that moved is no reason to pass."""
    assert len(SCRIPTS) >= 3
