"""Ways in which matrix functions go wrong in practice, each of which must not happen here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from evaluating import EPS, Array, answer
from honesty import assert_honest, estimate_of
from matfn_kernels.reference import relative_error
from spectra import orthogonal, positive, rectangular

if TYPE_CHECKING:
    from evaluating import Answer

RNG = np.random.default_rng(60)


def _polar(m: Array) -> Array:
    u, _, vh = np.linalg.svd(m.astype(float), full_matrices=False)
    return np.asarray(u @ vh)


def _honest(found: Answer, exact: Array, most: float) -> None:
    """Within the estimate, and the estimate no larger than `most`."""
    assert_honest(found, exact)
    assert estimate_of(found) <= most


CALLS: dict[str, tuple[dict[str, Array], dict[str, Any]]] = {
    "root": ({"a": positive(8)[0], "g": RNG.standard_normal((3, 8))}, {"r": 3}),
    "inv_root": ({"a": positive(8)[0]}, {"r": 4}),
    "sqrt_pair": ({"a": positive(8)[0]}, {}),
    "msign": ({"m": RNG.standard_normal((8, 4))}, {}),
    "mclip": ({"m": RNG.standard_normal((4, 8))}, {}),
    "mcsgn": ({"a": RNG.standard_normal((5, 5))}, {}),
    "solve_sylvester": ({name: RNG.standard_normal((5, 5)) for name in "abq"}, {}),
    "solve_lyapunov": ({name: RNG.standard_normal((5, 5)) for name in "aq"}, {}),
    "solve_care": ({"a": RNG.standard_normal((4, 4)), "b": np.eye(4), "q": np.eye(4), "r": np.eye(4)}, {}),
    "geometric_mean": ({"a": positive(8)[0], "b": positive(8, seed=1)[0]}, {}),
    "eig_clip": ({"a": positive(8)[0] - 0.5 * np.eye(8)}, {"lo": 0.0}),
    "spectral_projector": ({"a": RNG.standard_normal((5, 5))}, {}),
    "tri_inv": ({"t": np.tril(RNG.standard_normal((6, 6))) + 3 * np.eye(6)}, {}),
    "tri_solve": ({"t": np.eye(6), "b": RNG.standard_normal((6, 2))}, {}),
    "dplr_inv": ({"diag": np.ones(6), "q": RNG.standard_normal((6, 2)), "k": RNG.standard_normal((6, 2))}, {}),
    "dplr_solve": ({"diag": np.ones(6), **{name: RNG.standard_normal((6, 2)) for name in "qkb"}}, {}),
    "delta_rule": ({name: RNG.standard_normal((6, 3)) / 3 for name in "qkv"}, {}),
    "max_logit": ({name: RNG.standard_normal((2, 6, 3)) for name in "qk"}, {}),
    "qk_clip": ({"w_q": np.ones((2, 3, 4)), "w_k": np.ones((2, 3, 4)), "max_logit": np.array([50.0, 500.0])}, {}),
    "frechet_distance": (
        {"mu1": np.zeros(8), "mu2": np.ones(8), "s1": positive(8)[0], "s2": positive(8, seed=1)[0]},
        {},
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", CALLS)
def test_inputs_are_not_written(function: str, dtype: str) -> None:
    """The caller's memory keeps its bits, and no answer lies in it."""
    arrays, keywords = CALLS[function]
    tensors = {name: torch.as_tensor(array.astype(dtype)) for name, array in arrays.items()}
    kept = {name: tensor.clone() for name, tensor in tensors.items()}

    found = answer(function, tensors, **keywords)

    assert all(torch.equal(tensors[name], kept[name]) for name in tensors)
    assert not any(
        np.shares_memory(output, tensor.cpu().numpy()) for output in found.outputs for tensor in tensors.values()
    )


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("function", "power"), [("msign", 0), ("root", 0.25), ("inv_root", -0.25), ("geometric_mean", 1)]
)
def test_scaled_input_is_neither_clamped_nor_lost(function: str, power: float, dtype: str, scale: float) -> None:
    """No absolute floor or ceiling: scaling the input scales the answer, to rounding."""
    a = positive(16, condition=1e2)[0].astype(dtype)
    names = {"msign": "m", "geometric_mean": "ab"}.get(function, "a")
    keywords = {"r": 4} if function.endswith("root") else {}
    factor = np.asarray(scale, dtype)

    plain = answer(function, dict.fromkeys(names, a), **keywords)
    scaled = answer(function, dict.fromkeys(names, a * factor), **keywords)

    expected = plain.outputs[0].astype(float) * float(factor) ** power
    assert relative_error(scaled.outputs[0], expected) < 2e3 * EPS[dtype]
    assert scaled.certificates[0].outcome == "converged"


@pytest.mark.parametrize("function", ["msign", "root", "inv_root"])
def test_identity_is_kept_to_the_last_digits(function: str) -> None:
    """Nothing of the scaling is computed in less than the input's precision."""
    keywords = {} if function == "msign" else {"r": 4}

    found = answer(function, {"m" if function == "msign" else "a": 3 * np.eye(64, dtype="float32")}, **keywords)

    power = {"msign": 0.0, "root": 0.25, "inv_root": -0.25}[function]
    assert relative_error(found.outputs[0], 3.0**power * np.eye(64)) < 4 * EPS["float32"]


