"""The unit for systemd: it is well formed, sets what there is, and its command serves and stops."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import matfn
from matfn_service.settings import Settings

UNIT = Path(__file__).parents[2] / "docker" / "systemd" / "matfn.service"
LINES = [line.partition("=") for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
ANALYZE = shutil.which("systemd-analyze") or "/usr/bin/systemd-analyze"
COMMAND = "/opt/matfn/bin/matfn"


def values(name: str) -> list[str]:
    """What the unit has under a name."""
    return [value for key, _, value in LINES if key == name]


@pytest.mark.skipif(not Path(ANALYZE).exists(), reason="systemd is not installed")
def test_unit_is_well_formed(tmp_path: Path) -> None:
    """The unit has no fault that systemd finds, once its command exists."""
    copy = tmp_path / "matfn.service"
    copy.write_text(UNIT.read_text().replace(COMMAND, sys.executable))

    command = [ANALYZE, "verify", "--man=no", str(copy)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_unit_sets_what_there_is() -> None:
    """Every variable is a setting, and systemd waits longer than the drain."""
    environment = dict(entry.split("=", 1) for entry in values("Environment"))

    assert set(environment) <= {f"MATFN_{name.upper()}" for name in Settings.model_fields}
    assert int(values("TimeoutStopSec")[0]) > float(environment["MATFN_DRAIN_SECONDS"])


def test_units_command_serves_and_drains(tmp_path: Path) -> None:
    """The command, with its environment, answers on the socket to who has a key, and ends with 0 after SIGTERM."""
    (tmp_path / "api_keys").write_text("k3y\n")
    (tmp_path / "matfn").mkdir()
    places = {"%t": str(tmp_path), "%C": str(tmp_path), "%d": str(tmp_path)}

    def placed(text: str) -> str:
        for specifier, place in places.items():
            text = text.replace(specifier, place)
        return text

    own = dict(placed(entry).split("=", 1) for entry in values("Environment"))
    arguments = shlex.split(placed(values("ExecStart")[0]).removeprefix(COMMAND))
    program = [sys.executable, "-c", "from matfn.cli import main; main()", *arguments]
    running = subprocess.Popen(program, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        next(line for line in running.stderr if '"listening"' in line)
        with matfn.Client(f"unix://{tmp_path}/matfn/matfn.sock", api_key="k3y") as client:
            assert client.msign([[-2.0]])[0][0] == pytest.approx(-1.0)
        running.send_signal(signal.SIGTERM)
        running.stderr.read()
        assert running.wait(40) == 0
    finally:
        running.kill()
        running.wait()
        running.stderr.close()  # type: ignore[union-attr]
