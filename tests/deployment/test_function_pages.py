"""The pages of the functions are those of the catalogue, and their hand-written parts are of functions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import generate_function_pages as pages
from matfn_kernels import FUNCTIONS

ROOT = Path(__file__).parents[2]
PARTS = sorted(pages.PARTS.glob("*.md"))


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script's output and status."""
    command = [sys.executable, "scripts/generate_function_pages.py", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def test_pages_are_up_to_date() -> None:
    """Every function of the catalogue has its page as the script writes it, and there are no others."""
    done = ran("--check")

    assert (done.returncode, done.stdout) == (0, "")


def test_functions_without_a_part_are_listed() -> None:
    """A function may lack a hand-written part; the script says which do."""
    listed = ran("--missing").stdout.split()

    assert set(listed) == set(FUNCTIONS) - {path.stem for path in PARTS}


@pytest.mark.parametrize("part", PARTS, ids=lambda path: path.stem)
def test_part_belongs_to_a_function(part: Path) -> None:
    """A part has the name of a function, an example that calls it, and sections without a title."""
    text = part.read_text()
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)

    assert part.stem in FUNCTIONS
    assert any(f".{part.stem}(" in example for example in examples)
    assert text.startswith("## ")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_page_names_what_the_catalogue_has(name: str) -> None:
    """A page has every input, parameter, method and error of its function."""
    text = pages.page(FUNCTIONS[name])
    function = FUNCTIONS[name]
    named = [one.name for one in function.inputs] + [one.name for one in function.parameters]
    named += [*function.methods, *function.errors]

    assert [one for one in named if f"`{one}`" not in text] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_page_has_measured_accuracy_and_cost(name: str) -> None:
    """Each function has rows in the tables of true errors and of prices, by dtype."""
    dtypes = ["float16", "bfloat16", "float32", "float64", *(["complex64"] if FUNCTIONS[name].complex_ok else [])]
    text = pages.accuracy(name)

    assert [dtype for dtype in dtypes if f"| {dtype} |" not in text] == []
    assert "| float32 | 1024 |" in pages.cost(name)


def test_errors_are_within_their_estimates() -> None:
    """No cell of the table has an error above its estimate."""
    cells = re.findall(r"(\d\S*) \((\d\S*?)[;)]", (pages.RESULTS / "accuracy.md").read_text())

    assert len(cells) > 400
    assert [cell for cell in cells if float(cell[0]) > float(cell[1])] == []


GUARANTEES = {"bound": "proof", "estimate": "estimate", "none": "estimate"}
INTERVALS = {"norm2", "cond"}


def test_readme_says_what_is_guaranteed() -> None:
    """README has a row for every function, linked to its page, with what the catalogue says of its certificate."""
    rows = re.findall(r"^\| (\[`.*) \| ([a-z]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    said = {name: words for cells, words in rows for name in re.findall(r"\]\(docs/functions/(\w+)\.md\)", cells)}

    assert said == {
        name: "interval" if name in INTERVALS else GUARANTEES[function.verifiability]
        for name, function in FUNCTIONS.items()
    }


def test_peers_are_of_functions_that_may_come() -> None:
    """Each line of the peers is a name and what has it."""
    lines = [line for line in pages.PEERS.read_text().splitlines() if not line.startswith("#")]

    assert all(re.fullmatch(r"[a-z0-9_]+: \S.*", line) for line in lines)
