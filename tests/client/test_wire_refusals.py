"""What a decoder refuses, under which code, and that it refuses no more than that."""

from __future__ import annotations

import json
import re
import tracemalloc
from base64 import b64encode
from typing import Any

import msgpack
import numpy as np
import pytest

from matfn import wire
from matfn.wire import Media

ONE = {"dtype": "float64", "shape": [1, 1], "data": b"\0" * 8}


def refused(call: object) -> wire.DecodeError:
    """The error of a msgpack call."""
    with pytest.raises(wire.DecodeError) as caught:
        wire.decode_call(msgpack.packb(call), Media.MSGPACK, "msign")
    return caught.value


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        ({**ONE, "dtype": "int32", "data": b"\0" * 4}, "unsupported_dtype"),
        ({**ONE, "dtype": "uint8", "data": b"\0"}, "unsupported_dtype"),
        ({**ONE, "dtype": "bool", "data": b"\0"}, "unsupported_dtype"),
        ({**ONE, "dtype": "int64", "shape": []}, "unsupported_dtype"),
        ({**ONE, "dtype": "int64", "data": b"\0" * 7}, "malformed"),
        ({**ONE, "dtype": "bool"}, "malformed"),
        ({**ONE, "dtype": "uint16", "data": "no base64!"}, "malformed"),
        ({**ONE, "dtype": "float8"}, "malformed"),
        ({**ONE, "dtype": 3}, "malformed"),
        ({**ONE, "shape": [2, 1]}, "malformed"),
        ({**ONE, "shape": [-1, -1]}, "malformed"),
        ({**ONE, "shape": [2**31, 0], "data": b""}, "malformed"),
        ({**ONE, "shape": [2**30] * 9}, "malformed"),
        ({**ONE, "shape": [True, True]}, "malformed"),
        ({**ONE, "shape": 1}, "malformed"),
        ({**ONE, "data": 1}, "malformed"),
        ({**ONE, "data": "no base64!"}, "malformed"),
        ({**ONE, "strides": []}, "malformed"),
        ({"dtype": "float64", "shape": []}, "malformed"),
        ([[1.0, 2.0], [3.0]], "malformed"),
        ([[1.0], 2.0], "malformed"),
        ([["1"]], "malformed"),
        ([[True]], "malformed"),
        (None, "malformed"),
    ],
)
def test_bad_tensor_has_its_code(tensor: object, code: str) -> None:
    """Integer and boolean dtypes are unsupported; everything else that is wrong is malformed."""
    error = refused({"inputs": {"m": tensor}})

    assert error.code == code
    assert "m" in error.detail


@pytest.mark.parametrize(
    "call",
    [
        [],
        {},
        {"inputs": []},
        {"inputs": {}, "function": "msign"},
        {"inputs": {}, "params": 1},
        {"inputs": {}, "options": {"tol": b"x"}},
        {"inputs": {}, "params": {"steps": {}}},
        {"inputs": {}, "params": {"coefficients": [[[1.0]]]}},
        {"inputs": {1: ONE}},
    ],
)
def test_bad_call_is_malformed(call: object) -> None:
    """A call is a map of inputs, params and options, and nothing else."""
    assert refused(call).code == "malformed"


TRIANGLE = {"dtype": "float32", "shape": [2, 3, 3], "data": bytes(48), "uplo": "L"}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"uplo": "l"}, "malformed", "'l'; known are 'L' and 'U'"),
        ({"uplo": 1}, "malformed", "uplo of 'm' is not a string"),
        ({"uplo": ["L"]}, "malformed", "uplo of 'm' is not a string"),
        ({"data": bytes(72)}, "malformed", r"\[2, 3, 3\] of float32 as the triangle L is 48 bytes, data has 72"),
        ({"uplo": None}, "malformed", "is 72 bytes, data has 48"),
        ({"shape": [3, 4]}, "invalid_shape", "only square matrices"),
        ({"shape": [12]}, "invalid_shape", "only square matrices"),
        ({"shape": []}, "invalid_shape", "only square matrices"),
        ({"dtype": "complex64", "data": bytes(96)}, "unsupported_dtype", "only real matrices"),
        ({"dtype": "int32"}, "unsupported_dtype", "int32"),
    ],
)
def test_bad_triangle_has_its_code(change: dict[str, object], code: str, words: str) -> None:
    """A triangle of what has none, or of another size, is refused with what was given and what may be."""
    error = refused({"inputs": {"m": TRIANGLE | change}})

    assert error.code == code
    assert re.search(words, error.detail)


