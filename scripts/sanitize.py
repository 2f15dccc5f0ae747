"""Runs the tests of the kernels in C with AddressSanitizer and UndefinedBehaviorSanitizer.

The library is compiled for this run alone, into a temporary folder. Gaps between the buffers of a workspace are
poisoned, and allocations are counted: tests let each of them fail. Needs gcc and its libasan.

    python scripts/sanitize.py                 # all tests, about ten minutes
    python scripts/sanitize.py -k low_rank     # arguments are pytest's
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from hatch_build import LIBRARY, NotBuilt, compile_library  # noqa: E402 - from the root

FLAGS: Final = (
    *("-O1", "-g", "-fno-omit-frame-pointer", "-DMATFN_COUNTED"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
TESTS: Final = tuple(
    f"tests/kernels/test_native{part}.py" for part in ("_calls", "_allocation", "_low_rank", "_polar", "")
)
PYTEST: Final = ("-q", "-p", "no:cacheprovider", "--timeout=600", "--capture=sys")
"""What the sanitizers say before they end the process goes to the terminal, past pytest's capture."""
OPTIONS: Final = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",  # Python's own leaks; the library's are counted
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def main(*arguments: str) -> int:
    """Compiles, runs the tests and returns what pytest returns."""
    with TemporaryDirectory() as folder:
        library = Path(folder, LIBRARY)
        try:
            compile_library(library, *FLAGS)
        except NotBuilt as reason:
            print(f"matfn: {reason}", file=sys.stderr)
            return 1
        command = [sys.executable, "-m", "pytest", *PYTEST, f"--library={library}", *TESTS, *arguments]
        environment = os.environ | OPTIONS | {"LD_PRELOAD": _preloaded()}
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _preloaded() -> str:
    """The sanitizers' runtime, which must come first, and that of C++, whose exceptions it looks for when it starts."""
    compiler = os.environ.get("CC", "cc").split()
    names = ("libasan.so", "libstdc++.so.6")
    found = [subprocess.check_output([*compiler, f"-print-file-name={name}"], text=True).strip() for name in names]
    return ":".join(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
