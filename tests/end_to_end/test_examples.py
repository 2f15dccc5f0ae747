"""Every example runs in its quick form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from processes import ServerProcess

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example_runs(server: ServerProcess, example: Path) -> None:
    """It ends well and prints something, without a warning."""
    command = [sys.executable, "-W", "error", str(example), "--quick"]

    done = subprocess.run(
        command, env=os.environ | {"MATFN_URL": server.url}, check=False, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr == ""
