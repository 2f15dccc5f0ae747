"""The examples of README.md and docs/ run as they stand: Python blocks alone, and commands of `matfn`."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgpack
import pytest

if TYPE_CHECKING:
    from forked_python import ForkedPython
    from processes import ServerProcess

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "parts")]
"""Parts are repeated in the pages of the functions."""

pytestmark = pytest.mark.timeout(120)


def blocks(language: str) -> dict[str, str]:
    """The blocks of a language in all pages, by page and line."""
    found = {}
    for page in PAGES:
        text = page.read_text()
        for block in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            found[f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 1}"] = block[1]
    return found


PYTHON = blocks("python")


def matfn_commands(block: str) -> set[str]:
    """The commands of `matfn` in a block, without their comments."""
    return {line.partition(" #")[0].rstrip() for line in block.splitlines() if line.startswith("matfn ")}


SHELL = blocks("sh")
COMMANDS = {
    place: block
    for place, block in SHELL.items()
    if matfn_commands(block) and not any(matfn_commands(block) < matfn_commands(other) for other in SHELL.values())
}
"""Blocks with commands of `matfn`, but for those whose commands are all in a longer block."""


@pytest.fixture
def environment(server: ServerProcess, tmp_path: Path) -> dict[str, str]:
    """MATFN_URL names the server; `python` and `matfn` are the tests' own."""
    matfn = tmp_path / "bin" / "matfn"
    matfn.parent.mkdir()
    matfn.write_text(f"#!{sys.executable}\nfrom matfn.__main__ import main\nmain()\n")
    matfn.chmod(0o755)
    path = os.pathsep.join([str(matfn.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"MATFN_URL": server.url, "PATH": path}


@pytest.mark.parametrize("place", PYTHON)
def test_python_block_runs(python: ForkedPython, environment: dict[str, str], tmp_path: Path, place: str) -> None:
    """Each block is complete, and runs without an error or a warning."""
    done = python.run(PYTHON[place], folder=tmp_path, environment=environment)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("place", COMMANDS)
def test_commands_run(environment: dict[str, str], tmp_path: Path, place: str) -> None:
    """The commands of a block run one after the other; `matfn serve` is running already."""
    commands = re.sub(r"^matfn serve( +#.*)?$", "", COMMANDS[place], flags=re.MULTILINE)
    command = ["bash", "-euo", "pipefail", "-c", commands]

    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "matfn serve" not in commands


CURLS = {place: block for place, block in SHELL.items() if re.search(r"^curl ", block, re.MULTILINE)}


@pytest.mark.parametrize("place", CURLS)
def test_requests_of_curl_are_answered(server: ServerProcess, place: str) -> None:
    """What a command of curl would send is answered with 200."""
    parser = ArgumentParser()
    parser.add_argument("url", type=urlsplit)
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-sf", action="store_true")
    text = CURLS[place].partition(" |\n")[0].replace("\\\n", " ")
    command = parser.parse_args(shlex.split(text)[1:])
    connection = HTTPConnection(*server.address, timeout=30)
    connection.request("POST", command.url.path, command.d, dict(header.split(": ", 1) for header in command.H))
    response = connection.getresponse()

    assert response.status == 200, response.read()
    connection.close()


def test_examples_are_found() -> None:
    """The README has blocks of both kinds, so that a renamed one is not passed over."""
    assert sum(place.startswith("README") for place in PYTHON) >= 2
    assert sum(place.startswith("README") for place in COMMANDS) == 1
    assert len(CURLS) >= 4


def test_examples_of_the_schema_are_answered(server: ServerProcess) -> None:
    """Each call that /openapi.json gives as an example is answered, in JSON and in msgpack."""
    paths = server.get("/openapi.json")[1]["paths"]
    posted = {
        path.format(model="msign", version="1", function="inv_root"): item["post"]
        for path, item in paths.items()
        if "post" in item
    }
    contents = {path: post["requestBody"]["content"] for path, post in posted.items() if "requestBody" in post}
    sent = [
        (path, media, json.dumps(one["example"]).encode() if media.endswith("json") else msgpack.packb(one["example"]))
        for path, content in contents.items()
        for media, one in content.items()
    ]
    connection = HTTPConnection(*server.address, timeout=30)
    found = {}
    for path, media, body in sent:
        connection.request("POST", path, body, {"Content-Type": media})
        response = connection.getresponse()
        found[path, media] = response.status, b"problem" in response.read()
    connection.close()

    assert len(found) > 60
    assert set(found.values()) == {(200, False)}
