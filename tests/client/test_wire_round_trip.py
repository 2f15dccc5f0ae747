"""decode(encode(x)) == x, in both media."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matfn import wire
from matfn._aligned import address_of, aligned
from matfn.catalogue import FUNCTIONS
from matfn.errors import TABLE, Problem
from matfn.wire import Media

MEDIA = pytest.mark.parametrize("media", list(Media))

words = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
sizes = st.floats(min_value=0, max_value=1e300)


@st.composite
def tensors(draw: st.DrawFn) -> wire.Tensor:
    """Tensors of every dtype and small shapes, zero sizes included."""
    dtype = draw(st.sampled_from(sorted(wire.ITEM_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    count = int(np.prod(shape, dtype=int)) * wire.ITEM_BYTES[dtype]
    return wire.Tensor(dtype, shape, draw(st.binary(min_size=count, max_size=count)))


@st.composite
def triangles(draw: st.DrawFn) -> wire.Tensor:
    """Triangles of every real dtype and small shapes, zero sizes included."""
    dtype = draw(st.sampled_from(["float16", "bfloat16", "float32", "float64"]))
    lead, order = tuple(draw(st.lists(st.integers(0, 3), max_size=2))), draw(st.integers(0, 4))
    count = int(np.prod(lead, dtype=int)) * order * (order + 1) // 2 * wire.ITEM_BYTES[dtype]
    data = draw(st.binary(min_size=count, max_size=count))
    return wire.Tensor(dtype, (*lead, order, order), data, draw(st.sampled_from(["L", "U"])))


values = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | numbers | words
rows = st.lists(st.tuples(numbers, numbers, numbers), max_size=3).map(tuple)
calls = st.builds(
    wire.Call,
    function=st.sampled_from(sorted(FUNCTIONS)),
    inputs=st.dictionaries(words, tensors() | triangles(), max_size=3),
    params=st.dictionaries(words, values | rows, max_size=3),
    options=st.dictionaries(words, values, max_size=3),
)
certificates = st.builds(
    wire.Certificate,
    outcome=st.sampled_from(wire.Outcome),
    residual=st.none() | st.builds(wire.Residual, words, sizes),
    error_estimate=st.none() | sizes,
    condition=st.none() | sizes,
    method=words,
    precision=words,
    steps=st.integers(0, 100),
    rank=st.none() | st.integers(0, 100),
    damping=sizes,
    shift=sizes,
    fallback=st.none() | words,
    code=st.none() | words,
    hint=st.none() | words,
)
answers = st.builds(
    wire.Answer,
    outputs=st.dictionaries(words, tensors(), max_size=2),
    certificates=st.lists(certificates, max_size=3).map(tuple),
    timing=st.builds(wire.Timing, sizes, sizes, st.integers(0, 99), sizes, st.none() | words),
    device=words,
    request_id=words,
)
problems = st.builds(
    Problem,
    code=st.sampled_from(sorted(TABLE)),
    detail=words,
    status=st.integers(400, 599),
    title=words,
    hint=st.none() | words,
    index=st.none() | st.integers(0, 100),
    request_id=words,
    retry_after_ms=st.none() | sizes,
)


def body(buffers: list[wire.Buffer]) -> bytes:
    """What arrives when the buffers are sent in order."""
    return b"".join(buffers)


@MEDIA
@given(call=calls)
def test_call_survives(call: wire.Call, media: Media) -> None:
    """A decoded call equals the encoded one."""
    assert wire.decode_call(body(wire.encode_call(call, media)), media, call.function) == call


@MEDIA
@given(sent=st.lists(calls, max_size=3))
def test_calls_survive(sent: list[wire.Call], media: Media) -> None:
    """Decoded calls equal the encoded ones, in order."""
    assert wire.decode_calls(body(wire.encode_calls(sent, media)), media) == sent


@MEDIA
@given(answer=answers)
def test_answer_survives(answer: wire.Answer, media: Media) -> None:
    """A decoded answer equals the encoded one."""
    assert wire.decode_answer(body(wire.encode_answer(answer, media)), media) == answer


@st.composite
def cut(draw: st.DrawFn, tensor: wire.Tensor) -> wire.Rows:
    """The same tensor in pieces."""
    octets = memoryview(bytes(tensor.data))
    middle = draw(st.integers(0, len(octets)))
    return wire.Rows(tensor.dtype, tensor.shape, [octets[:middle], octets[middle:]], tensor.uplo)


@MEDIA
@given(answer=answers, data=st.data())
def test_encoded_answer_is_the_answer(answer: wire.Answer, data: st.DataObject, media: Media) -> None:
    """An answer whose certificates are encoded already, and whose numbers lie in pieces, is the same on the wire."""
    encoded = wire.EncodedAnswer(
        {name: data.draw(cut(tensor)) for name, tensor in answer.outputs.items()},
        [wire.encode_certificate(certificate) for certificate in answer.certificates],
        answer.timing,
        answer.device,
        answer.request_id,
    )

    assert body(wire.encode_answer(encoded, media)) == body(wire.encode_answer(answer, media))


def test_large_pieces_are_sent_from_where_they_are() -> None:
    """Pieces of some size are buffers of their own, not copied."""
    pieces = [memoryview(bytearray(4096)) for _ in range(2)]
    answer = wire.EncodedAnswer({"x": wire.Rows("float32", (2, 1024), pieces)}, [], wire.Timing(0, 0, 1, 1), "cpu", "r")
    buffers = wire.encode_answer(answer, Media.MSGPACK)

    assert [buffer is piece for buffer, piece in zip(buffers[1:], pieces, strict=True)] == [True, True]


@MEDIA
@given(sent=st.lists(answers | problems, max_size=3))
def test_answers_survive(sent: list[wire.Answer | Problem], media: Media) -> None:
    """Answers and problems keep their order and their kind."""
    assert wire.decode_answers(body(wire.encode_answers(sent, media)), media) == sent


@MEDIA
@given(problem=problems)
def test_problem_survives(problem: Problem, media: Media) -> None:
    """A problem document says all that the problem said."""
    assert wire.decode_problem(wire.encode_problem(problem, media), f"{media.problem}; charset=utf-8") == problem


def test_many_certificates_survive() -> None:
    """An answer to thousands of matrices has all of their certificates, in order."""
    timing = wire.Timing(0, 0, 1, 1)
    answer = wire.Answer({}, tuple(_certificate(number) for number in range(3000)), timing, "cpu", "r")

    assert wire.decode_answer(body(wire.encode_answer(answer, Media.MSGPACK)), Media.MSGPACK) == answer


@pytest.mark.parametrize("count", [1, 300])
def test_answer_cut_short_is_only_a_decode_error(count: int) -> None:
    """Wherever an answer ends too early, it is refused."""
    certificates = tuple(_certificate(number) for number in range(count))
    whole = body(wire.encode_answer(wire.Answer({}, certificates, wire.Timing(0, 0, 1, 1), "cpu", "r"), Media.MSGPACK))

    for end in range(0, len(whole), 1 + len(whole) // 400):
        with pytest.raises(wire.DecodeError):
            wire.decode_answer(whole[:end], Media.MSGPACK)


def _certificate(number: int) -> wire.Certificate:
    residual = wire.Residual("X^r A^s - I", number / 7)
    return wire.Certificate(
        wire.Outcome.CONVERGED, residual, 1e-7, 2.0 + number, "eigh", "fp64", 0, None, 0.0, 0.0, None, None, None
    )


@given(data=st.binary(max_size=200))
@settings(max_examples=300)
def test_noise_is_only_a_decode_error(data: bytes) -> None:
    """Random bytes raise DecodeError or decode, in every decoder and medium."""
    for media in Media:
        for decode in (wire.decode_calls, wire.decode_answer, wire.decode_answers):
            _decode_or_refuse(lambda decode=decode, media=media: decode(data, media))
        _decode_or_refuse(lambda media=media: wire.decode_call(data, media, "msign"))
        _decode_or_refuse(lambda media=media: wire.decode_problem(data, media.problem))


@MEDIA
@given(call=calls, data=st.data())
@settings(max_examples=200)
def test_damaged_call_is_only_a_decode_error(call: wire.Call, data: st.DataObject, media: Media) -> None:
    """A call with any bytes overwritten or cut off raises DecodeError or decodes."""
    damaged = bytearray(body(wire.encode_call(call, media)))
    place = data.draw(st.integers(0, len(damaged)))
    damaged[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))

    _decode_or_refuse(lambda: wire.decode_call(damaged, media, call.function))


def _decode_or_refuse(decode: object) -> None:
    assert callable(decode)
    with suppress(wire.DecodeError):
        decode()


def test_msgpack_sends_the_callers_memory() -> None:
    """A large tensor's data is among the buffers itself, not a copy of it."""
    array = np.ones((64, 64))
    call = wire.Call("msign", {"m": wire.Tensor("float64", array.shape, array.data)}, {}, {})

    buffers = wire.encode_call(call, Media.MSGPACK)

    assert any(np.shares_memory(np.frombuffer(buffer, np.uint8), array) for buffer in buffers if len(buffer))


