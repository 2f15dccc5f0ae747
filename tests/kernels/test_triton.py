"""The Triton kernels, on its interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton has no build for this machine")
@pytest.mark.timeout(180)
def test_kernels_on_the_interpreter() -> None:
    """The tests of the Triton kernels pass, in a process that chose the interpreter before importing Triton."""
    tests = Path(__file__).parents[1] / "gpu"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]

    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )

    assert done.returncode == 0, done.stdout
