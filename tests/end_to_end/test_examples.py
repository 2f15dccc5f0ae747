"""Every example runs in its quick form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from forked_python import ForkedPython
    from processes import ServerProcess

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example_runs(python: ForkedPython, server: ServerProcess, tmp_path: Path, example: Path) -> None:
    """It ends well and prints something, without a warning."""
    environment = os.environ | {"MATFN_URL": server.url}

    done = python.run(example.read_text(), str(example), "--quick", folder=tmp_path, environment=environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr == ""
