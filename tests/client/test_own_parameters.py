"""Parameters as arrays, by every client, over HTTP and on the command line."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import matfn
import matfn.torch
from matfn.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processes import ServerProcess

A: Final = np.array([[[2.0, 0.3], [0.3, 1.0]], [[3.0, 0.0], [0.0, 0.5]], [[1.0, 0.1], [0.1, 4.0]]])
P: Final = [0.5, -1.0, 2.0]


@pytest.fixture(params=["server", "local"])
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[matfn.Client | matfn.LocalClient]:
    """A client of a real server, and one in this process."""
    with matfn.Client(server.url) if request.param == "server" else matfn.LocalClient() as client:
        yield client


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda p: np.array(p, np.float32)])
def test_each_matrix_has_its_own_exponent(kind: Any, client: matfn.Client | matfn.LocalClient) -> None:
    """Of any kind of array, with the bits of single calls."""
    found = client.power(A, kind(P))

    assert all(np.array_equal(x, client.power(a, p)) for x, a, p in zip(found, A, P, strict=True))


def test_arrays_broadcast_and_are_stacked(client: matfn.Client | matfn.LocalClient) -> None:
    """Over the matrices of a call, and call by call in `map`."""
    wide = client.exp(A, t=[[1], [2]])
    mapped = client.map([matfn.call.power(A, P), matfn.call.power(A, P[::-1]), matfn.call.power(A[0], P)])

    assert wide.shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(wide[1], client.exp(A, t=2.0))
    np.testing.assert_array_equal(mapped[1], client.power(A, P[::-1]))
    np.testing.assert_array_equal(mapped[2][1], client.power(A[0], -1.0))


def test_the_asynchronous_client_takes_arrays(server: ServerProcess) -> None:
    """As the others do."""

    async def asked() -> Any:
        async with matfn.AsyncClient(server.url) as client:
            return await client.geometric_mean(A, A[::-1].copy(), t=[0.0, 0.5, 1.0])

    found = asyncio.run(asked())

    np.testing.assert_array_equal(found[0], A[0])
    np.testing.assert_array_equal(found[2], A[0])


def test_gradients_are_summed_over_what_was_broadcast(client: matfn.Client | matfn.LocalClient) -> None:
    """One matrix to several exponents has one gradient, as autograd expects."""
    a = torch.tensor(A[0], requires_grad=True)
    matfn.torch.power(a, P, client=client).sum().backward()  # type: ignore[no-untyped-call]
    parts = client.vjp.power(np.ones((3, 2, 2)), A[0], P).a

    assert a.grad is not None
    np.testing.assert_allclose(a.grad.numpy(), parts.sum(0), rtol=1e-14)


def test_transforms_add_their_dimension_first() -> None:
    """`torch.func.vmap` maps the matrices, not their exponents."""
    found = torch.func.vmap(lambda a: matfn.torch.power(a, P))(torch.tensor(A[:2]))

    assert found.shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(found[1, 0].numpy(), matfn.torch.power(torch.tensor(A[1]), 0.5).numpy())


@pytest.mark.parametrize(
    ("p", "code", "index"),
    [([1, 2], "invalid_shape", None), ([1, 2, 99], "invalid_parameter", 2), (["a"] * 3, "invalid_parameter", None)],
)
def test_wrong_arrays_are_refused(p: Any, code: str, index: int | None, server: ServerProcess) -> None:
    """In the words of the kernels, with the place of a number outside of its domain."""
    with matfn.Client(server.url) as client, pytest.raises(matfn.ProblemError) as refused:
        client.power(A, p)

    assert (refused.value.code, refused.value.index) == (code, index)


def test_an_array_that_needs_a_gradient_is_refused() -> None:
    """No function is differentiated in a parameter: its gradient would be lost in silence."""
    with pytest.raises(matfn.UnsupportedArray):
        matfn.torch.power(torch.tensor(A), torch.tensor(P, requires_grad=True))


def _posted(url: str, params: dict[str, Any]) -> tuple[int, Any]:
    body = json.dumps({"inputs": {"a": A.tolist()}, "params": params}).encode()
    request = Request(f"{url}/v1/power", body, {"Content-Type": "application/json"})  # noqa: S310 - our own server
    try:
        with urlopen(request) as response:  # noqa: S310 - likewise
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def test_params_hold_lists_and_tensors(server: ServerProcess) -> None:
    """Nested lists in JSON, or the map of a tensor, as inputs do."""
    tensor = {"dtype": "float64", "shape": [3], "data": "AAAAAAAA4D8AAAAAAADwvwAAAAAAAABA"}

    listed, mapped = (_posted(server.url, {"p": p}) for p in (P, tensor))

    assert listed[0] == 200
    assert mapped[1]["outputs"] == listed[1]["outputs"]


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"p": [1, [2, 3], 4]}, 400, "malformed"),
        ({"p": [1, None, 2]}, 422, "invalid_parameter"),
        ({"p": [1, 2, 3], "shift": [1, -1, 1]}, 422, "invalid_parameter"),
        ({"p": 2, "structure": [1, 2, 3]}, 422, "invalid_parameter"),
    ],
)
def test_malformed_params_are_refused(params: dict[str, Any], status: int, code: str, server: ServerProcess) -> None:
    """Ragged lists are malformed; numbers outside of a domain are invalid."""
    found, problem = _posted(server.url, params)

    assert (found, problem["code"]) == (status, code)


def test_the_catalogue_says_what_may_be_an_array(server: ServerProcess) -> None:
    """`varies` in GET /v1/functions."""
    with matfn.Client(server.url) as client:
        (power,) = (entry for entry in client.functions()["functions"] if entry["name"] == "power")

    assert {p["name"] for p in power["parameters"] if p["varies"]} == {"p", "shift", "damping"}


@pytest.mark.parametrize("given", ["0.5,-1,2", "p.npy"])
def test_the_command_line_takes_lists_and_files(given: str, tmp_path: Path) -> None:
    """Numbers with commas between them, or a .npy file."""
    np.save(tmp_path / "A.npy", A)
    np.save(tmp_path / "p.npy", P)
    p = tmp_path / given if given.endswith(".npy") else given

    result = CliRunner().invoke(
        app, ["run", "power", str(tmp_path / "A.npy"), "--p", str(p), "--local", "-o", str(tmp_path / "X.npy")]
    )

    assert result.exit_code == 0, result.output
    with matfn.LocalClient() as client:
        np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), client.power(A, P))
