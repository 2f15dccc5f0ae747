"""Riccati equations by doubling over batches: errors within estimates, and what is left to the other method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from evaluating import EPS, Array, answer
from honesty import estimate_of
from matfn_kernels.linalg.native import lapack
from riccati_truth import distance, truth

if TYPE_CHECKING:
    from matfn_kernels.contract.certificate import Certificate

FUNCTIONS: Final = ["solve_care", "solve_dare"]
KINDS: Final = ["gauss", "stable", "weak hold", "cheap", "dear", "indefinite", "slow", "nonnormal", "spread weight"]


def _adjoint(x: Array) -> Array:
    return np.asarray(x.conj().swapaxes(-1, -2))


def equations(function: str, kind: str, shape: tuple[int, int, int], *, is_complex: bool = False) -> dict[str, Array]:
    """A batch of shape (items, n, m) of one kind."""
    items, n, m = shape
    rng = np.random.default_rng([*shape, KINDS.index(kind), is_complex])

    def gauss(*sizes: int) -> Array:
        real: Array = rng.standard_normal((items, *sizes))
        return real + 1j * rng.standard_normal((items, *sizes)) if is_complex else real

    def spread(digits: float, *sizes: int) -> Array:
        return np.asarray(10.0 ** rng.uniform(-digits, 0, (items, *sizes)))

    a, b, c, d = gauss(n, n), gauss(n, m), gauss(n, n), gauss(m, m)
    q, r = c @ _adjoint(c) + np.eye(n), d @ _adjoint(d) + np.eye(m)
    if kind == "spread weight":
        u = np.linalg.qr(d)[0]
        r = (u * spread(6, 1, m)) @ _adjoint(u)
    if kind in {"stable", "slow", "nonnormal"}:
        a = _system(function, kind, a)
    factors = {
        "weak hold": (np.where(np.arange(n)[:, None] == 0, spread(5, 1, 1), 1), 1, 1),
        "cheap": (1, 1, spread(8, 1, 1)),
        "dear": (1, 1, 1 / spread(8, 1, 1)),
        "slow": (spread(2, 1, 1), spread(8, 1, 1), 1),
    }
    b, q, r = (x * factor for x, factor in zip((b, q, r), factors.get(kind, (1, 1, 1)), strict=True))
    q = q - np.eye(n) if kind == "indefinite" else q
    return {"a": a, "b": b, "q": (q + _adjoint(q)) / 2, "r": (r + _adjoint(r)) / 2}


def _system(function: str, kind: str, a: Array) -> Array:
    """A made stable, undamped or far from normal."""
    n, is_care = a.shape[-1], function == "solve_care"
    if kind == "stable":
        return np.asarray(a - 3 * np.sqrt(n) * np.eye(n) if is_care else a / (3 * np.sqrt(n)))
    if kind == "slow":
        return np.asarray(a - _adjoint(a) if is_care else np.linalg.qr(a)[0])
    return np.asarray(np.triu(a) * 5 + np.tril(a) / 1e3)


def _tolerance(certificate: Certificate) -> float:
    """50 eps kappa."""
    assert certificate.condition is not None
    return 50 * EPS["float64"] * certificate.condition


def _rows(inputs: dict[str, Array], rows: slice) -> dict[str, Array]:
    return {name: x[rows] for name, x in inputs.items()}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_errors_of_solution_and_gain_are_within_the_estimate(function: str, kind: str, is_complex: bool) -> None:
    """Against 40 digits, and within 50 eps kappa, whichever method answers."""
    inputs = equations(function, kind, (3, 3, 2), is_complex=is_complex)

    found = answer(function, inputs, gain=True, on_failure="nan")

    for row, certificate in enumerate(found.certificates):
        if certificate.error_estimate is None:
            continue
        x, gain = (output[row].astype(complex) for output in found.outputs)
        error = max(map(distance, (x, gain), truth(function, _rows(inputs, slice(row, row + 1)), x)))
        assert error <= certificate.error_estimate + EPS["float64"]
        assert error <= _tolerance(certificate)


@pytest.mark.parametrize(("order", "inputs"), [(1, 1), (2, 1), (5, 5), (12, 4), (30, 10), (4, 7)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_both_methods_agree_within_their_estimates(function: str, kind: str, order: int, inputs: int) -> None:
    """In X and in K, of every equation that doubling answers."""
    given = equations(function, kind, (8, order, inputs))

    first = answer(function, given, gain=True, method="doubling", on_failure="nan")
    second = answer(function, given, gain=True, method="newton_kleinman", on_failure="nan")

    for row, (one, other) in enumerate(zip(first.certificates, second.certificates, strict=True)):
        assert (one.method == "doubling") == (one.fallback is None)
        if one.fallback is None and other.error_estimate is not None:
            apart = max(distance(x[row], y[row]) for x, y in zip(first.outputs, second.outputs, strict=True))
            assert apart <= estimate_of(first, row) + 2 * estimate_of(second, row)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_well_conditioned_equations_are_answered_by_doubling(function: str, dtype: str) -> None:
    """All of them, with and without the gain, and with far less error than is tolerated."""
    inputs = equations(function, "stable", (6, 5, 2), is_complex=dtype.startswith("complex"))
    inputs = {name: x.astype(dtype) for name, x in inputs.items()}

    for gain in (False, True):
        found = answer(function, inputs, gain=gain)
        assert {one.method for one in found.certificates} == {"doubling" if lapack.is_ready() else "newton_kleinman"}
        for row, one in enumerate(found.certificates):
            assert estimate_of(found, row) <= EPS[dtype] / EPS["float64"] * _tolerance(one) / 2


@pytest.mark.parametrize("function", FUNCTIONS)
def test_hard_equations_do_not_change_the_others(function: str) -> None:
    """An equation has the same bits and the same certificate beside ones that doubling leaves to the other method."""
    easy, hard = (equations(function, kind, (4, 4, 2)) for kind in ("stable", "cheap"))
    hard["b"][0], hard["a"][0] = 0, 2 * np.eye(4)
    mixed = {name: np.concatenate([hard[name][:2], x, hard[name][2:]]) for name, x in easy.items()}

    alone, together = (answer(function, one, gain=True, on_failure="nan") for one in (easy, mixed))

    assert together.certificates[0].code == "not_stabilisable"
    assert together.certificates[2:6] == alone.certificates
    for x, y in zip(alone.outputs, together.outputs, strict=True):
        np.testing.assert_array_equal(x, y[2:6])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("unit", [2.0**90, 2.0**-90, 2.0**700])
def test_units_of_cost_scale_the_solution_alone(function: str, unit: float) -> None:
    """Exactly by a power of two, with the gain and the estimate as they are, as far as doubling scales."""
    inputs = equations(function, "stable", (3, 4, 2))
    costs = {name: x * unit if name in "qr" else x for name, x in inputs.items()}

    usual, other = (answer(function, one, gain=True) for one in (inputs, costs))

    np.testing.assert_allclose(other.outputs[0] / unit, usual.outputs[0], rtol=1e-13)
    np.testing.assert_allclose(other.outputs[1], usual.outputs[1], rtol=1e-12)
    assert all(one.outcome == "converged" for one in other.certificates)


def test_without_the_library_the_other_method_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates name both."""
    inputs = equations("solve_care", "stable", (2, 3, 1))
    usual = answer("solve_care", inputs, method="newton_kleinman")
    monkeypatch.setattr(lapack, "is_ready", lambda: False)

    found: Any = answer("solve_care", inputs, method="doubling")

    assert {(one.method, one.fallback) for one in found.certificates} == {("newton_kleinman", "doubling")}
    np.testing.assert_array_equal(found.outputs[0], usual.outputs[0])
