"""Eigenvectors matched to the columns of a previous orthonormal basis, one matrix at a time.

Eigenvalues that rounding does not tell apart form a cluster, whose space alone is determined. Clusters are runs of the
ascending values: each begins at the first value that is more than `width` above the beginning of the run before. The
columns of the previous basis are distributed among the clusters, as many to each as it has values, so that the sum of
the squared lengths of their projections on the clusters' spaces is largest (an assignment problem). Within a cluster
the basis V U is nearest to its columns in the Frobenius norm, U the unitary polar factor of V^H Q; for a single
vector that is the factor of modulus 1 by which its product with its column is real and not negative.
Reference: Golub and Van Loan, Matrix Computations (2013), section 6.4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.methods.hermitian.eigenpairs import turned

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.numbers.arrays import Array

__all__ = ["aligned", "matched"]

_SETTLED: Final = 2 / 3
"""A square from which on a simple vector and its column are together in a best assignment.

Where i and j are apart, i with k and l with j, exchanging the two adds s_ij + s_lk - s_ik - s_lj >= s_ij - 2 (1 - s_ij)
to the sum, which is not negative."""


def matched(w: Tensor, overlaps: Tensor, width: float) -> tuple[Array, list[slice]]:
    """For each eigenvector the column of the previous basis that is its own, (n,), and the clusters.

    Args:
        w: eigenvalues (n,), ascending.
        overlaps: V^H Q (n, n).
        width: of a cluster.
    """
    clusters = _clusters(w.tolist(), width)
    squares = np.square(np.abs(overlaps.cpu().numpy().astype(np.complex128 if overlaps.is_complex() else np.float64)))
    settled = squares.max(1) >= _SETTLED
    for cluster in clusters:
        if _size(cluster) > 1:
            squares[cluster], settled[cluster] = squares[cluster].sum(0), False
    columns = squares.argmax(1)
    rest = np.setdiff1d(np.arange(len(columns)), columns[settled])
    columns[~settled] = rest[_assigned(squares[:, rest], ~settled, max(clusters, key=_size))]
    for cluster in clusters:
        columns[cluster] = np.sort(columns[cluster])
    return columns, clusters


def _assigned(squares: Array, open_rows: Array, largest: slice) -> Array:
    """Columns of a best assignment to the rows that are open, as many as there are columns.

    What the largest cluster gets in place of another row is what that row gains: it takes the columns that are left,
    and equal rows need no decision.
    """
    from scipy.optimize import linear_sum_assignment  # imported on use: a quarter of a second of each process's start

    others = open_rows.copy()
    if _size(largest) > 1:
        others[largest] = False
        squares = squares - squares[largest.start]
    _, taken = linear_sum_assignment(squares[others], maximize=True)
    found = np.empty(len(squares), dtype=np.intp)
    found[others] = taken
    found[open_rows & ~others] = np.setdiff1d(np.arange(squares.shape[1]), taken)
    return found[open_rows]


def _size(cluster: slice) -> int:
    """The number of values of a cluster."""
    return int(cluster.stop - cluster.start)


def _clusters(w: list[float], width: float) -> list[slice]:
    """Runs of ascending values that are at most `width` above the first of the run."""
    starts = [0]
    for index, value in enumerate(w):
        if value > w[starts[-1]] + width:
            starts.append(index)
    return [slice(*bounds) for bounds in zip(starts, [*starts[1:], len(w)], strict=True)]


def aligned(w: Tensor, v: Tensor, overlaps: Tensor, columns: Array, clusters: list[slice]) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n,) and eigenvectors (n, n) that are as near to their columns as their spaces allow.

    The values of a cluster are the Rayleigh quotients of its new basis.
    """
    own = overlaps[:, torch.from_numpy(columns).to(overlaps.device)]
    diagonal = own.diagonal()[None].resolve_conj()
    length = invariant.magnitude(diagonal)
    unit = invariant.divided(diagonal, torch.where(length > 0, length, 1.0))
    vectors = turned(v[None], torch.where(length > 0, unit, torch.ones_like(unit)))[0]
    values = w.clone()
    for cluster in clusters:
        if _size(cluster) > 1:
            left, _, right = invariant.svd(own[cluster, cluster][None].contiguous())
            rotation = invariant.product(left, right)
            vectors[:, cluster] = invariant.product(v[:, cluster][None], rotation)[0]
            squares = invariant.magnitude(rotation[0]).to(w.dtype).square()
            values[cluster] = invariant.product(squares.mT[None].contiguous(), w[cluster][None, :, None])[0, :, 0]
    return values, vectors
