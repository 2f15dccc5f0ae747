"""Frechet distances of features against torchmetrics, and where the distance is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from matfn.adapters.distances import frechet_distance_of_features

if TYPE_CHECKING:
    import matfn


def features(count: int, dimensions: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Correlated features."""
    generator = np.random.default_rng(seed)
    mixed: np.ndarray = generator.standard_normal((count, dimensions)) @ generator.standard_normal((dimensions,) * 2)
    return mixed + shift


@pytest.mark.parametrize(("first", "second"), [(200, 300), (12, 20), (12, 300), (300, 12)])
def test_distance_is_that_of_torchmetrics(client: matfn.LocalClient, first: int, second: int) -> None:
    """More or fewer features than dimensions: the distance is that of torchmetrics."""
    x, y = features(first, 40, 1), features(second, 40, 2, shift=0.5)
    moments = [x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False)]

    distance = frechet_distance_of_features(x, y, client)

    # the eigenvalues of a singular product are off by rounding, and their roots by its square root
    assert distance == pytest.approx(float(_compute_fid(*map(torch.from_numpy, moments))), rel=1e-6)


@pytest.mark.parametrize("count", [10, 100])
def test_distance_of_a_set_from_itself_is_zero(client: matfn.LocalClient, count: int) -> None:
    """Equal features have a distance of rounding alone, which is never negative."""
    x = features(count, 40, 1)

    distance = frechet_distance_of_features(x, x.copy(), client)

    assert 0 <= distance < 1e-12 * np.vdot(x, x)


def test_shift_alone_is_its_square(client: matfn.LocalClient) -> None:
    """Moving a set by a vector gives the square of its length, in few features of many dimensions too."""
    x = features(8, 64, 3)

    assert frechet_distance_of_features(x, x + 0.25, client) == pytest.approx(64 * 0.25**2, rel=1e-10)


def test_torch_features_are_taken(client: matfn.LocalClient) -> None:
    """float32 features of torch are computed with in float64."""
    x, y = features(20, 16, 1).astype(np.float32), features(30, 16, 2).astype(np.float32)

    distance = frechet_distance_of_features(torch.from_numpy(x), torch.from_numpy(y), client)

    assert distance == frechet_distance_of_features(x.astype(np.float64), y.astype(np.float64), client)


@pytest.mark.parametrize(("first", "second"), [((5, 4), (5, 3)), ((1, 4), (5, 4)), ((5,), (5, 4))])
def test_other_shapes_are_refused(client: matfn.LocalClient, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Sets of different dimensions, of one feature or of none are refused."""
    with pytest.raises(ValueError, match="must"):
        frechet_distance_of_features(np.zeros(first), np.zeros(second), client)
