"""Answers do not depend on the composition of the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from evaluating import Array, answer
from honesty import estimate_of
from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.validation import Limits, parse_call
from matfn_kernels.reference import relative_error
from matfn_kernels.running.evaluation import batch_of, concatenate, evaluate
from matfn_kernels.running.plan import make_plan
from spectra import positive, rectangular

RNG = np.random.default_rng(11)


def _triangles(items: int, order: int) -> Array:
    return np.random.default_rng(5).standard_normal((items, order, order)) / order + 2 * np.eye(order)


def _low_rank(items: int, order: int) -> dict[str, Array]:
    rng = np.random.default_rng(6)
    keys = rng.standard_normal((items, order, 8)) / 8
    return {"diag": 1 + rng.random((items, order)), "q": keys, "k": keys, "b": rng.standard_normal((items, order, 3))}


def _equation(items: int, rows: int, columns: int) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    shapes = {"a": (rows, rows), "b": (columns, columns), "q": (rows, columns)}
    return {name: rng.standard_normal((items, *shape)) for name, shape in shapes.items()}


def _riccati(items: int, order: int) -> dict[str, Array]:
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((items, order, order)), rng.standard_normal((items, order, 3))
    weights = {"q": order, "r": 3}
    return {"a": a, "b": b} | {name: np.tile(np.eye(size), (items, 1, 1)) for name, size in weights.items()}


def _gaussians(items: int, order: int) -> dict[str, Array]:
    means = np.random.default_rng(7).standard_normal((2, items, order))
    first, second = positive(order, condition=1e3, items=items), positive(order, items=items, seed=1)
    return {"s1": first, "mu1": means[0], "mu2": means[1], "s2": second}


def _with_basis(items: int, order: int) -> dict[str, Array]:
    a, basis = positive(order, items=items), np.random.default_rng(10).standard_normal((items, order, order))
    return {"a": a, "q": np.linalg.qr(basis)[0]}


def _weights(items: int) -> dict[str, Array]:
    rng = np.random.default_rng(8)
    weights = {"w_q": rng.standard_normal((items, 4, 8, 5)), "w_k": rng.standard_normal((items, 2, 8, 5))}
    return weights | {"max_logit": 200 * rng.random((items, 4))}


def _sequence(items: int, length: int, *, channels: bool = False) -> dict[str, Array]:
    rng = np.random.default_rng(9)
    keys = rng.standard_normal((items, length, 8)) / 8**0.5
    gates = {"beta": rng.random((items, length)), "log_gate": -rng.random((items, length))}
    gates = {"beta": gates["beta"], "channel_log_gate": -rng.random(keys.shape)} if channels else gates
    return {"k": keys, "q": rng.standard_normal(keys.shape), "v": rng.standard_normal((items, length, 5)), **gates}


CASES: list[tuple[str, dict[str, Array], dict[str, Any]]] = [
    ("inv_root", {"a": positive(24, condition=1e3, items=6)}, {"r": 4}),
    ("inv_root", {"a": positive(80, condition=1e7, items=6)}, {"r": 2}),
    ("inv_root", {"a": positive(70, condition=1e3, items=6)}, {"r": 4, "tol": 1e-3}),
    ("root", {"a": positive(24, condition=1e3, items=6), "g": RNG.standard_normal((6, 5, 24))}, {"r": 3}),
    ("inv_root", {"a": _triangles(6, 20)}, {"r": 3, "structure": "general"}),
    ("sqrt_pair", {"a": positive(24, condition=1e3, items=6)}, {}),
    ("log", {"a": positive(24, condition=1e3, items=6)}, {}),
    ("exp", {"a": positive(24, condition=1e3, items=6)}, {"t": 5.0}),
    ("power", {"a": positive(24, condition=1e3, items=6), "g": RNG.standard_normal((6, 5, 24))}, {"p": -0.7}),
    ("log", {"a": _triangles(6, 20)}, {"structure": "general"}),
    ("exp", {"a": 4 * RNG.standard_normal((6, 20, 20))}, {"structure": "general"}),
    ("power", {"a": _triangles(6, 20), "g": RNG.standard_normal((6, 5, 20))}, {"p": 2.3, "structure": "general"}),
    ("power", {"a": _triangles(6, 20)}, {"p": -3.0, "structure": "general"}),
    ("msign", {"m": rectangular((40, 24), condition=1e3, items=6)}, {}),
    ("msign", {"m": rectangular((24, 24), condition=1e2, items=6)}, {"steps": 6}),
    ("mclip", {"m": rectangular((24, 40), condition=1e3, items=6)}, {"hi": 0.5}),
    ("polar", {"m": rectangular((24, 40), condition=1e3, items=6)}, {}),
    ("norm2", {"m": rectangular((24, 40), condition=1e3, items=6)}, {}),
    ("cond", {"m": rectangular((24, 40), condition=1e3, items=6)}, {}),
    ("mcsgn", {"a": RNG.standard_normal((6, 12, 12))}, {}),
    ("spectral_projector", {"a": RNG.standard_normal((6, 12, 12))}, {"half": "left"}),
    ("solve_sylvester", _equation(6, 9, 12), {}),
    ("solve_lyapunov", {"a": RNG.standard_normal((6, 10, 10)), "q": RNG.standard_normal((6, 10, 10))}, {}),
    ("solve_discrete_lyapunov", {name: RNG.standard_normal((6, 9, 9)) for name in "aq"}, {}),
    ("solve_care", _riccati(6, 8), {}),
    ("solve_dare", _riccati(6, 8), {}),
    ("solve_care", _riccati(6, 8), {"gain": True}),
    ("solve_dare", _riccati(6, 8), {"gain": True}),
    ("tri_inv", {"t": _triangles(6, 70)}, {}),
    ("tri_solve", {"t": _triangles(6, 40), "b": RNG.standard_normal((6, 40, 3))}, {"transpose": True}),
    ("dplr_solve", _low_rank(6, 100), {}),
    ("dplr_inv", {k: v for k, v in _low_rank(6, 100).items() if k != "b"}, {}),
    ("frechet_distance", _gaussians(6, 24), {}),
    ("eig_clip", {"a": positive(24, condition=1e3, items=6)}, {"lo": 0.01, "hi": 0.5}),
    ("eigh", {"a": positive(24, condition=1e3, items=6)}, {}),
    ("eigenbasis", _with_basis(6, 24), {}),
    ("eigenbasis", _with_basis(6, 24), {"order": "descending"}),
    ("geometric_mean", {"a": positive(24, items=6), "b": positive(24, condition=1e4, items=6, seed=1)}, {}),
    ("max_logit", {"q": RNG.standard_normal((6, 4, 50, 8)), "k": RNG.standard_normal((6, 2, 70, 8))}, {}),
    ("qk_clip", _weights(6), {"variant": "gqa"}),
    ("delta_rule", _sequence(6, 70), {"chunk": 32}),
    ("delta_rule", _sequence(6, 70, channels=True), {"scale": 0.5}),
    ("delta_rule", _sequence(6, 70), {"cu_seqlens": (0, 30, 30, 60, 70)}),
]
IDS = [f"{function}-{'-'.join(map(str, keywords.values()))}" for function, _, keywords in CASES]


def _cast(inputs: dict[str, Array], dtype: str) -> dict[str, Array]:
    return {name: array.astype(dtype) for name, array in inputs.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("function", "inputs", "keywords"), CASES, ids=IDS)
def test_batch_equals_one_by_one(function: str, inputs: dict[str, Array], keywords: dict[str, Any], dtype: str) -> None:
    """A batch's answers are those of its matrices alone, to within rounding."""
    inputs = _cast(inputs, dtype)
    together = answer(function, inputs, **keywords)

    for i in range(6):
        alone = answer(function, {name: array[i : i + 1] for name, array in inputs.items()}, **keywords)
        for output, single in zip(together.outputs, alone.outputs, strict=True):
            estimate = estimate_of(together, i)
            assert relative_error(output[i].reshape(1, -1), single[0].reshape(1, -1).astype("float64")) <= 2 * estimate
        assert together.certificates[i].method == alone.certificates[0].method
        assert together.certificates[i].outcome == alone.certificates[0].outcome


