"""The image is made of what the project asks for, and sets what the service would otherwise restart itself for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lock_requirements import faults, locks
from matfn_service.serve import ENVIRONMENT

DOCKERFILE = (Path(__file__).parents[2] / "Dockerfile").read_text()

PIN = "numpy==2.4.6 \\\n    --hash=sha256:" + "0" * 64 + "\n"


def found(tmp_path: Path, text: str, *requirements: str) -> list[str]:
    """The faults of a file with this text."""
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    return list(faults(path, [Requirement(line) for line in requirements]))


def test_locks_are_fresh() -> None:
    """Both files pin what pyproject.toml and constraints.txt ask for."""
    assert [fault for path, requirements in locks().items() for fault in faults(path, requirements)] == []


def test_fitting_lock_has_no_faults(tmp_path: Path) -> None:
    """Torch is not expected; extras and markers are read past."""
    assert found(tmp_path, PIN, "numpy>=1.26", "torch>=2.6") == []


@pytest.mark.parametrize(
    ("text", "requirement", "fault"),
    [
        ("", "numpy>=1.26", "numpy is missing"),
        (PIN, "numpy>=3", "numpy>=3 does not allow 2.4.6"),
        ("numpy==2.4.6\n", "numpy", "not a pin with hashes: numpy==2.4.6"),
        (
            "--index-url https://index.example\n" + PIN,
            "numpy",
            "not a pin with hashes: --index-url https://index.example",
        ),
    ],
)
def test_stale_lock_is_told(tmp_path: Path, text: str, requirement: str, fault: str) -> None:
    """What is missing, too old, without hashes or bound to an index is named."""
    assert fault in found(tmp_path, text, requirement)


def test_image_sets_what_the_process_needs() -> None:
    """The image's environment is the one that the service would start itself again for."""
    assert ENVIRONMENT.items() <= dict(re.findall(r"(\w+)=(\d+)\b", DOCKERFILE)).items()


def test_health_check_needs_no_shell() -> None:
    """The health check and the entry point are lists of arguments."""
    commands = re.findall(r"(?:CMD|ENTRYPOINT) (.)", DOCKERFILE)

    assert commands == ["["] * 3
