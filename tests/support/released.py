"""The last release, taken from the history of this repository, with its C kernels compiled.

A clone without history has none: `git fetch --unshallow --tags` gets it.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

import matfn
from processes import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Release", "last_release"]

ROOT: Final = Path(__file__).parents[2]
_HEADING: Final = re.compile(r"^## \[(\d+\.\d+\.\d+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Release:
    """A release, in a folder of its own."""

    version: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes Python take the release's packages in place of this tree's."""
        return {"PYTHONPATH": os.pathsep.join(str(self.folder / name) for name in ("client", "kernels", "service"))}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The release's own command line."""
        program = [sys.executable, "-P", "-c", "from matfn.cli import main; main()", *arguments]
        environment = {**os.environ, **self.environment}
        return subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=300)

    @contextmanager
    def serving(self) -> Iterator[ServerProcess]:
        """A server of the release."""
        with patch.dict(os.environ, self.environment):
            server = ServerProcess()
        try:
            yield server.started()
        finally:
            server.stop()


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)  # noqa: S607 - git, wherever it is
    return done.stdout if done.returncode == 0 else b""


def _commit_of(version: str) -> str:
    """The tag of a version, else the commit whose changelog was the first to have its section."""
    tag = f"v{version}"
    if _git("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}"):
        return tag
    is_shallow = _git("rev-parse", "--is-shallow-repository").strip() == b"true"
    found = b"" if is_shallow else _git("log", "--reverse", "--format=%H", f"-S## [{version}]", "--", "CHANGELOG.md")
    assert found, f"there is no history with matfn {version} here: git fetch --unshallow --tags"
    return found.decode().split()[0]


def last_release(folder: Path) -> Release:
    """The last release of the changelog before this tree's version, in this folder."""
    headings = _HEADING.findall((ROOT / "CHANGELOG.md").read_text())
    version = next(heading for heading in headings if heading != matfn.__version__)
    with tarfile.open(fileobj=io.BytesIO(_git("archive", _commit_of(version)))) as archive:
        archive.extractall(folder, filter="data")
    subprocess.run([sys.executable, "hatch_build.py"], cwd=folder, check=True, capture_output=True)
    return Release(version, folder)
