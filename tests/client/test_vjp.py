"""Gradients by every client and over HTTP, in msgpack and in JSON."""

from __future__ import annotations

import asyncio
import json
import warnings
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch

import matfn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import ServerProcess

A: Final = np.array([[2.0, 0.3], [0.3, 1.0]])
X: Final = np.array([[1.0, -2.0], [0.5, 3.0]])
G: Final = np.array([[1.0, 2.0]])


def _truth(a: np.ndarray[Any, Any], cotangent: np.ndarray[Any, Any], exponent: float) -> np.ndarray[Any, Any]:
    """The gradient of a power by its divided differences."""
    w, v = np.linalg.eigh(a)
    f, gap = w**exponent, w[:, None] - w[None, :]
    with np.errstate(invalid="ignore"):
        first = np.where(gap == 0, exponent * w ** (exponent - 1), (f[:, None] - f[None, :]) / gap)
    found: np.ndarray[Any, Any] = v @ (first * (v.T @ (cotangent + cotangent.T) @ v / 2)) @ v.T
    return found


@pytest.fixture(params=["server", "local"])
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[matfn.Client | matfn.LocalClient]:
    """A client of a real server, and one in this process."""
    with matfn.Client(server.url) if request.param == "server" else matfn.LocalClient() as client:
        yield client


def test_gradients_have_the_names_of_inputs(client: matfn.Client | matfn.LocalClient) -> None:
    """A named tuple has the gradient of each input that is given, and None for the others."""
    plain = client.vjp.inv_root(X, A, r=4)
    multiplied = client.vjp.inv_root(X[:1], A, 4, g=G)

    assert plain.g is None
    np.testing.assert_allclose(plain.a, _truth(A, X, -1 / 4), rtol=1e-13)
    assert multiplied._fields == ("a", "g")
    assert multiplied.g is not None
    np.testing.assert_allclose(multiplied.a, _truth(A, G.T @ X[:1], -1 / 4), rtol=1e-13)
    np.testing.assert_allclose(multiplied.g, X[:1] @ client.inv_root(A, r=4), rtol=1e-13)


def test_certificates_come_with_info(client: matfn.Client | matfn.LocalClient) -> None:
    """With information the gradients have a certificate a matrix, of the gradients."""
    answer = client.with_info.vjp.msign(np.stack([X, X]), np.stack([A, 2 * A]))

    assert [certificate.outcome for certificate in answer.certificates] == ["converged", "converged"]
    np.testing.assert_allclose(answer.value.m[1], answer.value.m[0] / 2, rtol=1e-13)


def test_cotangent_that_is_none_is_zero(client: matfn.Client | matfn.LocalClient) -> None:
    """Of two outputs one may have no cotangent."""
    (found,) = client.vjp.sqrt_pair(None, X, A)

    np.testing.assert_allclose(found, _truth(A, X, -1 / 2), rtol=1e-13)


def test_kind_and_dtype_are_those_of_the_inputs(client: matfn.Client | matfn.LocalClient) -> None:
    """Tensors of torch come back as tensors of their dtype."""
    a, x = torch.tensor(A, dtype=torch.float32), torch.tensor(X, dtype=torch.float32)

    found = client.vjp.root(x, a, 2).a

    assert isinstance(found, torch.Tensor)
    assert found.dtype is torch.float32
    np.testing.assert_allclose(found.numpy(), _truth(a.double().numpy(), x.double().numpy(), 1 / 2), rtol=1e-6)


def test_many_at_once(client: matfn.Client | matfn.LocalClient) -> None:
    """Vector-Jacobian products are calls like others: stacked where they are alike, and sent with others."""
    calls = [matfn.gradient.root(X, A * scale, 2) for scale in (1.0, 2.0, 3.0)]

    mixed: list[matfn.Invocation[Any]] = [*calls, matfn.call.msign(A)]
    *found, sign = client.map(mixed)

    for scale, gradients in zip((1.0, 2.0, 3.0), found, strict=True):
        np.testing.assert_allclose(gradients.a, _truth(A * scale, X, 1 / 2), rtol=1e-12)
    np.testing.assert_allclose(sign, np.eye(2), atol=1e-14)


def test_asynchronous_client(server: ServerProcess) -> None:
    """An asynchronous client has the same functions, with and without information."""

    async def both() -> tuple[Any, Any]:
        async with matfn.AsyncClient(server.url) as client:
            return await client.vjp.root(X, A, 2), await client.with_info.vjp.root(X, A, 2)

    plain, answer = asyncio.run(both())

    np.testing.assert_array_equal(plain.a, answer.value.a)
    assert answer.certificates[0].outcome == "converged"


def test_number_is_the_cotangent_of_a_number(client: matfn.Client | matfn.LocalClient) -> None:
    """The cotangent of a distance has no dimensions, or the leading ones of the call."""
    mean, other = np.zeros(2), np.ones(2)

    one = client.vjp.frechet_distance(np.array(1.5), mean, A, other, A)
    two = client.vjp.frechet_distance(np.array([1.5, 3.0]), mean, A, other, A)

    np.testing.assert_allclose(one.mu1, -3 * other, rtol=1e-15)
    np.testing.assert_allclose(two.mu1, [-3 * other, -6 * other], rtol=1e-15)
    np.testing.assert_allclose(two.s2, 0, atol=1e-14)


def test_approximate_gradient_warns(client: matfn.Client | matfn.LocalClient) -> None:
    """A gradient where there is no derivative comes with a warning."""
    with pytest.warns(matfn.ApproximateWarning, match="bound") as caught:
        client.vjp.eig_clip(X, np.eye(2), hi=1.0)

    assert caught[0].filename == __file__