@given(st.lists(st.integers(1, 3000), min_size=2, max_size=5), st.sampled_from(["float16", "float32", "complex128"]))
def test_large_tensors_are_aligned_with_the_first(rows: list[int], dtype: str) -> None:
    """Where the first large tensor of a body lies aligned, the numbers of all large ones do."""
    size = wire.ITEM_BYTES[dtype]
    inputs = {f"input {i}": wire.Tensor(dtype, (n, 5), bytes(n * 5 * size)) for i, n in enumerate(rows)}
    buffers = wire.encode_call(wire.Call("msign", inputs, {}, {}), Media.MSGPACK)
    body = aligned(sum(map(len, buffers)), wire.offset_of(buffers))
    body[:] = b"".join(buffers)

    found = wire.decode_call(body, Media.MSGPACK, "msign").inputs

    large = [memoryview(tensor.data) for tensor in found.values() if tensor.nbytes >= 4096]
    assert all(address_of(view) % size == 0 for view in large)
    assert {name: bytes(tensor.data) for name, tensor in found.items()} == {
        name: tensor.data for name, tensor in inputs.items()
    }


def test_two_large_weights_are_aligned_to_cache_lines() -> None:
    """The second of two weights begins a multiple of 64 bytes behind the first."""
    weights = {name: wire.Tensor("float32", (16, 128, 1024), bytes(1 << 23)) for name in ("w_q", "w_k")}
    first, _, second, *_ = wire.encode_call(wire.Call("qk_clip", weights, {}, {}), Media.MSGPACK)

    assert len(second) % 64 == 0
    assert len(first) < 64


def test_msgpack_arrives_as_views_of_the_body() -> None:
    """A decoded tensor lies in the body that was received."""
    array = np.ones((64, 64))
    call = wire.Call("msign", {"m": wire.Tensor("float64", array.shape, array.data)}, {}, {})
    received = bytearray(body(wire.encode_call(call, Media.MSGPACK)))

    data = wire.decode_call(received, Media.MSGPACK, "msign").inputs["m"].data

    assert np.shares_memory(np.frombuffer(data, np.uint8), np.frombuffer(received, np.uint8))


def test_not_finite_certificate_is_json_null() -> None:
    """A residual that is NaN leaves as null and comes back as NaN."""
    certificate = wire.Certificate(
        wire.Outcome.FAILED,
        wire.Residual("r", float("nan")),
        None,
        None,
        "eigh",
        "fp64",
        0,
        None,
        0.0,
        0.0,
        None,
        "singular",
        None,
    )
    sent = body(wire.encode_answer(wire.Answer({}, (certificate,), wire.Timing(0, 0, 1, 1), "cpu", "r"), Media.JSON))

    residual = wire.decode_answer(sent, Media.JSON).certificates[0].residual

    assert b"NaN" not in sent
    assert residual is not None
    assert np.isnan(residual.value)
