"""Padding changes no answer: exactly where the iterations are concerned, to rounding for substitution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from evaluating import Array, candidates, parsed
from matfn_kernels.linalg.iteration import coupled, per_element, plain
from matfn_kernels.numbers.coefficients import safe, schedule
from matfn_kernels.programs.profile import Profile
from matfn_kernels.running.evaluation import batch_of, evaluate
from matfn_kernels.running.plan import make_plan
from padding import crop, pad
from spectra import positive, rectangular


def _distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((torch.linalg.matrix_norm(x - y) / torch.linalg.matrix_norm(y)).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("r", "s"), [(1, 1), (2, 1), (3, 2), (4, 1), (4, 3), (5, 1), (8, 1)])
def test_zero_block_is_invisible_to_roots(r: int, s: int, dtype: torch.dtype) -> None:
    """Zero rows and columns of P and of G leave G P^(-s/r) as it is and stay zero."""
    p = torch.as_tensor(positive(20, condition=1e2, items=3)).to(dtype)
    p = p / torch.linalg.matrix_norm(p)[:, None, None]
    g = torch.randn(3, 6, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows = safe(schedule(r, 1e-4 ** (1 / r)), r, 1.001)
    padded = pad("inv_root", {"a": p, "g": g}, {"n": 32, "m": 8})

    bare = coupled(g, p, rows, r, s)
    wide = coupled(padded["g"], padded["a"], rows, r, s)

    assert _distance(crop((wide,), (6, 20))[0], bare) < 50 * torch.finfo(dtype).eps
    assert not wide[:, 6:].any()
    assert not wide[:, :, 20:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_block_is_invisible_to_polar_factors(dtype: torch.dtype) -> None:
    """Zero rows and columns stay zero, and the polar factor beside them is what it was."""
    m = torch.as_tensor(rectangular((30, 20), condition=1e2, items=3)).to(dtype)
    m = m / torch.linalg.matrix_norm(m)[:, None, None]
    rows = safe(schedule(2, 1e-7), 2, 1.001)

    bare = plain(m, rows)
    wide = plain(pad("msign", {"m": m}, {"m": 40, "n": 32})["m"], rows)

    assert _distance(crop((wide,), (30, 20))[0], bare) < 50 * torch.finfo(dtype).eps
    assert not wide[:, 30:].any()
    assert not wide[:, :, 20:].any()


def _triangular(order: int) -> Array:
    return np.random.default_rng(0).standard_normal((2, order, order)) / order + 2 * np.eye(order)


SUBSTITUTIONS: list[tuple[str, dict[str, Array], dict[str, Any], dict[str, int]]] = [
    ("tri_inv", {"t": _triangular(40)}, {}, {"n": 64}),
    ("tri_inv", {"t": _triangular(40)}, {"lower": False}, {"n": 64}),
    ("tri_solve", {"t": _triangular(40), "b": np.ones((2, 40, 3))}, {}, {"n": 64, "m": 5}),
    (
        "dplr_solve",
        {
            "diag": np.full((2, 70), 1.5),
            "q": np.full((2, 70, 3), 0.1),
            "k": np.ones((2, 70, 3)),
            "b": np.ones((2, 70, 2)),
        },
        {},
        {"n": 128, "d": 4, "m": 4},
    ),
]


@pytest.mark.parametrize(("function", "inputs", "keywords", "sizes"), SUBSTITUTIONS)
def test_unit_diagonal_decouples(
    function: str, inputs: dict[str, Array], keywords: dict[str, Any], sizes: dict[str, int]
) -> None:
    """Triangular and low-rank problems continued by a unit diagonal keep their solutions."""
    call = parsed(function, inputs, keywords)
    bare = evaluate(make_plan(call, Profile.nominal()).program, batch_of(call))
    padded = pad(function, call.inputs, sizes)
    wide_call = parsed(function, padded, keywords)
    wide = evaluate(make_plan(wide_call, Profile.nominal()).program, batch_of(wide_call))

    cropped = crop(wide.outputs, tuple(bare.outputs[0].shape[1:]))

    torch.testing.assert_close(cropped[0], bare.outputs[0], rtol=1e-13, atol=1e-13)


def test_frozen_elements_keep_every_bit() -> None:
    """The row (1, 0, 0) leaves one element unchanged while the others go on."""
    p = torch.as_tensor(positive(16, condition=1e2, items=2))
    p = p / torch.linalg.matrix_norm(p)[:, None, None]
    short, long = safe(schedule(2, 0.1), 2, 1.001), safe(schedule(2, 1e-2), 2, 1.001)

    mixed = coupled(None, p, per_element([short, long], p), 2, 1)
    padded_short = coupled(None, p[:1], per_element([[*short, (1.0, 0.0, 0.0)]], p[:1]), 2, 1)

    torch.testing.assert_close(mixed[:1], padded_short, rtol=0, atol=0)
    torch.testing.assert_close(mixed[:1], coupled(None, p[:1], short, 2, 1), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(mixed[1:], coupled(None, p[1:], long, 2, 1), rtol=1e-13, atol=1e-13)


def test_iteration_is_considered_for_small_orders() -> None:
    """The padded iterations above are ones that the planner may choose."""
    methods = {program.method for program, _ in candidates("inv_root", {"a": positive(20).astype("float32")}, r=4)}

    assert methods == {"engine", "eigh"}