def test_malformed_comes_before_unsupported() -> None:
    """What cannot be read anywhere in the call outranks a dtype that is only not computed with."""
    integer = {**ONE, "dtype": "int64"}

    assert refused({"inputs": {"m": integer, "g": {**ONE, "shape": [3]}}}).code == "malformed"
    assert refused({"inputs": {"m": integer}, "options": {"tol": b"x"}}).code == "malformed"
    assert refused({"inputs": {"m": integer, "g": ONE}}).code == "unsupported_dtype"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x81\x90\x01", "a key that is no string"),
        (b"\x81\x01\x01", "a key that is no string"),
        (b"\x81\xdc\x00\x00\x01", "a key that is no string"),
        (b"\x81\xa1\xff\x01", "string is not UTF-8"),
        (b"\x81", "ends in the middle"),
    ],
)
def test_msgpack_defect_is_named(body: bytes, words: str) -> None:
    """The words are of what is wrong, not of what the reader stumbled over next."""
    with pytest.raises(wire.DecodeError, match=words):
        wire.decode_call(body, Media.MSGPACK, "msign")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"inputs": {"m": [[' + b"9" * 5000 + b"]]}}", "an integer of thousands of digits"),
        (b'{"inputs": {"m": [[' + b"9" * 400 + b"]]}}", "beyond float64"),
        (b"\xff", "not UTF-8"),
        (b"{", "not JSON"),
    ],
)
def test_json_defect_is_named(body: bytes, words: str) -> None:
    """Nobody is told how to configure the server's interpreter."""
    with pytest.raises(wire.DecodeError, match=words) as caught:
        wire.decode_call(body, Media.JSON, "msign")
    assert "sys." not in str(caught.value)


def test_repeated_key_is_malformed() -> None:
    """A map with the same key twice is refused in both media, since either value might be meant."""
    with pytest.raises(wire.DecodeError, match="'inputs' twice"):
        wire.decode_call(b'{"inputs": {}, "inputs": {}}', Media.JSON, "msign")
    with pytest.raises(wire.DecodeError, match="'inputs' twice"):
        wire.decode_call(b"\x82\xa6inputs\x80\xa6inputs\x80", Media.MSGPACK, "msign")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_json_constants_are_malformed(constant: str) -> None:
    """NaN and Infinity written out are no JSON."""
    with pytest.raises(wire.DecodeError, match="null"):
        wire.decode_call(f'{{"inputs": {{"m": [[{constant}]]}}}}'.encode(), Media.JSON, "msign")


def test_nested_lists_are_float64() -> None:
    """Nested lists are a float64 tensor, null standing for NaN."""
    call = wire.decode_call(b'{"inputs": {"m": [[1, 2.5], [null, -4]]}}', Media.JSON, "msign")

    tensor = call.inputs["m"]

    assert (tensor.dtype, tensor.shape) == ("float64", (2, 2))
    np.testing.assert_array_equal(np.frombuffer(tensor.data), [1, 2.5, np.nan, -4])


@pytest.mark.parametrize(("levels", "refused"), [(14, False), (15, True), (5000, True)])
def test_json_nests_at_most_sixteen_deep(levels: int, refused: bool) -> None:
    """The whole body's nesting counts: two maps and fourteen lists are the limit."""
    body = b'{"inputs": {"m": ' + b"[" * levels + b"1.0" + b"]" * levels + b"}}"

    if refused:
        with pytest.raises(wire.DecodeError):
            wire.decode_call(body, Media.JSON, "msign")
    else:
        assert wire.decode_call(body, Media.JSON, "msign").inputs["m"].shape == (1,) * levels


def test_bad_call_leaves_the_others() -> None:
    """An error in one call affects no other call."""
    good = {"function": "msign", "inputs": {"m": {**ONE, "data": b64encode(ONE["data"]).decode()}}}  # type: ignore[arg-type]
    bad: list[Any] = [{**good, "x": 1}, {**good, "function": "nope"}, {"inputs": {}}, {**good, "function": 1}, None]
    text = json.dumps({"calls": [good, *bad, good]})[:-2] + ', {"inputs": {}, "inputs": {}}]}'

    calls = wire.decode_calls(text.encode(), Media.JSON)

    codes = [call.code if isinstance(call, wire.DecodeError) else "" for call in calls]
    assert codes == ["", "malformed", "unknown_function", "malformed", "malformed", "malformed", "", "malformed"]


@pytest.mark.parametrize("envelope", [{}, [], {"calls": {}}, {"calls": [], "x": 1}, {"call": []}])
def test_bad_envelope_raises(envelope: object) -> None:
    """Without a list of calls there is nothing to answer in order."""
    with pytest.raises(wire.DecodeError):
        wire.decode_calls(msgpack.packb(envelope), Media.MSGPACK)


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\xdd\x7f\xff\xff\xff" * 9,
    ],
)
def test_claimed_sizes_allocate_nothing(body: bytes) -> None:
    """A header that claims four billion elements allocates nothing before they arrive."""
    tracemalloc.start()
    with pytest.raises(wire.DecodeError):
        wire.decode_call(body, Media.MSGPACK, "msign")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1 << 20


@pytest.mark.parametrize("element", [b"\x90", b"\x80", b"\x01", b"\x91\x90"])
def test_memory_is_a_small_multiple_of_the_body(element: bytes) -> None:
    """A body of the smallest elements there are does not blow up in memory."""
    body = b"\xdd" + (100_000).to_bytes(4, "big") + element * 100_000

    tracemalloc.start()
    with pytest.raises(wire.DecodeError):
        wire.decode_call(body, Media.MSGPACK, "msign")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 32 * len(body)


