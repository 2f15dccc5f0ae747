"""The programs of docs/http.md in other languages run as they stand, against a real server.

`make languages` runs them for the languages that LANGUAGES names, whose runtimes must be installed.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from processes import ServerProcess

ROOT = Path(__file__).parents[2]
WRITTEN = "http://127.0.0.1:8000"
"""The server that the programs name."""
RUNTIMES = {
    "sh": ["bash", "-euo", "pipefail", "-c"],
    "javascript": ["node", "--input-type=module", "--eval"],
    "r": ["Rscript", "--vanilla", "-e"],
    "julia": ["julia", "--startup-file=no", "-e"],
}
LANGUAGES = os.environ.get("LANGUAGES", "sh javascript").split()


def programs() -> dict[str, tuple[str, str]]:
    """Language and text of each program that names the server, by language and line."""
    text = (ROOT / "docs" / "http.md").read_text()
    found = {}
    for block in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if block[1] in LANGUAGES and WRITTEN in block[2]:
            found[f"{block[1]}:{text.count(chr(10), 0, block.start()) + 1}"] = (block[1], block[2])
    return found


PROGRAMS = programs()


@pytest.mark.parametrize("place", PROGRAMS)
def test_program_runs(server: ServerProcess, place: str) -> None:
    """Each program ends well and prints something, and complains of nothing."""
    language, text = PROGRAMS[place]

    done = subprocess.run(
        [*RUNTIMES[language], text.replace(WRITTEN, server.url)], check=False, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != ""
    assert done.stderr == ""


def test_every_language_has_a_program() -> None:
    """A language that is asked for is one of the page's."""
    assert {language for language, _ in PROGRAMS.values()} == set(LANGUAGES)
