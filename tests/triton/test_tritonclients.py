"""The four clients of tritonclient, as they are: http, http.aio, grpc and grpc.aio."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tritonclient.utils import InferenceServerException

from inference_calls import DATATYPES, Example, examples, octets
from matfn import wire
from matfn_kernels.contract.functions import ENTRIES
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

KINDS = ("http", "http.aio", "grpc", "grpc.aio")
KEY = {"authorization": "Bearer secret"}
A = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
CALL = Example("root", "float32", {"a": A}, {"r": 2})


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server of both protocols, with a key."""
    with running_server(grpc_port="0", api_keys="secret") as found:
        yield found


@dataclass
class Client:
    """One of the clients and its module."""

    kind: str
    module: Any
    client: Any

    async def ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        """The value of a method, whether it is a coroutine or not; headers are copied, since http adds its own."""
        found = getattr(self.client, method)(*arguments, headers=dict(KEY), **named)
        return await found if inspect.isawaitable(found) else found

    async def infer(self, example: Example, *outputs: str, is_binary: bool = True, **named: Any) -> Any:
        """The result of a call."""
        asked = [self._output(name, is_binary=is_binary) for name in outputs]
        inputs = [self._input(name, x, is_binary=is_binary) for name, x in example.inputs.items()]
        parameters = {**example.keywords, **named.pop("parameters", {})}
        return await self.ask("infer", example.function, inputs, outputs=asked or None, parameters=parameters, **named)

    def _input(self, name: str, x: torch.Tensor, *, is_binary: bool) -> Any:
        datatype = DATATYPES[str(x.dtype).removeprefix("torch.")]
        found = self.module.InferInput(name, list(x.shape), datatype)
        numbers = x.float().numpy() if x.dtype == torch.bfloat16 else x.numpy()
        form = {"binary_data": is_binary} if self.speaks_http else {}
        if datatype == "BF16" and found_type(datatype) is not np.float32:
            numbers = numbers.astype(found_type(datatype))
        found.set_data_from_numpy(numbers, **form)
        return found

    def _output(self, name: str, *, is_binary: bool) -> Any:
        form = {"binary_data": is_binary} if self.speaks_http else {}
        return self.module.InferRequestedOutput(name, **form)

    @property
    def speaks_http(self) -> bool:
        """Whether it is one of the two for HTTP."""
        return self.kind.startswith("http")


def found_type(datatype: str) -> Any:
    """The numpy type that this tritonclient has for a datatype."""
    from tritonclient.utils import triton_to_np_dtype

    return triton_to_np_dtype(datatype)


@asynccontextmanager
async def client_of(kind: str, server: ServerProcess) -> AsyncIterator[Client]:
    """A client of the server."""
    module = importlib.import_module(f"tritonclient.{kind}")
    http, grpc = server.url.removeprefix("http://"), server.wait_for("listening for gRPC")["address"]
    client = module.InferenceServerClient(http if kind.startswith("http") else grpc)
    try:
        yield Client(kind, module, client)
    finally:
        closing = client.close()
        if inspect.isawaitable(closing):
            await closing


def with_client(kind: str, server: ServerProcess, use: Any) -> Any:
    """The value of `use` of a client."""

    async def run() -> Any:
        async with client_of(kind, server) as client:
            return await use(client)

    return asyncio.run(run())


def by_v1(server: ServerProcess, example: Example) -> dict[str, bytes]:
    """The outputs of a call over /v1."""
    content = b"".join(wire.encode_call(example.call, wire.Media.MSGPACK))
    connection = HTTPConnection(*server.address, timeout=30)
    try:
        headers = {"content-type": wire.Media.MSGPACK.value, **KEY}
        connection.request("POST", f"/v1/{example.function}", content, headers)
        answer = wire.decode_answer(connection.getresponse().read(), wire.Media.MSGPACK)
    finally:
        connection.close()
    return {name: bytes(x.data) for name, x in answer.outputs.items()}


