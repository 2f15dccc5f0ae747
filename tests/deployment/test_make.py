"""The first minutes with make: each target installs what it needs and says so; a Python that will not do is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from unfit_python import NEEDED

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STAGES = ["-e '.[service]'", "'matfn[test]'", "'matfn[lint]'"]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What make reads before it installs anything."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "hatch_build.py", "scripts/unfit_python.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def made(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What make says, without what the make that runs these tests has told its children."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=tree, env=environment, check=False, capture_output=True, text=True)


def planned(tree: Path, target: str) -> list[str]:
    """The commands that a target would run."""
    done = made(tree, "-n", target, f"PYTHON={sys.executable}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("target", "stages"), [("serve", 1), ("demo", 1), ("test", 2), ("wheel", 2), ("lint", 3), ("format", 3)]
)
def test_target_installs_what_it_needs(tree: Path, target: str, stages: int) -> None:
    """Service, test and lint are installed one upon the other, and none that was not asked for."""
    installations = [command for command in planned(tree, target) if "pip install" in command]

    assert [command.partition("constraints.txt ")[2] for command in installations] == [
        stage if number else f"hatchling {stage}" for number, stage in enumerate(STAGES[:stages])
    ]


def test_browser_has_its_own_environment(tree: Path) -> None:
    """The browser's tests install Playwright apart, and are no part of the whole suite."""
    commands = planned(tree, "browser")

    assert commands[-1] == ".venv-browser/bin/python -m pytest tests/browser"
    installing = [command for command in commands if "pip install" in command]
    assert len(installing) == 1
    assert installing[0].startswith(".venv-browser/")
    assert not [command for command in planned(tree, "test") if "browser" in command]


def test_installation_is_announced(tree: Path) -> None:
    """Before pip starts one line says what comes, and how large it is."""
    commands = planned(tree, "lint")

    places = [place for place, command in enumerate(commands) if "pip install" in command]
    assert all(re.search(r"Installing .*\.venv.* \d+(\.\d)? [GM]B", commands[place - 1]) for place in places)


def test_second_make_installs_nothing(tree: Path) -> None:
    """What has been installed is used again, by every target that needs no more."""
    (tree / ".venv").mkdir()
    for stamp in (".service", ".test", ".kernels"):
        (tree / ".venv" / stamp).touch()

    assert planned(tree, "serve") == [".venv/bin/matfn serve"]
    assert not [command for command in planned(tree, "test") if "pip install" in command]
    assert len([command for command in planned(tree, "lint") if "pip install" in command]) == 1


def fake(tree: Path, change: str) -> str:
    """The path of a Python that has been changed by a line of source before it reads a script."""
    path = tree / "fake-python"
    source = f"import sys, importlib.util as u; {change}; exec(open(sys.argv[1]).read())"
    path.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{source}' \"$@\"\n")
    path.chmod(0o755)
    return str(path)


OLD = 'sys.version_info, sys.version = (3, 9, 2), "3.9.2 (main)"'
BARE = 'find = u.find_spec; u.find_spec = lambda name: None if name == "ensurepip" else find(name)'


@pytest.mark.parametrize(
    ("change", "words"),
    [(OLD, r"needs Python 3\.11 or newer, and this is Python 3\.9\.2"), (BARE, r"install its venv and ensurepip")],
)
@pytest.mark.parametrize("target", ["serve", "lint", "ray"])
def test_unfit_python_is_one_sentence(tree: Path, target: str, change: str, words: str) -> None:
    """An old Python, or one without venv, is told in one line, and nothing is installed."""
    done = made(tree, target, f"PYTHON={fake(tree, change)}")

    assert done.returncode != 0
    assert done.stdout == ""
    assert re.fullmatch(rf"Makefile:\d+: \*\*\* .*{words}.*\.  Stop\.\n", done.stderr)
    assert not (tree / ".venv").exists()


def test_missing_python_is_one_sentence(tree: Path) -> None:
    """A command that is not there is told alike, with what to write instead."""
    done = made(tree, "serve", "PYTHON=python3-of-nowhere")

    assert done.returncode != 0
    assert re.fullmatch(r"Makefile:\d+: \*\*\* python3-of-nowhere does not start; .*PYTHON=.*\n", done.stderr)


def test_needed_python_is_the_projects() -> None:
    """The script and the package ask for one version."""
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, NEEDED))}"


def test_client_needs_no_command_line() -> None:
    """The client's base dependencies are numpy and msgpack; the service includes the command line."""
    names = sorted(re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"])  # type: ignore[index]

    assert names == ["msgpack", "numpy"]
    assert "matfn[cli]" in PROJECT["optional-dependencies"]["service"]
