"""Gradients of eigenvalues and eigenvectors: those of torch where it has them, and finite where it has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mpmath as mp
import numpy as np
import pytest
import torch

from evaluating import answer
from honesty import certified_error, least_size
from matfn_kernels import Outcome
from spectra import orthogonal

if TYPE_CHECKING:
    from evaluating import Array

RNG = np.random.default_rng(11)


def _hermitian(order: int, *, is_complex: bool) -> Array:
    b = RNG.standard_normal((order, order)) + (1j * RNG.standard_normal((order, order)) if is_complex else 0)
    found: Array = (b + b.conj().T) / 2
    return found


@pytest.mark.parametrize("is_complex", [False, True])
def test_gradient_of_a_loss_without_phases_is_that_of_torch(is_complex: bool) -> None:
    """Where no phase of an eigenvector changes the loss, torch.linalg.eigh has the same gradient."""
    a = _hermitian(5, is_complex=is_complex)
    probe = torch.from_numpy(_hermitian(5, is_complex=is_complex))
    leaf = torch.from_numpy(a).requires_grad_()
    w, v = torch.linalg.eigh(leaf)
    loss = (w**3 * torch.einsum("ij,ik,kj->j", v.conj(), probe, v).real).sum()
    (truth,) = torch.autograd.grad(loss, leaf)
    x, y = (torch.from_numpy(one).requires_grad_() for one in answer("eigh", {"a": a}).outputs)
    own = (x**3 * torch.einsum("ij,ik,kj->j", y.conj(), probe, y).real).sum()
    cotangents = dict(zip("xy", torch.autograd.grad(own, (x, y)), strict=True))

    found = answer("vjp/eigh", {"a": a, **cotangents})

    np.testing.assert_allclose(found.outputs[2], (truth + truth.mH).numpy() / 2, atol=1e-11)
    assert found.certificates[0].outcome is Outcome.CONVERGED


def test_gradient_counts_the_phase_that_a_column_is_given() -> None:
    """The derivative of complex eigenvectors whose largest entries are real and positive agrees with differences."""
    a, direction = _hermitian(3, is_complex=True), _hermitian(3, is_complex=True)
    y = RNG.standard_normal((3, 3)) + 1j * RNG.standard_normal((3, 3))
    step = 1e-6

    found = answer("vjp/eigh", {"a": a, "y": y}).outputs[2]

    ahead, behind = (answer("eigh", {"a": a + sign * step * direction}).outputs[1] for sign in (1, -1))
    slope = (y.conj() * (ahead - behind)).sum().real / (2 * step)
    assert (found.conj() * direction).sum().real == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("a", [np.eye(3), np.zeros((3, 3)), np.diag([1.0, 1.0, 2.0])], ids=["I", "0", "a pair"])
def test_gradients_at_equal_eigenvalues_are_finite(a: Array) -> None:
    """Vectors of equal eigenvalues have no derivative: what turns them counts as 0, and the certificate says so."""
    found = answer("vjp/eigh", {"a": a, "y": RNG.standard_normal((3, 3))})

    assert np.isfinite(found.outputs[2]).all()
    assert found.certificates[0].outcome is Outcome.APPROXIMATE
    assert "equal to rounding" in (found.certificates[0].hint or "")


def test_sums_of_equal_eigenvalues_have_a_gradient() -> None:
    """The derivative of a trace is I, also at equal eigenvalues, and is certified."""
    q = orthogonal(RNG, 4, 4)

    found = answer("vjp/eigh", {"a": (q * [1.0, 1.0, 1.0, 3.0]) @ q.T, "x": np.ones(4)})

    np.testing.assert_allclose(found.outputs[2], np.eye(4), atol=1e-14)
    assert found.certificates[0].outcome is Outcome.CONVERGED


def test_a_loss_of_a_space_has_its_gradient_at_equal_eigenvalues() -> None:
    """A loss that no basis of a space of equal eigenvalues changes has the right gradient, without an estimate."""
    probe = _hermitian(3, is_complex=False)
    v = answer("eigh", {"a": np.diag([1.0, 1.0, 2.0])}).outputs[1]
    y = np.concatenate((2 * probe @ v[:, :2], np.zeros((3, 1))), 1)

    found = answer("vjp/eigh", {"a": np.diag([1.0, 1.0, 2.0]), "y": y}).outputs[2]

    truth = np.zeros((3, 3))
    truth[:2, 2] = truth[2, :2] = -probe[:2, 2]
    np.testing.assert_allclose(found, truth, atol=1e-13)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("seed", range(40))
def test_estimates_hold_at_close_and_graded_eigenvalues(seed: int) -> None:
    """Errors against the same formula in 80-bit eigenpairs are below the estimates."""
    random = np.random.default_rng(seed)
    order = int(random.integers(2, 7))
    w = 10.0 ** random.uniform(-6, 0, order) if seed % 2 else 1 + 10.0 ** random.uniform(-6, 0, order)
    q = orthogonal(random, order, order)
    a = (q * w) @ q.T
    a = (a + a.T) / 2
    y = random.standard_normal((order, order))
    found = answer("vjp/eigh", {"a": a, "y": y})
    truth = _gradient(a, y, found.outputs[1])

    estimate = found.certificates[0].error_estimate
    error = certified_error(found.outputs[2], truth, least_size(a, [y], [found.outputs[1]]))
    assert estimate is not None
    assert error <= estimate


def _gradient(a: Array, y: Array, near: Array) -> Array:
    """By mpmath, each vector with the sign of the one that is near."""
    with mp.workdps(40):
        values, vectors = mp.eigsy(mp.matrix(a.tolist()))
        order = sorted(range(len(a)), key=lambda i: values[i])
        v = np.array([[vectors[i, j] for j in order] for i in range(len(a))])
        v = v * np.sign((v * near).sum(0).astype(float))
        w = np.array([values[i] for i in order])
        g = v.T @ y
        apart = w[None, :] - w[:, None] + np.eye(len(a))
        inside = (g - g.T) / 2 / apart
        found: Array = (v @ inside @ v.T).astype(float)
        return found
