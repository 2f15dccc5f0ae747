"""Sequences of different lengths packed into one, by their offsets: `cu_seqlens` of the delta rule."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from evaluating import Array, answer
from honesty import assert_covered
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.reference import value

OFFSETS = (0, 5, 5, 26, 31, 64)
KEYS, VALUES = 4, 3


def _packed(items: int = 2, *, channels: bool = False, states: bool = True, dtype: str = "float64") -> dict[str, Array]:
    """Packed sequences of five lengths, one of them 0, with two of length 5."""
    rng = np.random.default_rng(items)
    k = rng.standard_normal((items, OFFSETS[-1], KEYS))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    found = {"q": rng.standard_normal(k.shape), "k": k, "v": rng.standard_normal((*k.shape[:2], VALUES))}
    found |= {"beta": rng.random(k.shape[:2])}
    found |= {"channel_log_gate": -rng.random(k.shape)} if channels else {"log_gate": -rng.random(k.shape[:2])}
    if states:
        found["initial_state"] = rng.standard_normal((items, len(OFFSETS) - 1, KEYS, VALUES))
    return {name: x.astype(dtype) for name, x in found.items()}


def _alone(inputs: dict[str, Array], one: int) -> dict[str, Array]:
    """One of the sequences."""
    rows = slice(OFFSETS[one], OFFSETS[one + 1])
    parts = {name: x[:, rows] for name, x in inputs.items() if name != "initial_state"}
    return parts | ({"initial_state": inputs["initial_state"][:, one]} if "initial_state" in inputs else {})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("states", [False, True])
def test_each_sequence_has_the_bits_of_its_own_call(dtype: str, *, channels: bool, states: bool) -> None:
    """Outputs and final states, whatever is packed beside it."""
    inputs = _packed(channels=channels, states=states, dtype=dtype)

    found = answer("delta_rule", inputs, cu_seqlens=OFFSETS, chunk=8, scale=0.5)

    assert found.outputs[1].shape == (2, len(OFFSETS) - 1, KEYS, VALUES)
    for one, (start, stop) in enumerate(pairwise(OFFSETS)):
        alone = answer("delta_rule", _alone(inputs, one), chunk=8, scale=0.5)
        np.testing.assert_array_equal(found.outputs[0][:, start:stop], alone.outputs[0])
        np.testing.assert_array_equal(found.outputs[1][:, one], alone.outputs[1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [False, True])
def test_the_whole_is_within_its_estimate(dtype: str, *, channels: bool) -> None:
    """The certificate of a packed row covers all of its sequences together."""
    inputs = _packed(8, channels=channels, dtype=dtype)

    found = answer("delta_rule", inputs, cu_seqlens=OFFSETS)

    for output, truth in zip(found.outputs, value("delta_rule", inputs, {"cu_seqlens": OFFSETS}), strict=True):
        off = (output.astype(np.float64) - truth).reshape(8, -1)
        errors = np.linalg.norm(off, axis=1) / np.linalg.norm(truth.reshape(8, -1), axis=1)
        assert_covered(errors, found.certificates)


def test_sequences_of_very_different_sizes_keep_their_digits() -> None:
    """One scaled by 1e200 beside one scaled by 1e-200: each is as if it were alone."""
    inputs = _packed()
    size = np.repeat([1e200, 1, 1e-200, 1e-200, 1], np.diff(OFFSETS))
    inputs["v"] = inputs["v"] * size[:, None]
    inputs["initial_state"] = inputs["initial_state"] * np.array([1e200, 1, 1e-200, 1e-200, 1])[:, None, None]

    found = answer("delta_rule", inputs, cu_seqlens=OFFSETS)

    for one, (start, stop) in enumerate(pairwise(OFFSETS)):
        alone = answer("delta_rule", _alone(inputs, one))
        np.testing.assert_array_equal(found.outputs[0][:, start:stop], alone.outputs[0])


@pytest.mark.parametrize(
    ("offsets", "code"),
    [
        ((0, 64), None),
        ((0, 0, 64, 64), None),
        ((0, 63), "invalid_shape"),
        ((0, 65), "invalid_shape"),
        ((1, 64), "invalid_parameter"),
        ((0, 9, 5, 64), "invalid_parameter"),
        ((64,), "invalid_parameter"),
        ((0, 1.5, 64), "invalid_parameter"),
        ((0, True, 64), "invalid_parameter"),
        ("0,64", "invalid_parameter"),
    ],
)
def test_offsets_go_from_0_to_the_end(offsets: Any, code: str | None) -> None:
    """They never fall; what they leave out is refused."""
    inputs = _packed(states=False)
    if code is None:
        assert answer("delta_rule", inputs, cu_seqlens=offsets).outputs[0].shape == (2, 64, VALUES)
        return
    with pytest.raises(Rejection) as refused:
        answer("delta_rule", inputs, cu_seqlens=offsets)
    assert refused.value.code == code


def test_there_is_one_state_a_sequence() -> None:
    """Another number of initial states is refused, and so are states of single sequences."""
    inputs = _packed()
    for states in (inputs["initial_state"][:, :3], inputs["initial_state"][:, 0]):
        with pytest.raises(Rejection) as refused:
            answer("delta_rule", inputs | {"initial_state": states}, cu_seqlens=OFFSETS)
        assert refused.value.code == "invalid_shape"


def test_sequences_without_steps_keep_their_states() -> None:
    """Nothing is packed: the outputs are empty and the final states the initial ones."""
    state = np.arange(12.0).reshape(2, 3, 2)
    inputs = {"q": np.ones((0, 3)), "k": np.ones((0, 3)), "v": np.ones((0, 2)), "initial_state": state}

    found = answer("delta_rule", {name: x[None] for name, x in inputs.items()}, cu_seqlens=(0, 0, 0))

    assert found.outputs[0].shape == (1, 0, 2)
    np.testing.assert_array_equal(found.outputs[1][0], state)
