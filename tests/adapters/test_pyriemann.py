"""Roots and powers of covariances against pyRiemann's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pyriemann.datasets import make_matrices
from pyriemann.geometry import base as theirs
from pyriemann.geometry.mean import mean_riemann

from matfn.adapters import pyriemann as ours

if TYPE_CHECKING:
    import matfn


@pytest.fixture(params=["spd", "hpd"])
def covariances(request: pytest.FixtureRequest) -> np.ndarray:
    """Positive definite matrices, real or complex."""
    matrices: np.ndarray = make_matrices(10, 8, request.param, rs=3)
    return matrices


@pytest.mark.parametrize("name", ["sqrtm", "invsqrtm"])
def test_roots_are_theirs(client: matfn.LocalClient, covariances: np.ndarray, name: str) -> None:
    """Each function gives what pyRiemann's of the same name gives."""
    np.testing.assert_allclose(
        getattr(ours, name)(covariances, client), getattr(theirs, name)(covariances), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("alpha", [0.5, -0.5, 1 / 3, 2, -1.25, 0.1])
def test_powers_are_theirs(client: matfn.LocalClient, covariances: np.ndarray, alpha: float) -> None:
    """Positive and negative fractions alike."""
    right = theirs.powm(covariances, alpha)

    np.testing.assert_allclose(ours.powm(covariances, alpha, client), right, rtol=1e-9, atol=1e-9 * np.abs(right).max())


@pytest.mark.parametrize("alpha", [0, np.pi, 1 / 65, 65])
def test_other_powers_are_refused(client: matfn.LocalClient, covariances: np.ndarray, alpha: float) -> None:
    """A power that is no fraction of small numbers is refused."""
    with pytest.raises(ValueError, match="alpha="):
        ours.powm(covariances, alpha, client)


def test_whitened_covariances_have_the_identity_as_mean(client: matfn.LocalClient, covariances: np.ndarray) -> None:
    """Whitening by the inverse root of pyRiemann's mean, as for EEG, moves the mean to the identity."""
    w = ours.invsqrtm(mean_riemann(covariances), client)

    np.testing.assert_allclose(mean_riemann(w @ covariances @ w.conj().T), np.eye(8), atol=1e-6)


def test_singular_covariances_have_roots(client: matfn.LocalClient) -> None:
    """Covariances of fewer samples than channels have finite roots, where an eigenvalue is negative by rounding too."""
    x = np.random.default_rng(0).standard_normal((6, 8, 3))
    singular = x @ x.mT

    roots = ours.sqrtm(singular, client)

    np.testing.assert_allclose(roots @ roots, singular, atol=1e-12 * np.abs(singular).max())
