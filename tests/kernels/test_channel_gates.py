"""The delta rule with a gate for each channel of the keys, and with a scale, against the recurrence step by step."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

from evaluating import EPS, Array, answer
from honesty import assert_covered, estimate_of
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.reference import value

KINDS = ("plain", "unequal", "open", "closing", "steep", "identical keys", "no state")


def _sequence(kind: str, length: int, widths: tuple[int, int], seed: int = 0) -> dict[str, Array]:
    """Two sequences; gates that differ by channel, close for ever, or multiply to less than float64's range."""
    rng = np.random.default_rng(length + seed)
    k = rng.standard_normal((2, length, widths[0]))
    k /= np.linalg.norm(k, axis=2, keepdims=True)
    found = {"q": rng.standard_normal(k.shape), "k": k, "v": rng.standard_normal((2, length, widths[1]))}
    found |= {"beta": rng.random((2, length)), "initial_state": rng.standard_normal((2, *widths))}
    gates = -rng.random(k.shape)
    match kind:
        case "unequal":
            gates *= 10.0 ** rng.uniform(-4, 1, (2, 1, widths[0]))
        case "open":
            gates *= 0
        case "closing":
            gates[:, ::5, ::2], gates[:, ::3] = -1e30, gates[:, ::3] / 100
        case "steep":
            gates = -30 * rng.random(k.shape)
        case "identical keys":
            found["k"] = np.repeat(k[:, :1], length, axis=1)
        case "no state":
            del found["initial_state"]
    return found | {"channel_log_gate": gates}


