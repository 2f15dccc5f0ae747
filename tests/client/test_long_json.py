"""Long base64 strings of a JSON body are read where they stand, and nothing else of it is read differently."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import numpy as np
import pytest

from matfn import wire

LONG = 300_000  # bytes of a matrix whose base64 is not given to the parser
SIDE = 200  # floats of 8 bytes: 320 000 bytes a matrix


def tensor(side: int = SIDE, seed: int = 0) -> tuple[dict[str, Any], bytes]:
    """A tensor of a body, and its bytes."""
    octets = np.random.default_rng(seed).standard_normal((side, side)).tobytes()
    return {"dtype": "float64", "shape": [side, side], "data": b64encode(octets).decode()}, octets


def decoded(text: str) -> wire.Call:
    """The call in a JSON body."""
    return wire.decode_call(text.encode(), wire.Media.JSON, "geometric_mean")


@pytest.mark.parametrize("gap", ["", " ", " \n\t "])
def test_long_leaves_come_through(gap: str) -> None:
    """Matrices are what was sent, long or not, whatever space is around the names."""
    (a, first), (b, second) = tensor(), tensor(seed=1)
    small, third = tensor(3)
    text = json.dumps({"inputs": {"a": a, "c": small, "b": b}, "params": {"x": "é"}}, ensure_ascii=False)
    call = decoded(text.replace('"data": ', f'"data"{gap}:{gap}'))

    assert {name: bytes(one.data) for name, one in call.inputs.items()} == {"a": first, "c": third, "b": second}
    assert call.params == {"x": "é"}


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ('{"inputs": {"a": {"data": "', '"}}}}', "Extra data: line 1 column {} (char {})"),
        ('{"inputs":\n {"a": {"data": "', '"}},\n 1}', "line 3 column 2 (char {1})"),
    ],
)
def test_faults_behind_a_leaf_have_their_place(before: str, after: str, place: str) -> None:
    """An error in the text behind a long string is told with its place in the whole body."""
    text = before + "A" * LONG + after
    with pytest.raises(json.JSONDecodeError) as known:
        json.loads(text)
    with pytest.raises(wire.DecodeError) as told:
        decoded(text)

    assert str(known.value) in str(told.value)
    assert place.format(known.value.colno, known.value.pos) in str(told.value)


@pytest.mark.parametrize(
    ("flaw", "words"),
    [("é", "base64"), ("=", "padding"), ("\\u0041", "base64"), ("\n", "control character|base64")],
)
def test_a_flaw_within_a_leaf_is_refused(flaw: str, words: str) -> None:
    """Whatever stands in a long string besides base64 is a fault of the caller's."""
    text = '{"inputs": {"a": {"dtype": "float32", "shape": [1], "data": "' + "A" * LONG + flaw + "A" * LONG + '"}}}'
    with pytest.raises(wire.DecodeError, match=f"(?i){words}"):
        decoded(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs": {"data": "' + "A" * LONG + '"}}',
        '{"data": "' + "A" * LONG + '"}',
        '{"inputs": {}, "params": {"data": "' + "A" * LONG + '"}}',
        '{"inputs": {"a": {"dtype": "' + "A" * LONG + '", "shape": [1], "data": ""}}}',
        '{"inputs": {"a": {"shape": [1], "data": "' + "A" * LONG + '"}}, "function": "\\"data\\": ' + "A" * LONG + '"}',
        '"data": "' + "A" * LONG + '"',
    ],
)
def test_long_strings_elsewhere_are_refused(text: str) -> None:
    """A long string is no tensor, parameter or dtype."""
    with pytest.raises(wire.DecodeError):
        decoded(text)
