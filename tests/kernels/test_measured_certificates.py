"""Estimates cover what answer and check have in common, and what a law about rounding leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import torch

from evaluating import answer
from honesty import assert_honest, estimate_of
from matfn_kernels.linalg import probes
from matfn_kernels.linalg.measured import unexplained
from spectra import orthogonal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluating import Answer

    Array = NDArray[Any]


def _symmetric(order: int, values: Array, seed: int = 13) -> Array:
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((order, order)))[0]
    a = (q * values) @ q.T
    return np.asarray((a + a.T) / 2)


def _converged(found: Answer) -> bool:
    return all(certificate.outcome == "converged" for certificate in found.certificates)


def _clipped(a: Array, lo: float, hi: float) -> Array:
    """The clip in 40 digits."""
    with mpmath.workdps(40):
        w, v = mpmath.eigsy(mpmath.matrix(a.tolist()))
        kept = [(i, min(max(value, lo), hi)) for i, value in enumerate(w)]
        columns = [(value, np.array([v[row, i] for row in range(len(a))])) for i, value in kept if value]
        return np.array(sum((value * np.outer(x, x) for value, x in columns), np.zeros_like(a)), dtype=float)


@pytest.mark.parametrize(
    ("order", "rest", "last", "lo", "hi"),
    [(24, -1.0, 1e-4, 0.0, np.inf), (40, -1.0, 1e-4, 0.0, np.inf), (24, 1.0, -1e-5, -np.inf, 0.0)],
)
def test_a_clip_that_one_eigenvalue_decides_is_covered(
    order: int, rest: float, last: float, lo: float, hi: float
) -> None:
    """The estimate holds the whole noise of an eigenvalue that makes up the answer alone."""
    values = np.full(order, rest)
    values[-1] = last
    a = _symmetric(order, values)
    w, v = np.linalg.eigh(a)
    x = v[:, np.argmax(w * -np.sign(rest))]
    with mpmath.workdps(40):  # one step of inverse iteration from the computed vector
        wide = mpmath.matrix(a.tolist())
        shifted = wide - mpmath.mpf(last) * mpmath.eye(order)
        x = mpmath.lu_solve(shifted, mpmath.matrix(x.tolist()))
        x /= mpmath.norm(x)
        value = (x.T * wide * x)[0]
        exact = np.array((value * x * x.T).tolist(), dtype=float).reshape(order, order)
    bounds = {name: bound for name, bound in (("lo", lo), ("hi", hi)) if np.isfinite(bound)}

    found = answer("eig_clip", {"a": a}, **bounds)

    assert_honest(found, exact)
    assert _converged(found)


@pytest.mark.parametrize("values", [[-1, -1, -1, 1e-3], [1, 1 + 1e-5, -1, 3e-4], [-2, -1, 1e-5, 1e-4]])
def test_clips_in_a_named_precision_cover_its_rounding(values: list[float]) -> None:
    """The rounding of float64 entries to float32 is in the estimate of a clip."""
    a = _symmetric(4, np.array(values))

    found = answer("eig_clip", {"a": a}, lo=0.0, precision="fp32")

    assert_honest(found, _clipped(a, 0.0, np.inf))


@pytest.mark.parametrize(
    ("mean", "step", "s"),
    [
        (np.full(3, 1e5), 1e-3, 1e-6 * np.eye(3)),
        (np.array([-3e6, 2e6]), 3e-3, np.diag([1e-5, 1e-7])),
        (np.full(4, 7e8), 1.0, np.eye(4)),
    ],
)
def test_means_are_subtracted_before_they_are_rounded(mean: Array, step: float, s: Array) -> None:
    """A named precision rounds the difference of the means, not the means."""
    other = mean + step
    exact = float(np.square(mean - other).sum())

    found = answer("frechet_distance", {"mu1": mean, "s1": s, "mu2": other, "s2": s}, precision="fp32")

    assert abs(found.outputs[0] - exact) <= estimate_of(found) * (exact + 2 * np.trace(s))
    assert found.outputs[0] == pytest.approx(exact, rel=1e-5)
    assert _converged(found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_distances_in_a_named_precision_cover_the_rounding_of_covariances(seed: int, spread: float) -> None:
    """The rounding of float64 covariances to float32 is in the estimate of their distance."""
    rng = np.random.default_rng(seed)
    q, w = orthogonal(rng, 4, 4), np.logspace(0, -spread, 4)
    first, second = _symmetric(4, w, seed), (q * w[::-1]) @ q.T
    second = (second + second.T) / 2
    inputs = {"mu1": np.zeros(4), "s1": first, "mu2": np.zeros(4), "s2": second}
    terms = float(np.trace(first) + np.trace(second))
    exact = answer("frechet_distance", inputs).outputs[0]

    found = answer("frechet_distance", inputs, precision="fp32")

    assert abs(found.outputs[0] - exact) <= (estimate_of(found) + 1e-14) * terms


@pytest.mark.parametrize(
    ("values", "factor"), [([1.0], 1 + 1e-6), ([1.0, 2.0, 4.0], 1 + 1e-7), ([3.0, 0.5, 1e-3, 1.0], 1 - 1e-6)]
)
def test_distances_of_nearly_equal_covariances_keep_digits(values: list[float], factor: float) -> None:
    """Where the traces cancel the distance is right relative to itself, not only to the traces."""
    order = len(values)
    s = _symmetric(order, np.array(values))
    inputs = {"mu1": np.zeros(order), "s1": s, "mu2": np.zeros(order), "s2": s * factor}
    exact = float(np.trace(s)) * ((factor - 1) / (1 + np.sqrt(factor))) ** 2

    found = answer("frechet_distance", inputs, tol=1e-6)

    assert found.outputs[0] == pytest.approx(exact, rel=1e-6)
    assert _converged(found)


@pytest.mark.parametrize("scale", [1e-60, 1e60, 1e-290])
def test_means_in_a_named_precision_keep_the_range_of_double(scale: float) -> None:
    """Matrices are scaled before they are rounded to float32."""
    a, b = _symmetric(3, np.array([1.0, 2.0, 3.0])), np.eye(3)
    exact = answer("geometric_mean", {"a": a, "b": b}).outputs[0]

    found = answer("geometric_mean", {"a": scale * a, "b": scale * b}, precision="fp32")

    assert_honest(found, scale * exact)
    assert _converged(found)


def _recurrence(inputs: dict[str, Array]) -> tuple[Array, Array]:
    """Outputs and final state of the gated delta rule in 50 digits, as objects."""
    wide = {name: np.vectorize(mpmath.mpf, otypes=[object])(x.astype(float)) for name, x in inputs.items()}
    length, width = inputs["k"].shape
    state = wide.get("initial_state", np.zeros((width, inputs["v"].shape[1])) * mpmath.mpf(1))
    outputs = []
    with mpmath.workdps(50):
        for i in range(length):
            key, beta = wide["k"][i], wide["beta"][i] if "beta" in wide else mpmath.mpf(1)
            gate = mpmath.exp(wide["log_gate"][i]) if "log_gate" in wide else mpmath.mpf(1)
            state = gate * (state - beta * np.outer(key, key @ state)) + beta * np.outer(key, wide["v"][i])
            outputs.append(wide["q"][i] @ state)
    return np.array(outputs), state


def _relative(found: Array, exact: Array) -> float:
    """||found - exact|| / ||exact|| in 50 digits, for numbers of any size."""
    with mpmath.workdps(50):
        pairs = zip(found.ravel().tolist(), exact.ravel(), strict=True)
        missing = mpmath.sqrt(mpmath.fsum((mpmath.mpf(x) - y) ** 2 for x, y in pairs))
        size = mpmath.sqrt(mpmath.fsum(y**2 for y in exact.ravel()))
        return float(missing / size)


def _gated(length: int, gate: float | Array, state: float, width: int = 1) -> dict[str, Array]:
    ones = np.ones((length, width))
    closed = {"beta": np.zeros(length), "log_gate": np.full(length, gate)}
    return {"q": ones, "k": ones, "v": 0 * ones, **closed, "initial_state": np.full((width, width), state)}


@pytest.mark.parametrize(
    ("length", "gate"), [(16, -34 + 1e-13), (60, -5.0999999), (12, -1 / 3), (7, -np.pi * 10), (64, -10.1)]
)
def test_products_of_many_gates_keep_their_digits(length: int, gate: float) -> None:
    """The rounding of sums of gates, which answer and check would have in common, is not in the answer."""
    inputs = _gated(length, gate, 1.0)

    found = answer("delta_rule", inputs)

    error = max(_relative(*pair) for pair in zip(found.outputs, _recurrence(inputs), strict=True))
    assert error <= estimate_of(found)
    assert error <= 4e-15


@pytest.mark.parametrize(
    ("length", "gate", "state", "dtype"),
    [
        (20, -50.0, 1e300, "float64"),
        (3, -460.0, 1e300, "float64"),
        (5, -30.0, 1e30, "float32"),
        (40, -33.3, 7e305, "float64"),
    ],
)
def test_states_outlive_gates_that_underflow_together(length: int, gate: float, state: float, dtype: str) -> None:
    """A product of gates below float64's range leaves a large state with all its digits."""
    inputs = {name: x.astype(dtype) for name, x in _gated(length, gate, state, 2).items()}

    found = answer("delta_rule", inputs)

    exact = _recurrence(inputs)
    assert _relative(found.outputs[1], exact[1]) <= estimate_of(found)
    assert _relative(found.outputs[0], exact[0]) <= estimate_of(found)
    assert found.outputs[1].any()
    assert _converged(found)