@pytest.mark.parametrize("shape", [(128, 128), (128, 32)])
@pytest.mark.parametrize("condition", [1e4, 1e6])
def test_ill_conditioned_polar_factor_is_honest(condition: float, shape: tuple[int, int]) -> None:
    """Small singular values are brought to 1 by as many steps as it takes, not by a fixed number."""
    m = rectangular(shape, condition=condition)[0]

    _honest(answer("msign", {"m": m}), _polar(m), most=1e-8)
    single = answer("msign", {"m": m.astype("float32")})
    _honest(single, _polar(m.astype("float32")), most=50 * EPS["float32"] * condition)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("largest", [1e-3, 1.0, 1e4])
def test_clipping_is_accurate_far_from_the_bound(largest: float, dtype: str) -> None:
    """Singular values far below or far above the bound cost no digit but those of the condition."""
    m = (rectangular((48, 32), condition=1e3)[0] * largest).astype(dtype)
    u, s, vh = np.linalg.svd(m.astype(float), full_matrices=False)

    found = answer("mclip", {"m": m}, hi=1.0)

    _honest(found, (u * np.minimum(s, 1)) @ vh, most=1e-3)
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize(("condition", "most"), [(1e4, 2e-4), (1e6, 1e-2)])
def test_inverse_fourth_root_in_single_precision(condition: float, most: float) -> None:
    """What single precision loses is made up for, and what the data lack is said."""
    a = positive(64, condition=condition)[0].astype("float32")
    w, v = np.linalg.eigh(a.astype(float))

    _honest(answer("inv_root", {"a": a}, r=4, damping=0), (v * w**-0.25) @ v.T, most)


def test_pseudo_inverse_power_keeps_what_is_there() -> None:
    """Eigenvalues a million times smaller than the largest are not taken for zeros, and zeros are."""
    basis = orthogonal(RNG, 24, 16)
    values = np.geomspace(1, 1e-6, 16)
    a = (basis * values) @ basis.T

    found = answer("inv_root", {"a": (a + a.T) / 2}, r=2, damping="range")

    _honest(found, (basis * values**-0.5) @ basis.T, most=1e-6)
    assert found.certificates[0].rank == 16


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("r", [1, 2, 4])
def test_condition_of_ten_digits_is_no_silent_garbage(r: int, dtype: str) -> None:
    """An inverse root is either as accurate as its estimate, or has none, or is refused."""
    a = positive(32, condition=1e10)[0].astype(dtype)
    w, v = np.linalg.eigh(a.astype(float))

    found = answer("inv_root", {"a": a}, r=r, on_failure="nan")

    certificate = found.certificates[0]
    exact = (v * (w + certificate.shift) ** (-1 / r)) @ v.T
    assert_honest(found, exact)
    if dtype == "float64":
        assert certificate.outcome == "converged"
    else:
        assert certificate.outcome != "converged"


BATCHED = [
    "root",
    "inv_root",
    "sqrt_pair",
    "msign",
    "mclip",
    "mcsgn",
    "solve_lyapunov",
    "geometric_mean",
    "eig_clip",
    "tri_inv",
]


@pytest.mark.parametrize("function", BATCHED)
def test_one_nan_stays_alone(function: str) -> None:
    """A matrix that is not finite loses its own answer and no other."""
    arrays, keywords = CALLS[function]
    stacks = {name: np.stack([array] * 3) for name, array in arrays.items()}
    for stack in stacks.values():
        stack[1, 0, 0] = np.nan

    found = answer(function, stacks, on_failure="nan", **keywords)

    alone = answer(function, arrays, **keywords)
    assert [certificate.code for certificate in found.certificates] == [None, "not_finite", None]
    for output, expected in zip(found.outputs, alone.outputs, strict=True):
        assert np.isnan(output[1]).all()
        assert relative_error(output[[0, 2]], np.stack([expected] * 2)).max() < 1e-12


@pytest.mark.parametrize("function", ["tri_inv", "dplr_inv", "delta_rule"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_correlated_keys_do_not_blow_up(function: str, dtype: str) -> None:
    """Systems I + tril(K K^T, -1) of 128 keys with pairwise cosines near 0.9 are solved to rounding."""
    common = RNG.standard_normal((1, 32))
    k = 3 * common + RNG.standard_normal((128, 32))
    k = (k / np.linalg.norm(k, axis=1, keepdims=True)).astype(dtype)
    matrix = np.eye(128) + np.tril(k.astype(float) @ k.T.astype(float), -1)
    inputs = {
        "tri_inv": {"t": matrix.astype(dtype)},
        "dplr_inv": {"diag": np.ones(128, dtype), "q": k, "k": k},
        "delta_rule": {"q": k, "k": k, "v": RNG.standard_normal((128, 8)).astype(dtype)},
    }[function]
    if function == "tri_inv":
        exact = np.linalg.inv(np.tril(inputs["t"].astype(float)))
    elif function == "dplr_inv":
        exact = np.linalg.inv(matrix)
    else:
        exact = np.tril(k.astype(float) @ k.T.astype(float)) @ np.linalg.solve(matrix, inputs["v"].astype(float))

    found = answer(function, inputs)

    assert relative_error(found.outputs[0], exact) < 100 * EPS[dtype]
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("function", ["msign", "mclip", "inv_root"])
def test_batch_as_large_as_the_order_is_not_broadcast(function: str) -> None:
    """With 32 matrices of order 32 each is scaled by its own norm."""
    a = positive(32, items=32) * np.geomspace(1e-6, 1e6, 32)[:, None, None]
    keywords = {"r": 2} if function == "inv_root" else {}
    name = "a" if function == "inv_root" else "m"

    found = answer(function, {name: a}, **keywords)

    alone = [answer(function, {name: matrix}, **keywords).outputs[0] for matrix in a]
    assert relative_error(found.outputs[0], np.stack(alone)).max() < 1e-11
