"""Errors of answers in the sense in which certificates state them, one a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matfn_kernels.reference.arrays import adjoint, relative_error, wide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matfn_kernels.reference.arrays import Array

__all__ = ["eigenpair_errors", "errors"]


def errors(function: str, inputs: Mapping[str, Array], found: Sequence[Array], exact: Sequence[Array]) -> Array:
    """The largest error of each answer's outputs, (batch,).

    Args:
        function: a name of the catalogue.
        inputs: arrays (batch, ...) by name, as they were sent.
        found: the outputs (batch, ...).
        exact: their definitions (`value`).
    """
    match function:
        case "eigh":
            w, v = map(wide, found)
            return eigenpair_errors(wide(inputs["a"]), w, v, exact[0])
        case "eigenbasis":
            return _of_eigenbasis(inputs, found, exact)
        case "frechet_distance":
            means, traces = inputs["mu1"] - inputs["mu2"], np.trace(inputs["s1"] + inputs["s2"], axis1=-2, axis2=-1)
            return np.asarray(np.abs(found[0] - exact[0]) / ((means**2).sum(-1) + traces))
    worst: Array = np.max([_relative(*pair) for pair in zip(found, exact, strict=True)], axis=0)
    return worst


def _of_eigenbasis(inputs: Mapping[str, Array], found: Sequence[Array], exact: Sequence[Array]) -> Array:
    """That of the eigenpairs and of the drift; where the previous basis came back, of the values and the drift."""
    q, w, drift, _ = map(wide, found)
    pairs = eigenpair_errors(wide(inputs["a"]), w, q, np.sort(exact[1], -1))
    kept = (q == wide(inputs["q"])).all((-2, -1))
    worst: Array = np.maximum(np.where(kept, _relative(w, exact[1]), pairs), np.abs(drift - exact[2]))
    return worst


def eigenpair_errors(a: Array, w: Array, v: Array, exact: Array) -> Array:
    """The largest of three errors of eigenpairs of Hermitian parts of a (batch, n, n), (batch,).

    These are max |w_i - lambda_i| / ||A||_2, ||A V - V diag(w)||_F / ||A||_F and ||V^H V - I||_F / n^(1/2); 0 in place
    of the former two for a zero matrix without errors. `exact` are the eigenvalues (batch, n), ascending.
    """
    a, order = (a + adjoint(a)) / 2, a.shape[-1]
    missing = a @ v - v * w[..., None, :]
    apart = np.abs(np.sort(w.real, -1) - exact).max(-1)
    parts = [
        _ratio(apart, np.abs(exact).max(-1)),
        _ratio(_norm(missing), _norm(a)),
        _norm(adjoint(v) @ v - np.eye(order)) / np.sqrt(order),
    ]
    worst: Array = np.max(parts, axis=0)
    return worst


def _relative(x: Array, exact: Array) -> Array:
    return relative_error(x.reshape(len(x), 1, -1), exact.reshape(len(exact), 1, -1))


def _ratio(part: Array, whole: Array) -> Array:
    ratio: Array = np.where(whole > 0, part / np.where(whole > 0, whole, 1), part)
    return ratio


def _norm(x: Array) -> Array:
    size: Array = np.sqrt((x.real**2 + x.imag**2).sum((-2, -1)))
    return size
