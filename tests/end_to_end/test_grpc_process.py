"""A real server that speaks the Open Inference Protocol over gRPC beside HTTP."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import torch

from inference_calls import Example, body_of, octets, written
from inference_proto import MESSAGES, ROOT, request_of
from matfn import wire
from matfn_service.configuration import Misconfigured, configured
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLERS = 8


@pytest.fixture(scope="module")
def speaking() -> Iterator[ServerProcess]:
    """A server that listens for gRPC too."""
    with running_server(grpc_port="0", drain_seconds="5") as server:
        yield server


def address_of(server: ServerProcess) -> str:
    """Where a server listens for gRPC."""
    return str(server.wait_for("listening for gRPC")["address"])


def by_grpc(channel: grpc.Channel, example: Example) -> bytes:
    """The first output of a call over gRPC."""
    method = channel.unary_unary(f"{ROOT}ModelInfer")
    answer = MESSAGES["ModelInferResponse"].FromString(method(request_of(example).SerializeToString()))
    return bytes(answer.raw_output_contents[0])


def by_http(server: ServerProcess, path: str, content: bytes, headers: dict[str, str]) -> bytes:
    """The body of an answer over HTTP."""
    connection = HTTPConnection(*server.address, timeout=30)
    try:
        connection.request("POST", path, content, headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def by_v2(server: ServerProcess, example: Example) -> bytes:
    """The only output of a call over /v2."""
    inputs = [written(name, x) for name, x in example.inputs.items()]
    body = body_of(
        {"inputs": inputs, "parameters": {**example.keywords, "binary_data_output": True}},
        [octets(x) for x in example.inputs.values()],
    )
    answer = by_http(server, f"/v2/models/{example.function}/infer", body.content, dict(body.headers))
    return answer[-next(iter(example.inputs.values())).nbytes :]


def by_v1(server: ServerProcess, example: Example) -> bytes:
    """The first output of a call over /v1."""
    content = b"".join(wire.encode_call(example.call, wire.Media.MSGPACK))
    headers = {"content-type": wire.Media.MSGPACK.value}
    answer = wire.decode_answer(by_http(server, f"/v1/{example.function}", content, headers), wire.Media.MSGPACK)
    return bytes(answer.outputs["x"].data)


def test_mixed_load_of_three_protocols_has_equal_bits(speaking: ServerProcess) -> None:
    """Callers of all protocols at once share batches, and each has the bits of a call alone."""
    generator = torch.Generator().manual_seed(0)
    calls = [
        Example("msign", dtype, {"m": torch.randn(33, 33, generator=generator).to(getattr(torch, dtype))}, {})
        for dtype in ("float32", "float64", "bfloat16", "float16")
        for _ in range(3)
    ]
    with grpc.insecure_channel(address_of(speaking)) as channel, ThreadPoolExecutor(3 * CALLERS) as pool:
        alone = [by_v1(speaking, example) for example in calls]
        asked: list[Any] = [
            (
                pool.submit(by_grpc, channel, example),
                pool.submit(by_v2, speaking, example),
                pool.submit(by_v1, speaking, example),
            )
            for example in calls * 3
        ]
        found = [[one.result() for one in three] for three in asked]

    assert found == [[expected] * 3 for expected in alone * 3]


def test_large_messages_come_whole(speaking: ServerProcess) -> None:
    """A message beyond every window, and its answer, come whole."""
    x = torch.randn(40, 256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    example = Example("mclip", "float64", {"m": x}, {"hi": 1e6})
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address_of(speaking), options) as channel:
        assert by_grpc(channel, example) == by_v1(speaking, example)


def test_call_in_flight_is_answered_before_the_server_ends() -> None:
    """SIGTERM lets calls over gRPC end, and the process ends with exit code 0 in time."""
    x = torch.randn(200, 128, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    example = Example("msign", "float64", {"m": x}, {})
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with running_server(grpc_port="0", drain_seconds="20", access_log="json") as server:
        with grpc.insecure_channel(address_of(server), options) as channel, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(by_grpc, channel, example)
            while not server.get("/v1/status")[1]["batches"]["count"] and not answer.done():
                pass
            server.terminate()
            assert len(answer.result(30)) == x.nbytes
        assert server.exit_code() == 0
        line = server.wait_for("request", function="msign")
        assert (line["path"], line["status"], line["matrices"]) == (f"{ROOT}ModelInfer", 200, 200)
        assert not [line for line in server.lines if line["event"] == "unstructured"]


def test_port_that_is_taken_ends_the_start() -> None:
    """A server that cannot listen for gRPC says so, and ends with exit code 1 and without workers left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ServerProcess(grpc_port=str(taken.getsockname()[1]))
        try:
            assert server.exit_code(50) == 1
            assert "in use" in server.wait_for("cannot listen for gRPC")["reason"]
        finally:
            server.stop()


def test_port_without_grpcio_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where grpcio is missing, a server with a port for it does not start, and says what to install."""
    monkeypatch.setattr("matfn_service.configuration.find_spec", lambda name: None)  # noqa: ARG005 - its only argument
    with pytest.raises(Misconfigured) as caught:
        configured({"grpc_port": 8001})

    assert caught.value.faults == ["--grpc_port 8001: grpcio is not installed; pip install 'matfn[grpc]' installs it"]