@pytest.mark.parametrize(
    "claim", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdd\x7f\xff\xff\xff" * 9, b"\x91" * 5000]
)
def test_claimed_certificates_allocate_nothing(claim: bytes) -> None:
    """An answer that claims four billion certificates allocates nothing before they arrive."""
    body = b"\x81\xaccertificates" + claim

    tracemalloc.start()
    with pytest.raises(wire.DecodeError):
        wire.decode_answer(body, Media.MSGPACK)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1 << 20


def test_answers_may_say_more_than_we_know() -> None:
    """A newer server's extra keys are read over."""
    answer = {
        "outputs": {"x": ONE},
        "certificates": [],
        "timing": {"queue_ms": 1, "device_ms": 2, "batch_size": 3, "fill": 0.5, "copy_ms": 4},
        "device": "cpu",
        "request_id": "r",
        "energy": 1,
    }

    assert wire.decode_answer(msgpack.packb(answer), Media.MSGPACK).timing == wire.Timing(1, 2, 3, 0.5)


def test_tensor_counts_its_bytes() -> None:
    """A tensor whose data does not fill its shape cannot be made."""
    with pytest.raises(ValueError, match="32 bytes, data has 8"):
        wire.Tensor("float64", (2, 2), b"\0" * 8)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"params": {"c": [1] * 5000}}, "params hold more than 4096 values"),
        ({"options": {"c": [[1] * 80] * 80}}, "options hold more than 4096 values"),
        ({"params": {str(number): 1 for number in range(5000)}}, "params hold more than 4096 names"),
        ({"params": {"c" * 5000: 1}}, "params have a name of 5000 characters"),
        ({"params": {"c": "x" * 5000}}, "'c' is a string of 5000 characters"),
        ({"inputs": {str(number): ONE for number in range(100)}}, "inputs hold more than 64 names"),
        ({"inputs": {"m" * 2000: ONE}}, "inputs have a name of 2000 characters"),
        ({"inputs": {"m": {**ONE, "shape": [2**31 - 1] * 65}}}, "the shape of 'm' has 65 dimensions, more than 64"),
    ],
)
def test_values_of_a_call_are_counted(fields: dict[str, object], words: str) -> None:
    """A call has few inputs, parameters and dimensions, with short names; more are refused in words."""
    error = refused({"inputs": {"m": ONE}, **fields})

    assert (error.code, error.detail) == ("malformed", words)


@pytest.mark.parametrize("media", list(Media))
def test_values_of_a_request_are_counted(media: Media) -> None:
    """A request with more values than are wanted is refused as such, and with one less it is read."""
    rows = [[0.5, 1, None]] * 50  # 150 numbers in 51 lists, in two maps
    tree = {"inputs": {"m": rows}}
    body = msgpack.packb(tree) if media is Media.MSGPACK else json.dumps(tree).encode()
    with pytest.raises(wire.TooManyValues) as caught:
        wire.decode_call(body, media, "msign", 150)

    assert (caught.value.code, caught.value.detail) == ("too_large", "the body holds more than 150 values")
    assert wire.decode_call(body, media, "msign", 210).inputs["m"].shape == (50, 3)


@pytest.mark.parametrize("count", [1, 5000, 100_000, 300_000])
def test_many_numbers_are_read_as_few(count: int) -> None:
    """JSON of any number of numbers, strings and nulls, read in one of three ways, has the same content."""
    numbers = [[0.1 * number, number, None] for number in range(count // 3 + 1)]
    body = json.dumps({"inputs": {"m": numbers}, "params": {"name": "x"}}).encode()
    call = wire.decode_call(body, Media.JSON, "msign")
    expected = np.array(numbers, dtype=float)

    np.testing.assert_array_equal(np.frombuffer(call.inputs["m"].data).reshape(expected.shape), expected)
    assert call.params == {"name": "x"}


@pytest.mark.parametrize("size", [1, 2, 3, 3 << 16, (3 << 16) + 1, 1_000_000])
def test_base64_of_any_size(size: int) -> None:
    """Octets of any number survive JSON, in which large ones are encoded and decoded piece by piece."""
    octets = np.random.default_rng(size).integers(0, 256, 8 * size, np.uint8).tobytes()
    sent = wire.Call("msign", {"m": wire.Tensor("float64", (size,), octets)}, {}, {})
    body = b"".join(wire.encode_call(sent, Media.JSON))

    assert json.loads(body)["inputs"]["m"]["data"] == b64encode(octets).decode()
    assert bytes(wire.decode_call(body, Media.JSON, "msign").inputs["m"].data) == octets


@pytest.mark.parametrize("place", [(1 << 18) - 4, (1 << 18) - 8, 0])
def test_padding_within_base64_is_malformed(place: int) -> None:
    """Padding ends base64, wherever its pieces are cut."""
    text = "A" * (1 << 19)
    data = text[:place] + "AAA=" + text[place + 4 :]
    body = json.dumps({"inputs": {"m": {"dtype": "float64", "shape": [49152], "data": data}}}).encode()
    with pytest.raises(wire.DecodeError) as caught:
        wire.decode_call(body, Media.JSON, "msign")

    assert caught.value.code == "malformed"
