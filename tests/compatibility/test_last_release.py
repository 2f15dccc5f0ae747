"""The client of the last release works with this server, and this client with the server of the last release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn.check import cases, verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matfn.check import Case
    from processes import ServerProcess
    from released import Release

pytestmark = pytest.mark.timeout(400)


def test_old_client_passes_its_own_check(release: Release, new_server: ServerProcess) -> None:
    """`matfn check` of the release calls every function that it knows in every dtype, and finds all answers right."""
    done = release.run("check", "--url", new_server.url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers are right" in done.stdout


def test_old_client_reads_the_catalogue(release: Release, new_server: ServerProcess) -> None:
    """A catalogue that says more than it did is shown."""
    done = release.run("functions", "--url", new_server.url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "inv_root" in done.stdout


def test_old_client_is_refused_in_words(release: Release, new_server: ServerProcess, tmp_path: Path) -> None:
    """A problem of this server is one of the release's errors."""
    path = str(tmp_path / "a.npy")
    np.save(path, -np.eye(3))
    done = release.run("run", "inv_root", path, "--r", "4", "--url", new_server.url)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "not_positive" in done.stdout + done.stderr


def catalogue(server: ServerProcess) -> dict[str, dict[str, Any]]:
    """The functions of a server by name."""
    status, document = server.get("/v1/functions")
    assert status == 200
    return {entry["name"]: entry for entry in document["functions"]}


def test_nothing_is_gone(old_server: ServerProcess, new_server: ServerProcess) -> None:
    """Functions, their inputs, parameters, defaults, outputs and dtypes of the release are still there."""
    old, new = catalogue(old_server), catalogue(new_server)

    for name, entry in old.items():
        assert {one["name"] for one in entry["inputs"]} <= {one["name"] for one in new[name]["inputs"]}
        defaults = {one["name"]: one["default"] for one in entry["parameters"]}
        assert defaults.items() <= {one["name"]: one["default"] for one in new[name]["parameters"]}.items()
        assert set(entry["outputs"]) <= set(new[name]["outputs"])
        assert set(entry["dtypes"]) <= set(new[name]["dtypes"])


def is_known(case: Case, known: Mapping[str, dict[str, Any]]) -> bool:
    """Whether a server with these functions has all that a case asks for."""
    asked, entry = case.invocation, known.get(case.invocation.function)
    if entry is None or case.dtype not in entry["dtypes"]:
        return False
    names = {one["name"] for one in (*entry["inputs"], *entry["parameters"])}
    return {*asked.arrays, *asked.plain_params()} <= names


def test_new_client_uses_the_old_server(old_server: ServerProcess) -> None:
    """Of this version's check, every case that the old server has the function and arguments for is right there."""
    known = catalogue(old_server)
    chosen = [case for case in cases() if is_known(case, known)]
    with matfn.Client(old_server.url) as client:
        verdicts = [verdict_of(client, case) for case in chosen]

    assert {case.invocation.function for case in chosen} >= {"root", "inv_root", "msign", "tri_solve", "solve_care"}
    assert [verdict for verdict in verdicts if not verdict.right] == []


def test_function_that_the_old_server_lacks_is_named(old_server: ServerProcess) -> None:
    """A call of a new function is an error that says whose version has it not."""
    assert "log" not in catalogue(old_server)
    with matfn.Client(old_server.url) as client:
        with pytest.raises(matfn.UnknownFunction, match=r"the server is .*, this client matfn"):
            client.log(np.eye(3))
        (error,) = client.map([matfn.call.log(np.eye(3))], on_error="return")

    assert isinstance(error, matfn.UnknownFunction)
    assert "this client matfn" in str(error)