def test_gradient_of_a_constant_does_not_warn(client: matfn.Client | matfn.LocalClient) -> None:
    """The squared norm of a polar factor has the gradient 0, up to rounding and without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = client.vjp.msign(2 * client.msign(X), X)

    np.testing.assert_allclose(found, 0, atol=1e-14)


def test_function_without_gradients_names_those_that_have_them(client: matfn.Client | matfn.LocalClient) -> None:
    """A name that is no method is explained, also to `getattr`."""
    with pytest.raises(matfn.NotDifferentiable, match=r"no gradients of mcsgn.*vjp/msign"):
        client.vjp.mcsgn  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(matfn.NotDifferentiable, match="no function 'vjp/nonsense'"):
        client.with_info.vjp.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_wrong_cotangents_are_typed_errors(client: matfn.Client | matfn.LocalClient) -> None:
    """Shapes of cotangents are checked against the inputs, and one of them has to be given."""
    with pytest.raises(matfn.InvalidShape, match="x has shape"):
        client.vjp.root(np.eye(3), A, 2)
    with pytest.raises(matfn.InvalidParameter, match="cotangent"):
        client.vjp.sqrt_pair(None, None, A)


def _posted(server: ServerProcess, route: str, body: object) -> tuple[int, dict[str, Any]]:
    request = Request(f"{server.url}{route}", json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urlopen(request) as response:  # noqa: S310
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def test_json_has_outputs_and_gradients(server: ServerProcess) -> None:
    """A call with cotangents is answered with the function's outputs, a gradient an input, and certificates."""
    body = {"inputs": {"a": A.tolist()}, "cotangents": {"x": X.tolist()}, "params": {"r": 2}}

    status, answer = _posted(server, "/v1/vjp/root", body)

    assert (status, list(answer["outputs"]), list(answer["gradients"])) == (200, ["x"], ["a"])
    root, gradient = (
        np.frombuffer(b64decode(tensor["data"])).reshape(tensor["shape"])
        for tensor in (answer["outputs"]["x"], answer["gradients"]["a"])
    )
    np.testing.assert_allclose(root @ root, A, rtol=1e-14)
    np.testing.assert_allclose(gradient, _truth(A, X, 1 / 2), rtol=1e-13)
    assert answer["certificates"][0]["outcome"] == "converged"


def test_json_takes_a_number_for_a_tensor_without_dimensions(server: ServerProcess) -> None:
    """The cotangent of a distance may be written as a number."""
    inputs = {"mu1": [0.0], "s1": [[1.0]], "mu2": [2.0], "s2": [[4.0]]}

    status, answer = _posted(server, "/v1/vjp/frechet_distance", {"inputs": inputs, "cotangents": {"x": 2}})

    gradients = {name: np.frombuffer(b64decode(x["data"]))[0] for name, x in answer["gradients"].items()}
    assert status == 200
    assert gradients == pytest.approx({"mu1": -8.0, "s1": -2.0, "mu2": 8.0, "s2": 1.0})
    assert np.frombuffer(b64decode(answer["outputs"]["x"]["data"]))[0] == pytest.approx(5.0)


def test_calls_take_the_functions_name_with_its_prefix(server: ServerProcess) -> None:
    """In a request of many calls the name is that of the route."""
    call = {"function": "vjp/msign", "inputs": {"m": A.tolist()}, "cotangents": {"x": X.tolist()}}

    status, answer = _posted(server, "/v1/calls", {"calls": [call, {**call, "function": "vjp/mcsgn"}]})

    assert status == 200
    assert list(answer["answers"][0]["gradients"]) == ["m"]
    assert answer["answers"][1]["code"] == "unknown_function"


@pytest.mark.parametrize(
    ("route", "change", "status", "code"),
    [
        ("/v1/vjp/mcsgn", {}, 404, "unknown_function"),
        ("/v1/vjp/nonsense", {}, 404, "unknown_function"),
        ("/v1/vjp/root", {"cotangents": None}, 400, "malformed"),
        ("/v1/vjp/root", {"cotangents": {"z": X.tolist()}}, 400, "malformed"),
        ("/v1/vjp/root", {"inputs": {"a": A.tolist(), "x": X.tolist()}}, 400, "malformed"),
        ("/v1/root", {}, 400, "malformed"),
        ("/v1/vjp/root", {"cotangents": {}}, 422, "invalid_parameter"),
        ("/v1/vjp/root", {"cotangents": {"x": [[1.0]]}}, 422, "invalid_shape"),
    ],
)
def test_refusals_over_http(server: ServerProcess, route: str, change: dict[str, Any], status: int, code: str) -> None:
    """What is no call with cotangents is refused with a problem."""
    body = {"inputs": {"a": A.tolist()}, "cotangents": {"x": X.tolist()}, "params": {"r": 2}, **change}

    found, problem = _posted(server, route, body)

    assert (found, problem["code"]) == (status, code)


def test_gradients_are_counted_under_their_own_name(server: ServerProcess) -> None:
    """The server's counters, and the document of its routes, have vector-Jacobian products."""
    _posted(server, "/v1/vjp/mclip", {"inputs": {"m": A.tolist()}, "cotangents": {"x": X.tolist()}})

    with urlopen(f"{server.url}/metrics") as response:  # noqa: S310
        assert 'function="vjp/mclip"' in response.read().decode()
    with urlopen(f"{server.url}/openapi.json") as response:  # noqa: S310
        schema = json.load(response)["paths"]["/v1/vjp/mclip"]["post"]["requestBody"]["content"]
    call = schema["application/json"]["schema"]
    assert call["required"] == ["inputs", "cotangents"]
    assert list(call["properties"]["cotangents"]["properties"]) == ["x"]
