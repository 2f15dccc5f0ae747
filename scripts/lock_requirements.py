"""Pins what the image is made of, with hashes, under docker/; --check compares with pyproject.toml and constraints.txt.

torch is left out, with what only its CUDA build needs: which build it is, is the Dockerfile's choice. Versions that are
pinned already stay; `--upgrade` takes newer ones.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
CONSTRAINTS: Final = ROOT / "constraints.txt"

_HEADER: Final = "# Written by scripts/lock_requirements.py.\n"
_LEFT_OUT: Final = re.compile(r"(torch|triton|cuda-.*|nvidia-.*)")
_PIN: Final = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?P<hashes>( \\\n    --hash=sha256:[0-9a-f]{64})+)\n", re.MULTILINE
)
_PLATFORM: Final = ("--python-version=3.11", "--python-platform=linux")


def locks() -> dict[Path, list[Requirement]]:
    """The files to write, and what is installed from each: the image's extra, and what builds them."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    building = [*document["build-system"]["requires"], *document["dependency-groups"]["image"]]
    return {
        ROOT / "docker" / "requirements.txt": list(_of_extra(document["project"], "image")),
        ROOT / "docker" / "build-requirements.txt": list(map(Requirement, building)),
    }


def _of_extra(project: dict[str, Any], extra: str) -> Iterator[Requirement]:
    """The base requirements and the extra's, those of the extras that it includes in their place."""
    yield from map(Requirement, project["dependencies"])
    for requirement in map(Requirement, project["optional-dependencies"][extra]):
        if requirement.name == project["name"]:
            for included in requirement.extras:
                yield from _of_extra(project, included)
        else:
            yield requirement


def lock(path: Path, requirements: list[Requirement], options: list[str]) -> None:
    """Resolves the requirements for the image's Python and writes the file."""
    command = [
        "uv",
        "pip",
        "compile",
        "-",
        f"--output-file={path}",
        f"--constraints={CONSTRAINTS}",
        "--generate-hashes",
    ]
    subprocess.run(
        [*command, *_PLATFORM, "--no-header", "--no-annotate", "--quiet", *options],
        input="\n".join(map(str, requirements)),
        text=True,
        check=True,
    )
    pins = [pin.group() for pin in _PIN.finditer(path.read_text()) if not _LEFT_OUT.fullmatch(pin["name"])]
    path.write_text(_HEADER + "".join(pins))


def faults(path: Path, requirements: list[Requirement]) -> Iterator[str]:
    """What in this file is no pin with hashes, or is not what the project asks for."""
    text = path.read_text().removeprefix(_HEADER)
    if rest := _PIN.sub("", text).strip():
        yield f"not a pin with hashes: {rest.splitlines()[0]}"
    pins = {pin["name"]: pin["version"] for pin in _PIN.finditer(text)}
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if name not in pins and not _LEFT_OUT.fullmatch(name):
            yield f"{name} is missing"
    constraints = [Requirement(line) for line in CONSTRAINTS.read_text().splitlines() if line and line[0] != "#"]
    for rule in [*requirements, *constraints]:
        version = pins.get(canonicalize_name(rule.name))
        if version is not None and version not in rule.specifier:
            yield f"{rule} does not allow {version}"


def main() -> int:
    """Writes the files, or says that they are stale."""
    if "--check" not in sys.argv[1:]:
        for path, requirements in locks().items():
            lock(path, requirements, sys.argv[1:])
        return 0
    found = [f"{path.name}: {fault}" for path, requirements in locks().items() for fault in faults(path, requirements)]
    for fault in found:
        print(f"{fault}: run scripts/lock_requirements.py")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