def numbers_of(result: Any, name: str, dtype: str) -> bytes:
    """The octets of an output as numpy has it."""
    found = torch.from_numpy(np.array(result.as_numpy(name), dtype=np.float64, copy=True))
    return octets(found.to(getattr(torch, dtype)))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("dtype", DATATYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_function(server: ServerProcess, kind: str, dtype: str) -> None:
    """Every function's outputs have the bits that they have over /v1, in binary and, where the client can, in JSON."""

    async def different(client: Client) -> list[str]:
        found = []
        for example in (one for one in examples() if one.dtype == dtype):
            expected = by_v1(server, example)
            results = [await client.infer(example), await client.infer(example, *expected)]
            if client.speaks_http and dtype in {"float32", "float64"}:
                results.append(await client.infer(example, *expected, is_binary=False))
            output_types = {"eigenbasis": {"w": "float64" if dtype == "float64" else "float32"}}.get(
                example.function, {}
            )
            found += [
                f"{example.name} {name}"
                for result in results
                for name, numbers in expected.items()
                if numbers_of(result, name, output_types.get(name, dtype)) != numbers
            ]
        return found

    assert not with_client(kind, server, different)


@pytest.mark.parametrize("kind", KINDS)
def test_reports(server: ServerProcess, kind: str) -> None:
    """Health, metadata, configuration and the index of models."""

    async def reports(client: Client) -> None:
        assert await client.ask("is_server_live") is True
        assert await client.ask("is_server_ready") is True
        assert await client.ask("is_model_ready", "root") is True
        assert await client.ask("is_model_ready", "root", "1") is True
        form = {} if client.speaks_http else {"as_json": True}
        metadata = await client.ask("get_model_metadata", "sqrt_pair", **form)
        config = await client.ask("get_model_config", "root", **form)
        index = await client.ask("get_model_repository_index", **form)
        assert (await client.ask("get_server_metadata", **form))["name"] == "matfn"
        assert [one["name"] for one in metadata["outputs"]] == ["x", "y", "certificates"]
        assert config.get("config", config)["backend"] == "matfn"
        assert {one["name"] for one in (index if client.speaks_http else index["models"])} == set(ENTRIES)

    with_client(kind, server, reports)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_request_may_say(server: ServerProcess, kind: str) -> None:
    """Id, version, priority, timeout, parameters as text, and certificates as an output and as a parameter."""

    async def said(client: Client) -> None:
        example = Example("msign", "float32", {"m": A}, {"coefficients": "[[3.4445, -4.775, 2.0315]]"})
        how: dict[str, Any] = {"model_version": "1", "request_id": "mine", "priority": 1, "timeout": 10**7}
        result = await client.infer(example, "certificates", "x", **how)
        (text,) = result.as_numpy("certificates")
        assert json.loads(text)["method"] == "newton_schulz"
        response = result.get_response()
        if client.speaks_http:
            assert response["id"] == "mine"
            assert json.loads(response["parameters"]["certificates"]) == [json.loads(text)]
        else:
            assert response.id == "mine"
            assert json.loads(response.parameters["certificates"].string_param) == [json.loads(text)]

    with_client(kind, server, said)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_in_words(server: ServerProcess, kind: str) -> None:
    """Errors have the words of /v1 with what to try, and a model that does not exist is not ready."""

    async def words(asking: Coroutine[Any, Any, Any]) -> str:
        with pytest.raises(InferenceServerException) as caught:
            await asking
        return str(caught.value.message())

    async def errors(client: Client) -> None:
        nothing = Example("nothing", "float32", {"a": A}, {})
        assert (await words(client.infer(nothing))).startswith("there is no function 'nothing': known: root, ")
        assert not await client.ask("is_model_ready", "nothing")
        assert "'surprise'" in await words(client.infer(CALL, parameters={"surprise": 1}))
        assert "no output 'y'" in await words(client.infer(CALL, "y"))
        wrong = Example("root", "float32", {"b": A}, {"r": 2})
        assert "no input 'b'" in await words(client.infer(wrong))
        negative = Example("root", "float32", {"a": -A}, {"r": 2})
        assert "eigenvalue is negative" in await words(client.infer(negative))
        integers = client.module.InferInput("a", [2, 2], "INT32")
        integers.set_data_from_numpy(np.ones((2, 2), np.int32))
        assert "'a' is INT32: send it as one of FP32" in await words(client.ask("infer", "root", [integers]))
        assert await words(client.ask("get_model_metadata", "nothing"))
        assert await words(client.ask("get_inference_statistics"))
        assert np.allclose((await client.infer(CALL)).as_numpy("x") @ (await client.infer(CALL)).as_numpy("x"), A)

    with_client(kind, server, errors)


@pytest.mark.parametrize("kind", KINDS)
def test_late_calls(server: ServerProcess, kind: str) -> None:
    """A timeout that nothing can keep is told as one."""

    async def late(client: Client) -> None:
        m = torch.randn(16, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with pytest.raises(InferenceServerException):
            await client.infer(Example("polar", "float64", {"m": m}, {}), timeout=1)

    with_client(kind, server, late)


def test_example_of_the_page_runs() -> None:
    """The example in docs/interoperability.md, which the other examples' test leaves out for want of tritonclient."""
    page = Path(__file__).parents[2] / "docs" / "interoperability.md"
    (example,) = re.findall(r"^```py\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    with running_server() as server:
        environment = os.environ | {"MATFN_URL": server.url}
        done = subprocess.run(
            [sys.executable, "-c", example], env=environment, check=False, capture_output=True, text=True
        )

    assert done.returncode == 0, done.stderr
    assert '"outcome":"converged"' in done.stdout


@pytest.mark.timeout(120)
def test_mixed_load(server: ServerProcess) -> None:
    """All four clients at once get the bits of calls alone."""
    generator = torch.Generator().manual_seed(0)
    calls = [Example("msign", "float32", {"m": torch.randn(33, 33, generator=generator)}, {}) for _ in range(8)]
    alone = [by_v1(server, example)["x"] for example in calls]

    async def of(kind: str) -> list[bytes]:
        async with client_of(kind, server) as client:
            if kind.endswith("aio"):
                results = await asyncio.gather(*(client.infer(example) for example in calls))
            else:
                results = [await client.infer(example) for example in calls]
            return [numbers_of(result, "x", "float32") for result in results]

    async def load() -> list[list[bytes]]:
        threads = [asyncio.to_thread(asyncio.run, of(kind)) for kind in KINDS if not kind.endswith("aio")]
        return await asyncio.gather(*threads, *(of(kind) for kind in KINDS if kind.endswith("aio")))

    assert asyncio.run(load()) == [alone] * len(KINDS)
