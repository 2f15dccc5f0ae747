"""Fréchet distances of complex Gaussians: real, within their estimates of 60-digit truth, with torch's gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import torch

from evaluating import Array, answer
from honesty import assert_covered, estimate_of
from matfn_kernels import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = 4


def _gaussian(rng: np.random.Generator, *shape: int) -> Array:
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def _covariance(features: Array) -> Array:
    return np.asarray(features @ features.conj().T / features.shape[1])


def _gallery() -> Iterator[tuple[str, dict[str, Array]]]:
    rng = np.random.default_rng(6)
    x, y = _gaussian(rng, ORDER, 9), _gaussian(rng, ORDER, 9)
    means = {"mu1": _gaussian(rng, ORDER), "mu2": _gaussian(rng, ORDER)}
    full = {**means, "s1": _covariance(x), "s2": _covariance(y)}
    yield "full", full
    yield "equal", {**full, "mu2": means["mu1"], "s2": full["s1"]}
    yield "nearly equal", {**full, "mu2": means["mu1"], "s2": _covariance(x + 1e-6 * y)}
    yield "rank two", {**full, "s1": _covariance(x[:, :2]), "s2": _covariance(y[:, :2])}
    yield "one range", {**full, "s1": _covariance(x[:, :2]), "s2": _covariance(x[:, :2] * [3, 0.1])}
    graded = 10.0 ** -np.arange(0, 2 * ORDER, 2)[:, None]
    yield "graded", {**full, "s1": _covariance(graded * x), "s2": _covariance(graded * y)}
    yield "conjugate", {**full, "s2": full["s1"].conj()}
    yield "one zero", {**full, "s2": np.zeros((ORDER, ORDER), complex)}
    yield "means alone", {**full, "s1": np.zeros((ORDER, ORDER), complex), "s2": np.zeros((ORDER, ORDER), complex)}


GALLERY = dict(_gallery())


def _matrix(a: Array) -> Any:
    a = a.astype(complex)
    return mpmath.matrix(((a + a.conj().T) / 2).tolist()) if a.ndim > 1 else mpmath.matrix(a.tolist())


def _root(a: Any) -> Any:
    w, v = mpmath.eighe(a)
    return v * mpmath.diag([mpmath.sqrt(max(value, 0)) for value in w]) * v.H


def _distance(inputs: dict[str, Array]) -> tuple[float, float, Any]:
    """The distance, the sum of its positive terms, and the distance in 60 digits."""
    with mpmath.workdps(90):
        mu1, s1, mu2, s2 = (_matrix(inputs[name]) for name in ("mu1", "s1", "mu2", "s2"))
        terms = mpmath.fsum(abs(z) ** 2 for z in mu1 - mu2)
        terms += mpmath.fsum(mpmath.re(s[i, i]) for s in (s1, s2) for i in range(s.rows))
        half, other = _root(s1), _root(s2)
        inside = half * other * other * half
        values = mpmath.eighe((inside + inside.H) / 2, eigvals_only=True)
        distance = terms - 2 * mpmath.fsum(mpmath.sqrt(max(mpmath.re(value), 0)) for value in values)
        return float(distance), float(terms), distance


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", GALLERY)
def test_distance_is_real_and_within_its_estimate(name: str, dtype: str) -> None:
    """Of covariances of any rank, in the real dtype of the inputs."""
    inputs = {key: x.astype(dtype) for key, x in GALLERY[name].items()}

    found = answer("frechet_distance", {key: x[None] for key, x in inputs.items()})

    _, terms, exact = _distance(inputs)
    assert found.outputs[0].dtype == {"complex64": "float32", "complex128": "float64"}[dtype]
    assert found.certificates[0].outcome in {Outcome.CONVERGED, Outcome.APPROXIMATE}
    assert_covered(float(abs(mpmath.mpf(float(found.outputs[0][0])) - exact)) / terms, found.certificates)


def test_complex_copies_of_real_gaussians_have_their_distance() -> None:
    """To within both estimates."""
    inputs = {name: np.ascontiguousarray(x.real)[None] for name, x in GALLERY["full"].items()}

    real, found = (
        answer("frechet_distance", {name: x.astype(dtype) for name, x in inputs.items()}) for dtype in (float, complex)
    )

    estimates = [estimate_of(one) for one in (real, found)]
    _, terms, _ = _distance({name: x[0] for name, x in inputs.items()})
    assert abs(real.outputs[0][0] - found.outputs[0][0]) <= sum(estimates) * terms


def test_negative_eigenvalue_is_refused() -> None:
    """A Hermitian matrix with a negative eigenvalue is no covariance, and the input is named."""
    inputs = {**GALLERY["full"], "s2": -GALLERY["full"]["s2"]}

    found = answer("frechet_distance", {name: x[None] for name, x in inputs.items()}, on_failure="nan")

    assert found.certificates[0].code == "not_positive"
    assert "s2" in (found.certificates[0].hint or "")


def test_gradients_are_those_of_torch() -> None:
    """Of regular covariances, by Cholesky factors and singular values, which torch differentiates."""
    leaves = {name: torch.from_numpy(x).requires_grad_() for name, x in GALLERY["full"].items()}
    factors = [torch.linalg.cholesky((leaves[name] + leaves[name].mH) / 2) for name in ("s1", "s2")]
    nuclear = torch.linalg.svdvals(factors[1].mH @ factors[0]).sum()
    means = (leaves["mu1"] - leaves["mu2"]).abs().square().sum()
    x = means + sum(leaves[name].diagonal().real.sum() for name in ("s1", "s2")) - 2 * nuclear
    truths = torch.autograd.grad(x, list(leaves.values()))

    found = answer("vjp/frechet_distance", {"x": np.array(1.0), **GALLERY["full"]})

    assert found.outputs[0].dtype == np.float64
    gradients = dict(zip(("mu1", "s1", "mu2", "s2"), found.outputs[1:], strict=True))
    for name, truth in zip(leaves, truths, strict=True):
        np.testing.assert_allclose(gradients[name], truth.numpy(), atol=1e-11)