def _spoilt(function: str, inputs: dict[str, Array], kind: str) -> dict[str, Array]:
    """The inputs with matrix 3 replaced by one without an answer, or by a hard one."""
    changed = {name: array.copy() for name, array in inputs.items()}
    main = next(iter(changed))
    if kind == "not_finite":
        changed[main][3] = np.nan
    elif kind == "hard":
        changed[main][3] = 1e-3 * changed[main][3] + (np.ones_like(changed[main][3]) if function != "tri_inv" else 0)
    elif kind == "other":
        changed[main][3] = changed[main][2] * 3
    return changed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["not_finite", "hard", "other"])
@pytest.mark.parametrize(("function", "inputs", "keywords"), CASES, ids=IDS)
def test_content_of_another_matrix_changes_no_bit(
    function: str, inputs: dict[str, Array], keywords: dict[str, Any], kind: str, dtype: str
) -> None:
    """NaN, a nearly singular matrix or another one in the batch changes no bit of the other answers."""
    inputs = _cast(inputs, dtype)
    before = answer(function, inputs, on_failure="nan", **keywords)
    after = answer(function, _spoilt(function, inputs, kind), on_failure="nan", **keywords)

    others = [0, 1, 2, 4, 5]
    for first, second in zip(before.outputs, after.outputs, strict=True):
        np.testing.assert_array_equal(first[others], second[others])
    assert [before.certificates[i] for i in others] == [after.certificates[i] for i in others]
    if kind == "not_finite":
        assert after.certificates[3].code == "not_finite"
        assert all(np.isnan(output[3]).all() for output in after.outputs)


@pytest.mark.parametrize(("function", "inputs", "keywords"), CASES, ids=IDS)
def test_same_batch_gives_same_bits(function: str, inputs: dict[str, Array], keywords: dict[str, Any]) -> None:
    """The same batch computed twice gives the same bits, certificates included."""
    first, second = answer(function, inputs, **keywords), answer(function, inputs, **keywords)

    for one, other in zip(first.outputs, second.outputs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.certificates == second.certificates


def test_every_function_has_a_case() -> None:
    """Every function of the catalogue has a case in this module."""
    assert {function for function, _, _ in CASES} == set(FUNCTIONS)


def test_batches_come_apart_as_they_were_put_together() -> None:
    """Concatenating calls and taking rows are inverse to each other."""
    calls = [
        screen(parse_call("inv_root", {"a": torch.as_tensor(positive(12, items=n, seed=n))}, {"r": 2}, {}, Limits()))
        for n in (1, 3, 2)
    ]
    program = make_plan(calls[0], Profile.nominal()).program
    batches = [batch_of(call) for call in calls]

    whole = concatenate(batches)
    evaluation = evaluate(program, whole)

    assert whole.items == evaluation.items == 6
    torch.testing.assert_close(whole.rows(1, 4).inputs["a"], batches[1].inputs["a"], rtol=0, atol=0)
    single = evaluate(program, batches[2])
    torch.testing.assert_close(evaluation.rows(4, 6).outputs[0], single.outputs[0])