def _distance(x: Array, truth: Array) -> Array:
    """Relative error of each item."""
    flat, target = x.astype(np.float64).reshape(len(x), -1), truth.reshape(len(truth), -1)
    return np.asarray(np.linalg.norm(flat - target, axis=1) / np.linalg.norm(target, axis=1))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("length", "widths", "chunk"), [(1, (4, 3), 64), (63, (8, 5), 64), (75, (5, 2), 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_state_are_within_their_estimate(
    kind: str, length: int, widths: tuple[int, int], chunk: int, dtype: str
) -> None:
    """At every length of a chunk, whatever the gates of the channels are."""
    least = np.finfo(dtype).min  # float16 has no -1e30
    inputs = {name: np.maximum(x, least).astype(dtype) for name, x in _sequence(kind, length, widths).items()}

    found = answer("delta_rule", inputs, chunk=chunk, scale=widths[0] ** -0.5)

    truths = value("delta_rule", inputs, {"scale": widths[0] ** -0.5})
    errors = [_distance(*pair) for pair in zip(found.outputs, truths, strict=True)]
    assert_covered(np.max(errors, axis=0), found.certificates, slack=8 * EPS["float64"])
    assert {certificate.outcome for certificate in found.certificates} == {"converged"}


def test_bfloat16_is_exact_on_its_own_numbers() -> None:
    """Of bfloat16 sequences the outputs are those of the recurrence on these numbers, but for the last rounding."""
    inputs = {name: torch.from_numpy(x).bfloat16() for name, x in _sequence("plain", 80, (16, 8)).items()}

    found = answer("delta_rule", inputs, scale=0.25)

    truths = value("delta_rule", {name: x.double().numpy() for name, x in inputs.items()}, {"scale": 0.25})
    errors = [_distance(*pair) for pair in zip(found.outputs, truths, strict=True)]
    assert_covered(np.max(errors, axis=0), found.certificates)
    assert estimate_of(found) < torch.finfo(torch.bfloat16).eps


def test_equal_gates_of_all_channels_are_one_gate() -> None:
    """To rounding the answer is that of `log_gate`."""
    inputs = _sequence("plain", 50, (6, 4))
    gate = inputs.pop("channel_log_gate")[..., 0]

    shared = answer("delta_rule", inputs | {"log_gate": gate})
    found = answer("delta_rule", inputs | {"channel_log_gate": np.repeat(gate[..., None], 6, 2)})

    for one, other in zip(shared.outputs, found.outputs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def _recurrence(inputs: dict[str, Array]) -> tuple[Array, Array]:
    """Outputs and final state of one sequence in 50 digits."""
    wide = {name: np.vectorize(mpmath.mpf, otypes=[object])(x) for name, x in inputs.items()}
    state, outputs = wide["initial_state"], []
    with mpmath.workdps(50):
        gates = np.vectorize(mpmath.exp, otypes=[object])(wide["channel_log_gate"])
        for i, key in enumerate(wide["k"]):
            state = gates[i][:, None] * state
            state = state + wide["beta"][i] * np.outer(key, wide["v"][i] - key @ state)
            outputs.append(wide["q"][i] @ state)
    return np.array(outputs), state


def _relative(found: Array, exact: Array) -> float:
    with mpmath.workdps(50):
        pairs = zip(found.ravel().tolist(), exact.ravel(), strict=True)
        missing = mpmath.sqrt(mpmath.fsum((mpmath.mpf(x) - y) ** 2 for x, y in pairs))
        return float(missing / mpmath.sqrt(mpmath.fsum(y**2 for y in exact.ravel())))


@pytest.mark.parametrize("steps", [12, 40])
def test_states_outlive_gates_that_underflow_together(steps: int) -> None:
    """A large state keeps its digits in the channel that decays least, though the product of its gates underflows."""
    rng = np.random.default_rng(steps)
    keys = rng.standard_normal((steps, 3)) / 3
    inputs = {"q": rng.standard_normal(keys.shape), "k": keys, "v": np.zeros((steps, 2)), "beta": rng.random(steps)}
    inputs |= {"channel_log_gate": np.array([-1e3, -700, -900]) / steps * np.ones(keys.shape)}
    inputs["initial_state"] = 1e300 * rng.standard_normal((3, 2))

    found = answer("delta_rule", inputs)

    exact = _recurrence(inputs)
    assert max(_relative(*pair) for pair in zip(found.outputs, exact, strict=True)) <= estimate_of(found)
    assert found.outputs[1].all()
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize(("length", "gate"), [(16, -34 + 1e-13), (60, -5.0999999), (64, -10.1)])
def test_products_of_many_gates_keep_their_digits(length: int, gate: float) -> None:
    """The rounding of sums of gates, which answer and check would have in common, is not in the answer."""
    ones = np.ones((length, 2))
    inputs = {"q": ones, "k": ones, "v": 0 * ones, "beta": np.zeros(length), "initial_state": np.ones((2, 2))}
    inputs["channel_log_gate"] = gate * ones * [1, 1 + 1e-3]

    found = answer("delta_rule", inputs)

    error = max(_relative(*pair) for pair in zip(found.outputs, _recurrence(inputs), strict=True))
    assert error <= min(4e-15, estimate_of(found))


@pytest.mark.parametrize("scale", [0.0, -2.0, 1e-30, 7e200, 1 / 3])
def test_scale_multiplies_the_outputs_alone(scale: float) -> None:
    """By any finite factor, within the estimate; the state is the same bits."""
    inputs = _sequence("plain", 20, (4, 3))
    plain, found = answer("delta_rule", inputs), answer("delta_rule", inputs, scale=scale)

    np.testing.assert_allclose(found.outputs[0], scale * plain.outputs[0], rtol=4 * EPS["float64"])
    np.testing.assert_array_equal(found.outputs[1], plain.outputs[1])


def test_gates_of_both_kinds_are_refused() -> None:
    """Nothing says which ones would be meant."""
    inputs = _sequence("plain", 5, (3, 2))

    with pytest.raises(Rejection, match="log_gate and channel_log_gate are both given"):
        answer("delta_rule", inputs | {"log_gate": inputs["beta"] * 0})


def test_growing_gates_of_a_channel_are_refused() -> None:
    """A gate above 1 in one channel of one sequence is named with its item."""
    inputs = _sequence("plain", 5, (3, 2))
    inputs["channel_log_gate"][1, 4, 2] = 1e-3

    with pytest.raises(Rejection, match="channel_log_gate of item 1 is above 0"):
        answer("delta_rule", inputs)


@pytest.mark.parametrize("name", ["log_gate", "channel_log_gate"])
def test_a_closed_gate_parts_sequences_that_are_packed_in_one(name: str) -> None:
    """A gate of -1e5 at a sequence's first step forgets all that came before, wherever chunks begin."""
    one, other = (_sequence("no state", length, (4, 3), seed=length) for length in (21, 30))
    for part in (one, other):
        gates = part.pop("channel_log_gate")
        part[name] = gates if name == "channel_log_gate" else gates[..., 0]
    packed = {key: np.concatenate([one[key], other[key]], axis=1) for key in one}
    packed[name][:, 21] = -1e5

    found, first, second = (answer("delta_rule", x, chunk=16) for x in (packed, one, other))

    np.testing.assert_allclose(found.outputs[0][:, :21], first.outputs[0], atol=1e-13)
    np.testing.assert_allclose(found.outputs[0][:, 21:], second.outputs[0], atol=1e-13)
    np.testing.assert_allclose(found.outputs[1], second.outputs[1], atol=1e-13)
