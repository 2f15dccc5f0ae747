"""Claimed answers verified by every client, over HTTP and on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

import numpy as np
import pytest
from typer.testing import CliRunner

import matfn
from matfn.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from processes import ServerProcess

A = np.array([[2.0, 0.3], [0.3, 1.0]])
W, V = np.linalg.eigh(A)
X = (V * W**-0.25) @ V.T
"""A^(-1/4)"""
WRONG = (V * W**-0.5) @ V.T
"""A^(-1/2)"""


@pytest.fixture(params=["server", "local"])
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[matfn.Client | matfn.LocalClient]:
    """A client of a real server, and one in this process."""
    with matfn.Client(server.url) if request.param == "server" else matfn.LocalClient() as client:
        yield client


def test_right_answer_is_converged(client: matfn.Client | matfn.LocalClient) -> None:
    """The certificate says how far a right answer may be off."""
    (certificate,) = client.verify.inv_root(X, A, r=4)

    assert certificate.outcome == "converged"
    assert certificate.error_estimate is not None
    assert certificate.error_estimate < 1e-13


def test_wrong_power_is_not(client: matfn.Client | matfn.LocalClient) -> None:
    """A^(-1/2) is no answer for A^(-1/4), even where an explicit tolerance is missed: no error is raised."""
    (certificate,) = client.verify.inv_root(WRONG, A, r=4, tol=1e-6)

    assert (certificate.outcome, certificate.code) == ("approximate", "not_converged")


@pytest.mark.parametrize("phase", [1.0, 1j])
def test_eigenpairs_are_verified(client: matfn.Client | matfn.LocalClient, phase: complex) -> None:
    """Real values beside vectors of a complex matrix too; values in another order are no answer."""
    a = np.array([[2.0, 0.3 * phase], [0.3 * np.conj(phase), 1.0]])
    w, v = np.linalg.eigh(a)

    found = [client.verify.eigh(values, v, a)[0] for values in (w, w[::-1].copy())]

    assert [certificate.outcome for certificate in found] == ["converged", "approximate"]
    assert found[0].error_estimate is not None
    assert found[0].error_estimate < 1e-14


def test_many_at_once(client: matfn.Client | matfn.LocalClient) -> None:
    """Verifications are calls like others and may be sent with them."""
    calls = [matfn.verification.inv_root(X, A, r=4), matfn.verification.inv_root(WRONG, A, r=4), matfn.call.msign(A)]

    answers = client.with_info.map(calls)

    assert [answer.certificates[0].outcome for answer in answers] == ["converged", "approximate", "converged"]
    assert answers[0].value == ()


@pytest.mark.anyio
async def test_asynchronous_client_verifies(server: ServerProcess) -> None:
    """The coroutine returns the same certificates."""
    async with matfn.AsyncClient(server.url) as client:
        stack = np.stack([X, WRONG])
        found = await client.verify.inv_root(stack, A, r=4)

    assert [certificate.outcome for certificate in found] == ["converged", "approximate"]


def test_plain_http(server: ServerProcess) -> None:
    """A JSON body with inputs and claimed outputs is answered with certificates and no outputs."""
    body = json.dumps({"inputs": {"a": A.tolist(), "x": X.tolist()}, "params": {"r": 4}}).encode()
    request = Request(f"{server.url}/v1/verify/inv_root", body, {"Content-Type": "application/json"})  # noqa: S310

    with urlopen(request) as response:  # noqa: S310 - the test's own server
        answer = json.load(response)

    assert answer["outputs"] == {}
    assert [certificate["outcome"] for certificate in answer["certificates"]] == ["converged"]


NAMES: Final = [("frechet_distance", "do not tell the error"), ("nothing", "there is no function 'verify/nothing'")]


@pytest.mark.parametrize(("name", "reason"), NAMES)
def test_what_cannot_be_verified_is_unknown(server: ServerProcess, name: str, reason: str) -> None:
    """A function without verification is 404, with the reason and the names of those that have one."""
    status, problem = server.get(f"/v1/verify/{name}")

    assert (status, problem["code"]) == (404, "unknown_function")
    assert reason in problem["detail"]
    assert "verify/inv_root" in problem["hint"]
    assert "verify/frechet_distance" not in problem["hint"]


@pytest.mark.parametrize(("x", "a", "name"), [(X, np.nan * A, "a"), (np.nan * X, A, "x")])
def test_the_input_at_fault_is_named(client: matfn.Client | matfn.LocalClient, x: Any, a: Any, name: str) -> None:
    """The error says whether the claim or the matrix is not finite."""
    with pytest.raises(matfn.NotFinite, match=f"matrix 0 of {name} holds NaN"):
        client.verify.inv_root(x, a, r=4)


@pytest.mark.parametrize(("name", "reason"), NAMES)
def test_many_at_once_name_what_cannot_be_verified(server: ServerProcess, name: str, reason: str) -> None:
    """A call among many is refused in the same words, and the others are answered."""
    calls = [
        {"function": f"verify/{name}", "inputs": {"a": A.tolist(), "x": X.tolist()}},
        {"function": "verify/inv_root", "inputs": {"a": A.tolist(), "x": X.tolist()}, "params": {"r": 4}},
    ]
    body = json.dumps({"calls": calls}).encode()
    request = Request(f"{server.url}/v1/calls", body, {"Content-Type": "application/json"})  # noqa: S310

    with urlopen(request) as response:  # noqa: S310 - the test's own server
        refused, answered = json.load(response)["answers"]

    assert (refused["status"], refused["code"]) == (404, "unknown_function")
    assert reason in refused["detail"]
    assert "verify/inv_root" in refused["hint"]
    assert answered["certificates"][0]["outcome"] == "converged"


@pytest.mark.parametrize(("name", "reason"), NAMES)
@pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient, matfn.LocalClient])
def test_client_says_what_cannot_be_verified(kind: Callable[[], Any], name: str, reason: str) -> None:
    """The error is an UnknownFunction for callers and an AttributeError for hasattr, with the reason and the names."""
    verify = kind().verify

    assert not hasattr(verify, name)
    assert hasattr(verify, "inv_root")
    with pytest.raises(matfn.Unverifiable, match="verify/inv_root") as refused:
        getattr(verify, name)
    assert reason in refused.value.detail
    assert isinstance(refused.value, matfn.UnknownFunction)
    assert isinstance(refused.value, AttributeError)


@pytest.mark.parametrize(("claim", "code"), [(X, 0), (WRONG, 1)])
def test_command_exits_by_the_verdict(tmp_path: Path, claim: Any, code: int) -> None:
    """`matfn verify` prints the certificate and exits with 1 for a wrong answer."""
    np.save(tmp_path / "X.npy", claim)
    np.save(tmp_path / "A.npy", A)

    files = [str(tmp_path / "X.npy"), str(tmp_path / "A.npy")]
    found = CliRunner().invoke(app, ["verify", "inv_root", *files, "--r", "4", "--local"])

    assert found.exit_code == code, found.output
    assert ("converged" if code == 0 else "approximate") in found.output


@pytest.mark.parametrize(("values", "code"), [(W, 0), (W[::-1], 1)])
def test_command_takes_all_claimed_outputs(tmp_path: Path, values: Any, code: int) -> None:
    """`matfn verify eigh W.npy V.npy A.npy`: the outputs in their order, then the inputs."""
    files = {"W.npy": values, "V.npy": V, "A.npy": A}
    for name, array in files.items():
        np.save(tmp_path / name, array)

    found = CliRunner().invoke(app, ["verify", "eigh", *(str(tmp_path / name) for name in files), "--local"])

    assert found.exit_code == code, found.output
    assert ("converged" if code == 0 else "approximate") in found.output
