"""Roots of A + shift I: by every method the same shift, the right values and honest estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evaluating import Answer, answer, candidates, run, truth
from honesty import assert_covered, reference_errors
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.methods.roots.coupled_power import NativePower
from matfn_kernels.reference import relative_error
from spectra import orthogonal

if TYPE_CHECKING:
    import torch

    from evaluating import Array

needs_c = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("inv_root", {"r": 4}),
    ("inv_root", {"r": 2}),
    ("inv_root", {"r": 3, "s": 4}),
    ("root", {"r": 2}),
    ("root", {"r": 4, "s": 3}),
    ("sqrt_pair", {}),
]
ORDERS = [65, 100, 128, 256]


def _with(w: Array, seed: int) -> Array:
    q = orthogonal(np.random.default_rng(seed), len(w), len(w))
    a = (q * w) @ q.T
    return np.asarray((a + a.T) / 2)


def _singular(n: int) -> Array:
    """Of low rank, negative by rounding, with far clusters, flat, and scaled by powers of ten."""
    half = np.arange(n) < n // 2
    gaussian = np.random.default_rng(n).standard_normal((n, n // 2))
    return np.stack(
        [
            gaussian @ gaussian.T,
            _with(np.where(half, 1.0, -1e-8), 1),
            _with(np.where(half, 1.0, 1e-9), 2),
            np.ones((n, n)),
            np.eye(n),
            _with(np.linspace(0, 1, n), 3) * 1e20,
            _with(np.logspace(0, -9, n), 4) * 1e-20,
        ]
    )


def _assert_right(found: Answer, function: str, a: Array, keywords: dict[str, Any]) -> None:
    """Asserts that every matrix converged, and that errors against A + shift I are covered by the estimates."""
    assert [c.outcome for c in found.certificates] == ["converged"] * len(a)
    expected = truth(function, {"a": a}, found.certificates, **keywords)
    errors = np.max([relative_error(x, y) for x, y in zip(found.outputs, expected, strict=True)], axis=0)
    assert_covered(errors, found.certificates, slack=reference_errors(found.certificates))


def _iterated(function: str, a: Array, **keywords: Any) -> Answer | None:
    """What the iteration in C answers, if it is considered."""
    considered = candidates(function, {"a": a}, on_failure="nan", **keywords)
    found = [run(program, call) for program, call in considered if isinstance(program, NativePower)]
    return found[0] if found else None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("function", "parameters"), CALLS)
def test_damped_roots_of_singular_matrices_are_right(
    order: int, dtype: type, function: str, parameters: dict[str, Any]
) -> None:
    """Values are those of A + shift I within the estimates, with shift = damping lambda_max to 1 %."""
    a: Array = _singular(order).astype(dtype)
    largest = np.linalg.eigvalsh(a.astype(np.float64))[:, -1]
    for damping in (0.1, 1e-3, 1e-6):
        keywords = {**parameters, "damping": damping}
        found = answer(function, {"a": a}, **keywords)
        _assert_right(found, function, a, keywords)
        shifts = np.array([c.shift for c in found.certificates])
        assert np.allclose(shifts, damping * largest, rtol=0.01, atol=0)
        assert [c.damping for c in found.certificates] == [damping] * len(a)


@needs_c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", [65, 128, 256])
def test_iterated_and_decomposed_agree(order: int, dtype: type) -> None:
    """The iteration in C and eigh shift by the same number to 1 %, and each is right for its own."""
    a: Array = _singular(order).astype(dtype)
    keywords = {"r": 4, "damping": 1e-2}
    iterated = _iterated("inv_root", a, **keywords)
    assert iterated is not None
    decomposed = answer("inv_root", {"a": a}, method="eigh", **keywords)
    assert [c.method for c in iterated.certificates] == ["engine"] * len(a)
    for found in (iterated, decomposed):
        _assert_right(found, "inv_root", a, keywords)
    pairs = zip(iterated.certificates, decomposed.certificates, strict=True)
    assert all(c.shift == pytest.approx(d.shift, rel=0.01) for c, d in pairs)


@needs_c
def test_iteration_is_considered_where_it_reaches_the_tolerance() -> None:
    """Float32 serves moderate dampings, float64 smaller ones to order 128, and nothing but eigh beyond."""
    a = {order: _singular(order)[:1].astype(np.float32) for order in (100, 256)}
    planned = {
        (order, damping): [
            str(program.precision)
            for program, _ in candidates("inv_root", {"a": one}, r=4, damping=damping)
            if isinstance(program, NativePower)
        ]
        for order, one in a.items()
        for damping in (1e-2, 1e-6, 1e-12)
    }
    assert all(precision == "fp32" for order in a for precision in planned[order, 1e-2])
    assert planned[100, 1e-2]
    assert set(planned[100, 1e-6]) == {"fp64"}
    assert planned[256, 1e-6] == planned[100, 1e-12] == planned[256, 1e-12] == []


@needs_c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_damped_roots_have_the_same_bits_alone(dtype: type) -> None:
    """A matrix has the same bits of its answer and certificate alone as in a mixed batch."""
    a: Array = np.concatenate([_singular(100), -np.eye(100)[None], np.zeros((1, 100, 100))]).astype(dtype)
    keywords = {"r": 4, "damping": 1e-2, "on_failure": "nan"}
    together = answer("inv_root", {"a": a}, **keywords)
    for i, one in enumerate(a):
        alone = answer("inv_root", {"a": one[None]}, **keywords)
        assert alone.certificates[0] == together.certificates[i]
        np.testing.assert_array_equal(alone.outputs[0][0], together.outputs[0][i])


def test_damping_accepts_what_it_lifts() -> None:
    """A damping above the most negative eigenvalue answers for A + shift I; one below it does not."""
    a = _with(np.linspace(-0.01, 1, 100), 5)[None]
    _assert_right(answer("inv_root", {"a": a}, r=2, damping=0.1), "inv_root", a, {"r": 2, "damping": 0.1})
    refused = answer("inv_root", {"a": a}, r=2, damping=1e-4, on_failure="nan")
    assert refused.certificates[0].code == "not_positive"


def test_damped_products_are_right() -> None:
    """G times a damped power is that of A + shift I."""
    a, g = _singular(100).astype(np.float32), np.random.default_rng(0).standard_normal((7, 30, 100), np.float32)
    keywords = {"r": 4, "damping": 1e-2}
    found = answer("inv_root", {"a": a, "g": g}, **keywords)
    expected = truth("inv_root", {"a": a, "g": g}, found.certificates, **keywords)
    assert_covered(relative_error(found.outputs[0], expected[0]), found.certificates)


@needs_c
@pytest.mark.parametrize("order", [65, 128])
def test_singular_matrices_are_tried_once(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of low rank, undamped, leave the iteration for eigh without a second attempt in float64."""
    tried: list[int] = []
    run_some = NativePower.run_some

    def counted(self: NativePower, inputs: dict[str, torch.Tensor], wanted: torch.Tensor) -> object:
        tried.append(int(wanted.sum()))
        return run_some(self, inputs, wanted)

    monkeypatch.setattr(NativePower, "run_some", counted)
    a = _singular(order)[[0, 2, 3]].astype(np.float32)
    found = _iterated("inv_root", a, r=4)
    assert found is not None
    assert tried == []
    expected = answer("inv_root", {"a": a}, r=4, method="eigh", on_failure="nan")
    np.testing.assert_array_equal(found.outputs[0], expected.outputs[0])
    assert [c.shift for c in found.certificates] == [c.shift for c in expected.certificates]
