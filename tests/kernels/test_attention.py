"""The delta rule, the largest logit and QK-Clip against their definitions in float64."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluating import EPS, answer
from honesty import assert_covered
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.reference import value

Array: TypeAlias = NDArray[Any]
RNG = np.random.default_rng(7)


def _distance(x: Array, truth: Array) -> Array:
    """Relative error of each item."""
    flat, target = x.astype(np.float64).reshape(len(x), -1), truth.reshape(len(truth), -1)
    peak = np.abs(target).max(initial=1e-300)
    size = np.linalg.norm(target / peak, axis=1)
    return np.asarray(np.linalg.norm((flat - target) / peak, axis=1) / np.where(size > 0, size, 1))


def _sequence(kind: str, length: int, widths: tuple[int, int], dtype: str) -> dict[str, Array]:
    """Sequences that are easy, or that break products of powers, running sums and unnormalised keys."""
    rng = np.random.default_rng(length)
    k = rng.standard_normal((3, length, widths[0]))
    k /= np.linalg.norm(k, axis=2, keepdims=True)
    found = {"q": rng.standard_normal(k.shape), "k": k, "v": rng.standard_normal((3, length, widths[1]))}
    if kind == "identical keys":
        found["k"] = np.repeat(k[:, :1], length, axis=1)
    elif kind == "long keys":
        found |= {"k": 1.3 * k, "beta": rng.random((3, length))}
    elif kind == "reflections":
        found["beta"] = 2 * rng.random((3, length))
    elif kind in {"gated", "closing gates"}:
        found["log_gate"] = -rng.random((3, length)) * (1 if kind == "gated" else 1e-2)
        found |= {"beta": rng.random((3, length)), "initial_state": rng.standard_normal((3, *widths))}
    if kind == "closing gates":
        found["log_gate"][:, ::7] = -1e30
    return {name: array.astype(dtype) for name, array in found.items()}


KINDS = ("unit keys", "identical keys", "long keys", "reflections", "gated", "closing gates")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("length", "widths", "chunk"), [(1, (4, 3), 64), (63, (8, 5), 64), (150, (16, 1), 32)])
@pytest.mark.parametrize("kind", KINDS)
def test_delta_rule_meets_its_estimate(kind: str, length: int, widths: tuple[int, int], chunk: int, dtype: str) -> None:
    """Outputs and final state are those of the recurrence to within the certificate, at every chunk length."""
    inputs = _sequence(kind, length, widths, dtype)

    found = answer("delta_rule", inputs, chunk=chunk)

    for output, truth in zip(found.outputs, value("delta_rule", inputs, {}), strict=True):
        assert_covered(_distance(output, truth), found.certificates, slack=4 * EPS["float64"])
    assert {certificate.outcome for certificate in found.certificates} == {"converged"}


def test_delta_rule_counts_cancellation_in_its_condition() -> None:
    """A query that is nearly orthogonal to the key has an ill-conditioned output, which converges for what it is."""
    inputs = {"q": np.array([[[1.0, 1.0]]]), "k": np.array([[[0.6, -0.6001]]]), "v": np.array([[[1.0]]])}

    certificate = answer("delta_rule", inputs).certificates[0]

    assert certificate.condition is not None
    assert certificate.condition > 1e3
    assert certificate.outcome == "converged"


def test_delta_rule_continues_from_its_state() -> None:
    """Two halves joined by the state equal the whole, whatever the chunk."""
    inputs = _sequence("gated", 90, (8, 6), "float64")
    whole = answer("delta_rule", inputs)
    parts = [{n: a[:, rows] for n, a in inputs.items() if n != "initial_state"} for rows in (np.s_[:37], np.s_[37:])]

    first = answer("delta_rule", parts[0] | {"initial_state": inputs["initial_state"]}, chunk=5)
    second = answer("delta_rule", parts[1] | {"initial_state": first.outputs[1]}, chunk=1)

    np.testing.assert_allclose(np.concatenate([first.outputs[0], second.outputs[0]], 1), whole.outputs[0], atol=1e-13)
    np.testing.assert_allclose(second.outputs[1], whole.outputs[1], atol=1e-13)


@pytest.mark.parametrize("scale", [1e-35, 1e35])
def test_delta_rule_is_linear_in_values(scale: float) -> None:
    """Values and queries at either end of the range of float32 cost no digit."""
    inputs = _sequence("gated", 40, (8, 6), "float32")
    scaled = inputs | {n: (inputs[n] * np.float32(scale)).astype("float32") for n in ("v", "initial_state")}

    found = answer("delta_rule", scaled)

    assert _distance(found.outputs[0] / np.float64(scale), value("delta_rule", inputs, {})[0]).max() < 1e-6


def test_delta_rule_refuses_growing_gates() -> None:
    """A gate above 1 is refused by name, a gate that is not finite as such."""
    inputs = _sequence("gated", 5, (3, 2), "float64")
    with pytest.raises(Rejection, match="log_gate of item 1") as caught:
        answer("delta_rule", inputs | {"log_gate": inputs["log_gate"] + np.array([0, 2, 0])[:, None]})
    assert (caught.value.code, caught.value.index) == ("invalid_parameter", 1)

    with pytest.raises(Rejection) as caught:
        answer("delta_rule", inputs | {"log_gate": np.full((3, 5), -np.inf)})
    assert caught.value.code == "not_finite"


def test_delta_rule_of_nothing_returns_its_state() -> None:
    """An empty sequence leaves the state as it was."""
    state = RNG.standard_normal((3, 2))

    found = answer(
        "delta_rule", {"q": np.ones((0, 3)), "k": np.ones((0, 3)), "v": np.ones((0, 2)), "initial_state": state}
    )

    np.testing.assert_array_equal(found.outputs[1], state)
    assert found.outputs[0].shape == (0, 2)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("heads", "lengths", "width"),
    [
        ((4, 4), (60, 60), 16),
        ((8, 2), (33, 70), 128),
        ((4, 1), (70, 33), 64),
        ((2, 1), (1100, 700), 8),
        ((1, 1), (1, 1), 3),
    ],
)
def test_max_logit_equals_its_definition(
    heads: tuple[int, int], lengths: tuple[int, int], width: int, dtype: str, *, causal: bool
) -> None:
    """Blocks, groups of heads and the causal mask give what the whole matrix of logits gives."""
    q = RNG.standard_normal((2, heads[0], lengths[0], width)).astype(dtype)
    k = RNG.standard_normal((2, heads[1], lengths[1], width)).astype(dtype)

    found = answer("max_logit", {"q": q, "k": k}, causal=causal)

    assert found.outputs[0].dtype == dtype
    errors = _distance(found.outputs[0], *value("max_logit", {"q": q, "k": k}, {"causal": causal}))
    assert_covered(errors, found.certificates, slack=EPS["float64"])
    assert {certificate.outcome for certificate in found.certificates} == {"converged"}


@pytest.mark.parametrize("width", [1, 65, 128, 1000, 4096])
@pytest.mark.parametrize("value", [1 / 3, 0.7, 1 + 2**-23])
def test_equal_terms_stay_within_the_estimate(value: float, width: int) -> None:
    """Roundings that all go the same way are bounded too, and no width keeps a logit from converging."""
    q = np.full((1, 2, width), value, "float32")

    found = answer("max_logit", {"q": q, "k": q}, precision="fp32", scale=1.0)

    exact = width * float(np.float32(value)) ** 2
    assert_covered(abs(found.outputs[0][0] - exact) / exact, found.certificates)
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_max_logit_knows_no_scale(scale: float) -> None:
    """Queries and keys whose products leave the range of float32 are answered if their maximum does not."""
    q, k = RNG.standard_normal((2, 1, 3, 20, 8)).astype("float32")

    found = answer("max_logit", {"q": q * np.float32(scale), "k": k / np.float32(scale)}, scale=2.0)

    (truth,) = value("max_logit", {"q": q, "k": k}, {"scale": 2.0})
    assert _distance(found.outputs[0], truth).max() < 1e-6


@pytest.mark.parametrize(("q", "k"), [((2, 3, 4), (2, 0, 4)), ((2, 3, 0), (1, 5, 0)), ((2, 3, 4), (2, 5, 4))])
def test_max_logit_of_nothing_is_zero(q: tuple[int, int, int], k: tuple[int, int, int]) -> None:
    """No keys, no width, zero rows or rows without a common coordinate: the largest logit is 0, exactly."""
    apart = answer("max_logit", {"q": np.array([[[1.0, 0.0]]]), "k": np.array([[[0.0, 1.0]]])})
    assert apart.outputs[0] == 0
    assert apart.certificates[0].outcome == "converged"
    found = answer("max_logit", {"q": np.zeros(q), "k": np.zeros(k)})
    np.testing.assert_array_equal(found.outputs[0], np.zeros(2))
    assert found.certificates[0].outcome == "converged"


def test_late_keys_are_visible_to_early_queries_of_a_longer_cache() -> None:
    """With s > t the first query sees s - t + 1 keys; with s < t the first t - s queries see none."""
    q, k = np.ones((1, 2, 1)), np.array([[[1.0], [2.0], [4.0], [9.0]]])
    assert answer("max_logit", {"q": q * [[1], [0]], "k": k}).outputs[0] == 4
    assert answer("max_logit", {"q": np.array([[[5.0], [5.0], [1.0]]]), "k": k[:, :1]}).outputs[0] == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("variant", "heads", "widths"),
    [("mha", (4, 4), (8, 8)), ("gqa", (6, 2), (8, 8)), ("gqa", (4, 4), (8, 8)), ("mla", (4, 4), (12, 8))],
)
def test_every_head_shrinks_by_its_gamma(
    variant: str, heads: tuple[int, int], widths: tuple[int, int], dtype: str
) -> None:
    """Logits of each head are multiplied by min(1, tau / max_logit), and those below tau keep their bits."""
    w_q = RNG.standard_normal((2, heads[0], widths[0], 5)).astype(dtype)
    w_k = RNG.standard_normal((2, heads[1], widths[1], 7)).astype(dtype)
    limit = np.abs(RNG.standard_normal((2, heads[0])) * 200).astype(dtype)
    limit[:, :1] = 3

    x, y, z = answer("qk_clip", {"w_q": w_q, "w_k": w_k, "max_logit": limit}, variant=variant, tau=50).outputs

    gamma = np.minimum(1, 50 / limit.astype(np.float64))
    np.testing.assert_allclose(z, gamma, rtol=EPS[dtype])
    group, nope = heads[0] // heads[1], widths[1]
    for h in range(heads[0]):
        product = np.einsum("bdm,bdn->bmn", x[:, h, :nope], y[:, h // group])
        before = np.einsum("bdm,bdn->bmn", w_q[:, h, :nope], w_k[:, h // group])
        assert _distance(product, gamma[:, h, None, None] * before.astype(np.float64)).max() < 20 * EPS[dtype]
        np.testing.assert_allclose(x[:, h, nope:], w_q[:, h, nope:] * gamma[:, h, None, None], rtol=2 * EPS[dtype])
    if variant == "mha" or heads[0] == heads[1]:
        np.testing.assert_array_equal(x[:, 0], w_q[:, 0])
        np.testing.assert_array_equal(y[:, 0], w_k[:, 0])


def test_shared_keys_shrink_by_the_largest_gamma() -> None:
    """In a group the keys take the square root of the largest gamma, never of the smallest."""
    ones = {"w_q": np.ones((2, 1, 1)), "w_k": np.ones((1, 1, 1)), "max_logit": np.array([400.0, 1600.0])}

    x, y, z = answer("qk_clip", ones, variant="gqa").outputs

    np.testing.assert_allclose(z, [1 / 4, 1 / 16])
    np.testing.assert_allclose(y.ravel(), [1 / 2])
    np.testing.assert_allclose(x.ravel(), [1 / 2, 1 / 8])


@pytest.mark.parametrize("variant", ["mha", "gqa", "mla"])
def test_weights_are_right_where_gamma_underflows(variant: str) -> None:
    """Weights shrink by gamma^(1/2), which float64 holds where it does not hold gamma; the certificate says which."""
    inputs = {"w_q": np.ones((1, 2, 2)), "w_k": np.ones((1, 1 if variant == "mla" else 2, 2))}

    found = answer("qk_clip", {**inputs, "max_logit": np.array([1e300])}, variant=variant, tau=1e-300)

    x, y, z = found.outputs
    np.testing.assert_allclose(x[0, 0], 1e-300, rtol=1e-14)
    np.testing.assert_allclose(y, 1e-300, rtol=1e-14)
    assert z == 0
    assert found.certificates[0].error_estimate is None


@pytest.mark.parametrize("variant", ["mha", "gqa", "mla"])
def test_no_heads_are_clipped(variant: str) -> None:
    """Layers without heads have empty answers."""
    inputs = {"w_q": np.ones((3, 0, 2, 2)), "w_k": np.ones((3, 0, 2, 2)), "max_logit": np.ones((3, 0))}

    found = answer("qk_clip", inputs, variant=variant)

    assert [output.shape for output in found.outputs] == [(3, 0, 2, 2), (3, 0, 2, 2), (3, 0)]


def test_keys_without_queries_stay() -> None:
    """No query head, no clipping."""
    inputs = {"w_q": np.ones((0, 2, 2)), "w_k": np.ones((3, 2, 2)), "max_logit": np.ones(0)}

    x, y, z = answer("qk_clip", inputs, variant="gqa").outputs

    np.testing.assert_array_equal(y, 1.0)
    assert (x.shape, z.shape) == ((0, 2, 2), (0,))


def test_no_logit_at_all_is_allowed() -> None:
    """With tau = 0 every head that has a logit is switched off."""
    ones = {"w_q": np.ones((2, 1, 1)), "w_k": np.ones((2, 1, 1)), "max_logit": np.array([1.0, 0.0])}

    x, y, z = answer("qk_clip", ones, tau=0.0).outputs

    assert [x.ravel().tolist(), y.ravel().tolist(), z.tolist()] == [[0.0, 1.0]] * 3


@pytest.mark.parametrize(
    ("function", "shapes", "keywords"),
    [
        ("max_logit", {"q": (3, 2, 4), "k": (2, 2, 4)}, {}),
        ("max_logit", {"q": (3, 2, 4), "k": (0, 2, 4)}, {}),
        ("max_logit", {"q": (2, 2, 4), "k": (2, 2, 3)}, {}),
        ("qk_clip", {"w_q": (4, 3, 1), "w_k": (2, 3, 1), "max_logit": (4,)}, {}),
        ("qk_clip", {"w_q": (4, 3, 1), "w_k": (4, 2, 1), "max_logit": (4,)}, {}),
        ("qk_clip", {"w_q": (4, 2, 1), "w_k": (4, 3, 1), "max_logit": (4,)}, {"variant": "mla"}),
        ("qk_clip", {"w_q": (4, 3, 1), "w_k": (3, 3, 1), "max_logit": (4,)}, {"variant": "gqa"}),
        ("delta_rule", {"q": (5, 3), "k": (5, 3), "v": (4, 2)}, {}),
    ],
)
def test_heads_that_do_not_fit_are_refused(
    function: str, shapes: dict[str, tuple[int, ...]], keywords: dict[str, Any]
) -> None:
    """Heads that cannot be grouped, widths that cannot be multiplied, and lengths that differ."""
    with pytest.raises(Rejection) as caught:
        answer(function, {name: np.ones(shape) for name, shape in shapes.items()}, **keywords)

    assert caught.value.code == "invalid_shape"
