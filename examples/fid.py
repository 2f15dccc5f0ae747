"""Frechet distances of image features, with fewer images than dimensions.

python examples/fid.py [--quick]    MATFN_URL names a server; without it this process computes

The usual code takes a root of a singular matrix of order 2048. With N images the distance needs singular values of
an N x N matrix only, and keeps its digits near 0.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

import matfn
from matfn.adapters.distances import frechet_distance_of_features

Array = NDArray[np.float64]


def features(count: int, dimensions: int, drift: float) -> Array:
    """Rectified features of random images, (count, dimensions)."""
    rng = np.random.default_rng(round(drift * 1e6))
    numbers = rng.standard_normal((count, 64)) @ np.random.default_rng(0).standard_normal((64, dimensions)) / 8
    return np.maximum(numbers + drift, 0)


def by_covariances(first: Array, second: Array) -> float:
    """The formula as it is usually written, with a root of the product of both covariances."""
    one, other = np.cov(first.T), np.cov(second.T)
    root = np.real(scipy.linalg.sqrtm(one @ other))
    return float(((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(one + other - 2 * root))


def main() -> None:
    """Prints both distances and the time that they took."""
    count, dimensions = (50, 128) if "--quick" in sys.argv else (300, 1024)
    real, generated = features(count, dimensions, 0.0), features(count, dimensions, 0.1)
    with matfn.Client() if "MATFN_URL" in os.environ else matfn.LocalClient() as client:
        started = time.perf_counter()
        ours = frechet_distance_of_features(real, generated, client)
        between = time.perf_counter()
        usual = by_covariances(real, generated)
        print(f"matfn, from features     {ours:.10f} in {between - started:.2f} s")
        print(f"scipy, from covariances  {usual:.10f} in {time.perf_counter() - between:.2f} s")
        print(f"of a set with itself     {frechet_distance_of_features(real, real, client):.1e}")


if __name__ == "__main__":
    main()