def test_values_outlive_gates_that_underflow_together() -> None:
    """A large value that was written early is read by a late query, whatever the chunk."""
    length = 9
    inputs = {"q": np.ones((length, 2)), "k": np.eye(2)[np.arange(length) % 2], "v": np.zeros((length, 1))}
    inputs |= {"log_gate": np.full(length, -120.0), "beta": np.full(length, 0.5)}
    inputs["v"][0], inputs["q"][:-1] = 1e305, 0

    for chunk in (1, 4, 64):
        found = answer("delta_rule", inputs, chunk=chunk)

        exact = _recurrence(inputs)
        assert _relative(found.outputs[0], exact[0]) <= estimate_of(found)


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        ([[0.5, 0.7], [0.5, 0.7]], [1.0, 0.0]),
        ([[0.1, 0.3], [0.1, 0.3], [0.1, 0.3]], [1.0, -2.0, 0.0]),
        ([[0.6, 0.1], [0.6, 0.1]], [1e8, 1e-8]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 64])
def test_a_state_that_has_cancelled_is_not_certified(keys: list[list[float]], values: list[float], chunk: int) -> None:
    """Outputs and the final state are covered relative to themselves: overwritten ones may have no digit."""
    k = np.array(keys)
    k /= np.linalg.norm(k, axis=1)[:, None]
    inputs = {"q": np.ones_like(k), "k": k, "v": np.array(values)[:, None]}

    found = answer("delta_rule", inputs, chunk=chunk)

    estimate = found.certificates[0].error_estimate
    for output, exact in zip(found.outputs, _recurrence(inputs), strict=True):
        assert estimate is None or _relative(output, exact) <= estimate
    assert not _converged(found)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_rewritten_states_stay_certified(beta: float) -> None:
    """Overwriting one value by another of its size costs no certificate."""
    k = np.full((6, 2), np.sqrt(0.5))
    inputs = {"q": np.eye(2)[[0, 1] * 3], "k": k, "v": np.arange(1.0, 7)[:, None], "beta": np.full(6, beta)}

    found = answer("delta_rule", inputs)

    assert max(_relative(*pair) for pair in zip(found.outputs, _recurrence(inputs), strict=True)) <= estimate_of(found)
    assert _converged(found)


