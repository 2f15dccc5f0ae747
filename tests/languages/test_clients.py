"""The clients of a page in other languages: they give the answers of the Python client, and its words for problems."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import ServerProcess

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "examples" / "clients"
KEY = "s3cret"
MATRICES = np.load(ROOT / "demo" / "matrices.npz")
OCTAVE = """
addpath('{folder}');
inputs = struct(); params = struct();
{fill}
answer = matfn('{function}', inputs, params);
fields = fieldnames(answer.outputs);
for i = 1:numel(fields)
  x = answer.outputs.(fields{{i}});
  if iscolumn(x), x = x'; end
  dlmwrite(stdout, x, 'precision', '%.17g');
end
"""


@dataclass(frozen=True)
class Case:
    """A call with matrices of the demo."""

    function: str
    inputs: dict[str, str]
    params: dict[str, Any]


CASES = [
    Case("inv_root", {"a": "shampoo_l_step20"}, {"r": 4, "damping": 1e-6}),
    Case("msign", {"m": "momentum_q_step20"}, {}),
    Case("mclip", {"m": "momentum_q_step20"}, {"hi": 0.5}),
    Case("sqrt_pair", {"a": "digits_covariance"}, {"damping": "range"}),
    Case("power", {"a": "digits_covariance"}, {"p": 0.3}),
    Case("tri_inv", {"t": "digits_covariance"}, {"unit_diagonal": True}),
    Case("eigh", {"a": "digits_covariance"}, {}),
    Case("norm2", {"m": "fid_cov_a"}, {}),
]


@pytest.fixture(scope="module")
def keyed() -> Iterator[ServerProcess]:
    """A server that asks for a key."""
    with running_server(api_keys=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def client(keyed: ServerProcess) -> Iterator[matfn.Client]:
    """The Python client of that server."""
    with matfn.Client(keyed.url, api_key=KEY) as client:
        yield client


def command(language: str, case: Case, files: dict[str, Path]) -> list[str]:
    """The command that prints the outputs of a call."""
    words = [f"{name}={path}" for name, path in files.items()]
    words += [f"{name}={str(value).lower() if value is True else value}" for name, value in case.params.items()]
    if language == "javascript":
        return ["node", str(CLIENTS / "matfn.mjs"), case.function, *words]
    if language == "r":
        return ["Rscript", str(CLIENTS / "matfn.R"), case.function, *words]
    fill = [f"inputs.{name} = csvread('{path}');" for name, path in files.items()]
    fill += [f"params.{name} = {_in_octave(value)};" for name, value in case.params.items()]
    program = OCTAVE.format(folder=CLIENTS, fill="\n".join(fill), function=case.function)
    return ["octave", "--no-gui", "--quiet", "--eval", program]


def _in_octave(value: object) -> str:
    return "true" if value is True else repr(value)


def said(keyed: ServerProcess, line: list[str]) -> subprocess.CompletedProcess[str]:
    """What the command prints, with the address and the key in its environment."""
    environment = {**os.environ, "MATFN_URL": keyed.url, "MATFN_API_KEY": KEY}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment, timeout=60)


def saved(folder: Path, case: Case) -> tuple[dict[str, Path], dict[str, np.ndarray]]:
    """The inputs of a case as files of float64 numbers, and as arrays."""
    arrays = {name: MATRICES[stored].astype(np.float64) for name, stored in case.inputs.items()}
    for name, array in arrays.items():
        np.savetxt(folder / f"{name}.csv", array, delimiter=",", fmt="%.17g")
    return {name: folder / f"{name}.csv" for name in arrays}, arrays


@pytest.mark.parametrize("language", ["javascript", "r", "octave"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.function)
def test_numbers_are_those_of_the_python_client(
    keyed: ServerProcess, client: matfn.Client, tmp_path: Path, case: Case, language: str
) -> None:
    """Every output, to all digits: the same service has computed it, and each language read the same bits."""
    files, arrays = saved(tmp_path, case)
    expected = getattr(client, case.function)(*arrays.values(), **case.params)
    outputs = expected if isinstance(expected, tuple) else (expected,)
    rows = [row for output in outputs for row in np.atleast_2d(output)]

    done = said(keyed, command(language, case, files))

    lines = done.stdout.split()
    assert len(lines) == len(rows), done.stderr
    for line, row in zip(lines, rows, strict=True):
        # R may read the decimals of a file to another last bit
        assert np.array([float(number) for number in line.split(",")]) == pytest.approx(row, rel=1e-14, abs=0)


@pytest.mark.parametrize("language", ["javascript", "r", "octave"])
def test_refusal_is_told_in_words(keyed: ServerProcess, tmp_path: Path, language: str) -> None:
    """The code, what was given, and what to do."""
    np.savetxt(tmp_path / "a.csv", -np.eye(3), delimiter=",")

    done = said(keyed, command(language, Case("inv_root", {}, {"r": 2}), {"a": tmp_path / "a.csv"}))

    assert done.returncode != 0
    assert "not_positive" in done.stderr
    assert "eig_clip" in done.stderr


@pytest.mark.parametrize("language", ["javascript", "r", "octave"])
def test_key_is_sent(keyed: ServerProcess, tmp_path: Path, language: str) -> None:
    """Without it the server says that it wants one."""
    files, _ = saved(tmp_path, CASES[-1])
    environment = {**os.environ, "MATFN_URL": keyed.url, "MATFN_API_KEY": ""}

    line = command(language, CASES[-1], files)
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment, timeout=60)

    assert "unauthorized" in done.stderr
