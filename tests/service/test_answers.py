"""What an answer holds, in either format and every dtype."""

from __future__ import annotations

from typing import Literal

import httpx
import ml_dtypes
import numpy as np
import pytest

from matfn import wire
from matfn.catalogue import ENTRIES
from matfn.triangles import whole
from scripted import MSGPACK, matrices

pytestmark = pytest.mark.anyio

NUMPY = {"bfloat16": np.dtype(ml_dtypes.bfloat16)} | {
    name: np.dtype(name) for name in ("float16", "float32", "float64", "complex64", "complex128")
}


def body_of(function: str, name: str, tensor: wire.Tensor, media: wire.Media, **params: wire.Value) -> bytes:
    """A call with one input."""
    return b"".join(wire.encode_call(wire.Call(function, {name: tensor}, dict(params), {}), media))


def array_of(tensor: wire.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """The numbers of a tensor."""
    return np.frombuffer(tensor.data, NUMPY[tensor.dtype]).reshape(tensor.shape)


@pytest.mark.parametrize("media", list(wire.Media))
@pytest.mark.parametrize("dtype", list(NUMPY))
async def test_every_dtype_comes_back_as_it_went(client: httpx.AsyncClient, dtype: str, media: wire.Media) -> None:
    """The answer has the dtype and shape of the input, in the format of the request."""
    m = wire.Tensor(dtype, (2, 3, 3), np.broadcast_to(2 * np.eye(3), (2, 3, 3)).astype(NUMPY[dtype]).tobytes())
    body = body_of("msign", "m", m, media)
    response = await client.post("/v1/msign", content=body, headers={"content-type": media})
    answer = wire.decode_answer(response.content, media)

    assert response.headers["content-type"] == media
    assert answer.outputs["x"].dtype == dtype
    np.testing.assert_allclose(array_of(answer.outputs["x"]).astype(complex), np.eye(3)[None].repeat(2, 0), atol=1e-2)
    assert len(answer.certificates) == 2


@pytest.mark.parametrize("media", list(wire.Media))
@pytest.mark.parametrize("shape", [(2, 5, 3), (5, 3)], ids=["alike", "broadcast"])
@pytest.mark.parametrize(
    ("first", "second", "common"), [("float32", "float64", "float64"), ("float16", "bfloat16", "float32")]
)
async def test_inputs_of_several_dtypes_are_promoted(
    client: httpx.AsyncClient, first: str, second: str, common: str, shape: tuple[int, ...], media: wire.Media
) -> None:
    """The answer is that of inputs cast to the dtype that holds all their numbers, the second time as the first."""
    t, b = np.tril(np.full((2, 5, 5), 0.5)).astype(NUMPY[first]), np.ones(shape).astype(NUMPY[second])
    cast = [x.astype(NUMPY[common]) for x in (t, b)]
    tensors = [
        {name: wire.Tensor(str(x.dtype), x.shape, x.tobytes()) for name, x in zip("tb", pair, strict=True)}
        for pair in ((t, b), (t, b), cast)
    ]
    bodies = [b"".join(wire.encode_call(wire.Call("tri_solve", inputs, {}, {}), media)) for inputs in tensors]

    found = [await client.post("/v1/tri_solve", content=body, headers={"content-type": media}) for body in bodies]

    outputs = [wire.decode_answer(answer.content, media).outputs["x"] for answer in found]
    assert outputs[0].dtype == common
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize("media", list(wire.Media))
@pytest.mark.parametrize("uplo", ["L", "U"])
@pytest.mark.parametrize("function", ["inv_root", "msign", "tri_inv"])
async def test_triangle_has_the_answer_of_the_whole(
    client: httpx.AsyncClient, function: str, uplo: Literal["L", "U"], media: wire.Media
) -> None:
    """A symmetric matrix sent as either triangle has the same answer, bit for bit, as sent whole."""
    name, params = {"inv_root": ("a", {"r": 4}), "msign": ("m", {}), "tri_inv": ("t", {})}[function]
    a = matrices(3, 5, 5)
    keep = np.tri(5, dtype=bool) if uplo == "L" else np.tri(5, dtype=bool).T
    part = wire.Tensor(a.dtype, a.shape, array_of(a)[:, keep].tobytes(), uplo)
    bodies = [body_of(function, name, tensor, media, **params) for tensor in (a, part)]

    answers = [await client.post(f"/v1/{function}", content=body, headers={"content-type": media}) for body in bodies]

    whole, of_part = (wire.decode_answer(answer.content, media).outputs["x"] for answer in answers)
    assert of_part == whole


SYMMETRIC: dict[str, dict[str, wire.Value]] = {
    "root": {"r": 2},
    "inv_root": {"r": 4},
    "sqrt_pair": {},
    "log": {},
    "exp": {},
    "power": {"p": -0.7},
    "eig_clip": {"lo": 0.5},
    "geometric_mean": {},
    "polar": {},
    "solve_lyapunov": {},
}


@pytest.mark.parametrize("media", list(wire.Media))
@pytest.mark.parametrize("uplo", ["L", "U"])
@pytest.mark.parametrize("function", list(SYMMETRIC))
async def test_symmetric_answer_comes_as_a_triangle(
    client: httpx.AsyncClient, function: str, uplo: Literal["L", "U"], media: wire.Media
) -> None:
    """An answer asked for as a triangle has half of the numbers, row by row, and the bits of the whole one."""
    a = matrices(3, 70, 70)
    inputs = {entry.name: a for entry in ENTRIES[function].inputs if not entry.optional}
    body = b"".join(wire.encode_call(wire.Call(function, inputs, SYMMETRIC[function], {}), media))
    headers = {"content-type": media}

    plain = await client.post(f"/v1/{function}", content=body, headers=headers)
    told = await client.post(f"/v1/{function}", content=body, headers={**headers, "X-Matfn-Triangle": uplo})

    expected, found = (wire.decode_answer(response.content, media).outputs for response in (plain, told))
    last = list(expected)[-1]
    assert {name: whole(tensor) for name, tensor in found.items()} == expected
    assert (found[last].uplo, expected[last].uplo) == (uplo, None)
    assert found[last].nbytes == 3 * (70 * 71 // 2) * wire.ITEM_BYTES[a.dtype]


@pytest.mark.parametrize("uplo", ["L", "U"])
async def test_asymmetric_answer_comes_whole(client: httpx.AsyncClient, uplo: str) -> None:
    """One matrix that is not symmetric to the last bit leaves all of the output whole."""
    m = np.stack([np.eye(5), np.arange(25.0).reshape(5, 5) + np.eye(5)])
    call = wire.Call("msign", {"m": wire.Tensor("float64", m.shape, m.tobytes())}, {}, {})
    body = b"".join(wire.encode_call(call, wire.Media.MSGPACK))

    response = await client.post("/v1/msign", content=body, headers={**MSGPACK, "X-Matfn-Triangle": uplo})

    assert wire.decode_answer(response.content, wire.Media.MSGPACK).outputs["x"].uplo is None


@pytest.mark.parametrize("uplo", ["", "l", "LU", "\xff"])
async def test_unknown_triangle_counts_as_none(client: httpx.AsyncClient, uplo: str) -> None:
    """A header that names no triangle is answered with whole matrices."""
    body = body_of("msign", "m", matrices(5, 5), wire.Media.MSGPACK)

    headers = httpx.Headers({**MSGPACK, "X-Matfn-Triangle": uplo}, encoding="latin-1")
    response = await client.post("/v1/msign", content=body, headers=headers)

    assert wire.decode_answer(response.content, wire.Media.MSGPACK).outputs["x"].uplo is None


async def test_triangle_of_another_shape_is_refused(client: httpx.AsyncClient) -> None:
    """What no triangle has is a problem of its own, with a remedy."""
    tensor = {"dtype": "float32", "shape": [2, 3], "data": "", "uplo": "L"}
    answer = await client.post("/v1/msign", json={"inputs": {"m": tensor}})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_shape")
    assert "leave uplo out" in answer.json()["hint"]


@pytest.mark.parametrize("shape", [[0, 2**29, 2**29], [2, 0, 0]])
async def test_triangle_of_nothing_costs_nothing(client: httpx.AsyncClient, shape: list[int]) -> None:
    """A triangle without entries claims no order that anything is built for."""
    tensor = {"dtype": "float32", "shape": shape, "data": "", "uplo": "U"}
    answer = await client.post("/v1/msign", json={"inputs": {"m": tensor}})

    assert answer.status_code == (200 if shape[0] else 422)


async def test_pairs_are_named(client: httpx.AsyncClient) -> None:
    """A function with two outputs names them x and y."""
    a = matrices(3, 3)
    response = await client.post(
        "/v1/sqrt_pair", content=body_of("sqrt_pair", "a", a, wire.Media.MSGPACK), headers=MSGPACK
    )
    outputs = wire.decode_answer(response.content, wire.Media.MSGPACK).outputs
    x, y = (array_of(outputs[name]).astype(float) for name in ("x", "y"))

    np.testing.assert_allclose(x @ x, array_of(a).astype(float), rtol=1e-10)
    np.testing.assert_allclose(x @ y, np.eye(3), atol=1e-10)


async def test_answer_names_where_its_numbers_begin(client: httpx.AsyncClient) -> None:
    """The receiver of a large answer can lay it on aligned memory before it has come."""
    body = body_of("msign", "m", matrices(40, 40), wire.Media.MSGPACK)
    response = await client.post("/v1/msign", content=body, headers=MSGPACK)
    numbers = wire.decode_answer(response.content, wire.Media.MSGPACK).outputs["x"].data

    assert response.content[int(response.headers["x-matfn-offset"]) :].startswith(numbers)


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0), (0, 0), (3, 0), (2, 0, 3, 3)])
async def test_nothing_has_an_answer(client: httpx.AsyncClient, shape: tuple[int, ...]) -> None:
    """Zero matrices, and matrices without entries, are answered with as many."""
    body = body_of("msign", "m", wire.Tensor("float32", shape, b""), wire.Media.MSGPACK)
    response = await client.post("/v1/msign", content=body, headers=MSGPACK)

    assert response.status_code == 200
    assert wire.decode_answer(response.content, wire.Media.MSGPACK).outputs["x"].shape == shape


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/msgpack", "application/msgpack"),
        ("application/json;q=0.1, application/msgpack", "application/msgpack"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
    ],
)
async def test_accept_chooses_the_format(client: httpx.AsyncClient, accept: str, expected: str) -> None:
    """The answer comes as Accept says, and otherwise as the request came."""
    answer = await client.post("/v1/msign", json={"inputs": {"m": [[1.0]]}}, headers={"accept": accept})

    assert answer.headers["content-type"] == expected