@pytest.mark.parametrize(("q", "k"), [(1e60, 1e-60), (1e200, 1e-250), (1e-100, 1e-100)])
def test_logits_in_a_named_precision_keep_the_range_of_double(q: float, k: float) -> None:
    """Queries and keys are scaled before they are rounded to float32, whose rounding is in the estimate."""
    third = np.full((1, 1, 1), 1 / 3)

    found = answer("max_logit", {"q": q * third, "k": k * third}, scale=1.0, precision="fp32")

    with mpmath.workdps(50):
        exact = np.array([mpmath.mpf(float(q * third[0, 0, 0])) * mpmath.mpf(float(k * third[0, 0, 0]))])
    assert _relative(found.outputs[0], exact) <= estimate_of(found)
    assert _converged(found)


@pytest.mark.parametrize(("largest", "weight"), [(1e38, 1e20), (3e36, 7e25), (2e30, 3.3e19)])
def test_small_factors_of_clipped_weights_keep_their_digits(largest: float, weight: float) -> None:
    """A factor far below 1 does not become subnormal on its way to the weights that it multiplies."""
    w_q, w_k = np.zeros((2, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)
    w_q[0], logits = weight, np.array([largest, 150.0], np.float32)

    found = answer("qk_clip", {"w_q": w_q, "w_k": w_k, "max_logit": logits}, tau=1e-3, variant="gqa")

    factors = 1e-3 / logits.astype(float)
    exact = w_q.astype(float) * (factors / np.sqrt(factors[1]))[:, None, None]
    pairs = zip(found.outputs, (exact, np.full((1, 1, 1), np.sqrt(factors[1])), factors), strict=True)
    assert max(_relative(*pair) for pair in pairs) <= estimate_of(found)
    assert _converged(found)


@pytest.mark.parametrize(
    ("size", "dtype"), [(1.0, np.float32), (2.0**4, np.float32), (1.0, np.float64), (2.0**12, np.float64)]
)
@pytest.mark.parametrize("seed", range(4))
def test_estimate_covers_means_that_few_entries_make_up(size: float, dtype: type, seed: int) -> None:
    """L L^T # L D^2 L^T = L D L^T for a triangle of integers and powers of two, known without rounding."""
    rng = np.random.default_rng(seed)
    n = 5
    triangle = np.tril(rng.integers(-2, 3, (n, n)), -1) + np.eye(n)
    root = np.diag([1.0] * (n - 1) + [size])
    a, b = triangle @ triangle.T, triangle @ root @ root @ triangle.T

    found = answer("geometric_mean", {"a": a.astype(dtype), "b": b.astype(dtype)})

    assert_honest(found, triangle @ root @ triangle.T)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("apart", [0.0, 1e-30, 1e-4])
def test_distance_that_underflows_keeps_its_estimate(dtype: type, apart: float) -> None:
    """The rounding of a distance near 0 counts relative to the terms, as its error does."""
    s: Array = np.diag([1.0, 0.5]).astype(dtype)
    mu: Array = np.array([apart, 0.0]).astype(dtype)

    certificate = answer("frechet_distance", {"mu1": mu, "s1": s, "mu2": 0 * mu, "s2": s}).certificates[0]

    assert certificate.outcome == "converged"
    assert certificate.error_estimate is not None
    assert certificate.error_estimate < 1e-3


def _hidden(order: int) -> Array:
    """A unit vector that is orthogonal to the columns of random numbers without their signs."""
    numbers = np.hstack([probes.columns(order).numpy(), np.ones((order, 1))])
    vector: Array = np.linalg.qr(numbers)[0][:, -1]
    return vector


@pytest.mark.parametrize("order", [6, 12, 40])
@pytest.mark.parametrize("size", [1e-3, 1e-8])
def test_no_residual_hides_from_columns_that_are_known(order: int, size: float) -> None:
    """A residual that the columns known beforehand do not see is measured on those that the matrix seeds."""
    a = _symmetric(order, np.linspace(1, 2, order))
    w, v = (torch.from_numpy(x)[None] for x in np.linalg.eigh(a))
    false = a + size * np.outer(_hidden(order), _hidden(order))

    (found,), _ = unexplained(torch.from_numpy(false)[None], w, v)

    assert size / 2 <= found <= 20 * size


def test_columns_of_kernels_in_c_are_those_of_their_matrix() -> None:
    """Equal matrices have equal columns, in any batch and run, and other matrices others."""
    a = _symmetric(9, np.linspace(1, 2, 9))
    w, v = (torch.from_numpy(x)[None] for x in np.linalg.eigh(a))
    residual = 1e-3 * np.outer(_hidden(9), _hidden(9))
    matrices = torch.from_numpy(np.stack([a + residual, a + residual + 1e-12 * np.eye(9), a + residual]))

    together = unexplained(matrices, w.expand(3, -1), v.expand(3, -1, -1))[0]
    alone = torch.cat([unexplained(one[None], w, v)[0] for one in matrices])

    assert torch.equal(together, alone)
    assert together[0] == together[2]
    assert abs(together[0] - together[1]) > 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_certificates_of_near_matrices_are_taken_on_other_columns(dtype: str) -> None:
    """Triangles, roots and polar factors that differ in the last place have residuals on independent columns."""
    a = _symmetric(16, np.geomspace(1e-2, 1, 16)).astype(dtype)
    near = a.copy()
    near[0, 0] = np.nextafter(a[0, 0], 2, dtype=dtype)
    for function, name, keywords in (("tri_inv", "t", {}), ("inv_root", "a", {"r": 4}), ("msign", "m", {})):
        found = answer(function, {name: np.stack([a, near, a])}, **keywords).certificates
        residuals = [one.residual.value for one in found if one.residual is not None]

        assert residuals[0] == residuals[2]
        assert abs(residuals[0] - residuals[1]) > 1e-3 * residuals[0]
