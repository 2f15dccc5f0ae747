"""Schemathesis against a server, by the server's own OpenAPI document: all of its phases and checks.

    python benchmarks/openapi_trial.py [SECONDS]

The exit code is Schemathesis' own; schemathesis.toml says what a request that fits the schema may be answered with.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from processes import running_server

_FOLDER: Final = Path(__file__).parent
_SECONDS: Final = "180"


def main() -> int:
    """Runs it."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else _SECONDS
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run"]
    with running_server(memory=str(2 << 30)) as server:
        options = ["--max-time", seconds, "--continue-on-failure", "--no-color"]
        done = subprocess.run([*command, f"{server.url}/openapi.json", *options], cwd=_FOLDER, check=False)  # noqa: S603
        return done.returncode or (0 if server.get("/readyz")[0] == 200 else 1)  # noqa: PLR2004 - an HTTP status


if __name__ == "__main__":
    sys.exit(main())
