"""Frechet distances of features, as in FID, without covariances.

For features X and Y, centred and divided by the square root of one less than their number, the covariances are X^T X
and Y^T Y, and

    d^2 = |mu_x - mu_y|^2 + |X|_F^2 + |Y|_F^2 - 2 |X Y^T|_*

where |.|_* is the sum of the singular values, tr H of the polar factor H of X Y^T. With fewer features than
dimensions that is a matrix of as many rows as features, where the usual formula takes a root of order 2048 of a
singular product; with more, X and Y are replaced by the triangles of their QR decompositions. Nothing is squared, so
that distances near 0 keep their digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from matfn.shared_client import shared_client

if TYPE_CHECKING:
    from matfn.client import Client
    from matfn.local import LocalClient

__all__ = ["frechet_distance_of_features"]

_Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


def frechet_distance_of_features(features1: Any, features2: Any, client: Client | LocalClient | None = None) -> float:
    """Squared Frechet distance of the Gaussians with the means and covariances of two sets of features.

    It is what torchmetrics' FrechetInceptionDistance and pytorch-fid give for the same features, in float64.

    Args:
        features1: (N, d) array, one row for each sample; N is at least 2.
        features2: (M, d) array.
        client: who computes the polar factor; None takes a LocalClient that all share.

    Raises:
        ValueError: the arrays are no sets of features of one dimension.
    """
    first, second = _features(features1, "features1"), _features(features2, "features2")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features1 has {first.shape[1]} dimensions and features2 {second.shape[1]}; they must agree")
    difference = first.mean(0) - second.mean(0)
    x, y = _root(first), _root(second)
    product = x @ y.T
    _, h = (shared_client() if client is None else client).polar(product if len(x) >= len(y) else product.T)
    distance = difference @ difference + np.vdot(x, x) + np.vdot(y, y) - 2 * np.trace(h)
    return max(float(distance), 0.0)


def _features(given: Any, name: str) -> _Array:
    array: _Array = np.asarray(given, np.float64)
    if array.ndim != 2 or len(array) < 2:  # noqa: PLR2004 - rows and columns; a covariance needs two samples
        raise ValueError(f"{name} has shape {array.shape}; it must be (N, d), with N at least 2")
    return array


def _root(features: _Array) -> _Array:
    """A matrix X of at most d rows with X^T X the covariance."""
    centred: _Array = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    triangle: Any = np.linalg.qr(centred, mode="r")  # numpy's types know no mode
    return np.asarray(triangle, np.float64)