async def test_large_call_is_answered(client: httpx.AsyncClient) -> None:
    """A call that is read and answered off the loop comes back whole, in JSON too."""
    m = matrices(40, 40, 40)
    response = await client.post(
        "/v1/msign",
        content=body_of("msign", "m", m, wire.Media.JSON),
        headers={"content-type": "application/json"},
    )

    assert wire.decode_answer(response.content, wire.Media.JSON).outputs["x"].shape == (40, 40, 40)


@pytest.mark.parametrize("name", ["good.Name_1-2", "x" * 128])
async def test_request_id_is_kept(client: httpx.AsyncClient, name: str) -> None:
    """A good X-Request-Id comes back in the header and in the answer."""
    answer = await client.post("/v1/msign", json={"inputs": {"m": [[1.0]]}}, headers={"x-request-id": name})

    assert answer.headers["x-request-id"] == answer.json()["request_id"] == name


@pytest.mark.parametrize("name", ["", "x" * 129, "two words", "ä", "a/b"])
async def test_bad_request_id_is_replaced(client: httpx.AsyncClient, name: str) -> None:
    """Any other is replaced by a new one."""
    answer = await client.get("/healthz", headers=[(b"x-request-id", name.encode())])

    assert answer.headers["x-request-id"].isalnum()
    assert len(answer.headers["x-request-id"]) == 32
