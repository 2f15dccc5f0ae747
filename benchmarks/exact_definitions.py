"""Exact triangular and low-rank solutions, means, distances of distributions, and values of attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import long_double
from long_double import adjoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from certificate_truth import Truth
    from exact_value import Found

__all__ = ["clipped", "delta_rule", "distance_of_gaussians", "logits", "low_rank", "mean", "mean_of", "triangular"]

Array: TypeAlias = "NDArray[Any]"


def triangular(truth: Truth, chosen: dict[str, Any]) -> Found:
    """T^-1 B of a triangle, T^-1 where there is no B."""
    lower, unit = chosen["lower"], chosen["unit_diagonal"]
    t = (np.tril if lower else np.triu)(truth.wide["t"])
    if unit:
        t = t * (1 - np.eye(t.shape[-1])) + np.eye(t.shape[-1])
    return _solution(t, truth.wide.get("b"), lower=lower, transpose=chosen.get("transpose", False))


def low_rank(truth: Truth, chosen: dict[str, Any]) -> Found:
    """T^-1 B for T = diag(d) + the strict lower triangle of Q K^T, T^-1 where there is no B."""
    diag, q, k = (truth.wide[name] for name in ("diag", "q", "k"))
    t = np.tril(q @ np.swapaxes(k, -1, -2), -1) + diag[:, None, :] * np.eye(diag.shape[-1])
    return _solution(t, truth.wide.get("b"), lower=True, transpose=chosen.get("transpose", False))


def _solution(t: Array, b: Array | None, *, lower: bool, transpose: bool) -> Found:
    right = np.broadcast_to(np.eye(t.shape[-1]), t.shape) if b is None else b
    turned = np.swapaxes(t, -1, -2) if transpose else t
    return (long_double.substituted(turned, right, lower=lower != transpose),), None


def mean(truth: Truth, chosen: dict[str, Any]) -> Found:
    """The weighted geometric mean of A and B."""
    return (mean_of(truth.wide["a"], truth.wide["b"], chosen["t"]),), None


def mean_of(a: Array, b: Array, t: float) -> Array:
    """F U S^(2t-1) V^H G^H with A = F F^H, B = G G^H and F^-1 G = U S V^H; NaN where A or B is not positive."""
    (w, v), (other, basis) = long_double.eigh(a), long_double.eigh(b)
    definite = (w[:, 0] > 0) & (other[:, 0] > 0)
    w = np.where(definite[:, None], w, 1)
    first, second = (np.sqrt(np.maximum(x, 0))[:, None, :] for x in (w, other))
    u, s, vh = long_double.svd(adjoint(v / first) @ (basis * second))
    middle = (u * s[:, None, :] ** (2 * np.longdouble(t) - 1)) @ vh
    value: Array = (v * first) @ middle @ adjoint(basis * second)
    return np.where(definite[:, None, None], value, np.nan)


def distance_of_gaussians(truth: Truth, _: dict[str, Any]) -> Found:
    """By the factors of the covariances; those of a rounded covariance are its own."""
    mu1, mu2, s1, s2 = (truth.wide[name] for name in ("mu1", "mu2", "s1", "s2"))
    factors = [long_double.extended(factor) for factor in truth.sample.factors]
    if truth.eps > 1e-4:  # noqa: PLR2004 - half precision rounds the covariances
        eigens = [long_double.eigh(s) for s in (s1, s2)]
        factors = [v * np.sqrt(np.maximum(w, 0))[:, None, :] for w, v in eigens]
    nuclear = long_double.svd(adjoint(factors[0]) @ factors[1])[1].sum(-1)
    squares = (np.abs(mu1 - mu2) ** 2).sum(-1)
    terms = squares + np.trace(s1 + s2, axis1=-2, axis2=-1).real
    return (np.maximum(terms - 2 * nuclear, 0),), terms


def logits(truth: Truth, chosen: dict[str, Any]) -> Found:
    """The largest absolute logit of each head."""
    q, k = truth.wide["q"], truth.wide["k"]
    logits = np.abs(q @ np.swapaxes(np.repeat(k, q.shape[1] // k.shape[1], axis=1), -1, -2))
    t, s = logits.shape[-2:]
    if chosen["causal"]:
        logits = np.where(np.arange(s) <= np.arange(t)[:, None] + s - t, logits, 0)
    scale = 1 / np.sqrt(np.longdouble(q.shape[-1])) if chosen["scale"] is None else chosen["scale"]
    return (logits.max((-2, -1)) * scale,), None


def clipped(truth: Truth, chosen: dict[str, Any]) -> Found:
    """The weights of queries and keys after QK-Clip, and its factor."""
    w_q, w_k, largest = (truth.wide[name] for name in ("w_q", "w_k", "max_logit"))
    gamma = np.minimum(1, np.longdouble(chosen["tau"]) / largest)
    root = np.sqrt(gamma)[..., None, None]
    return (w_q * root, w_k * root, gamma), None


def delta_rule(truth: Truth, _: dict[str, Any]) -> Found:
    """The outputs and the last state of the gated delta rule, one step at a time."""
    q, k, v, beta, log_gate = (truth.wide[name] for name in ("q", "k", "v", "beta", "log_gate"))
    state = np.zeros((len(q), k.shape[-1], v.shape[-1]), dtype=np.longdouble)
    outputs = np.zeros_like(v)
    for t in range(k.shape[1]):
        key, written = k[:, t, :, None], (beta[:, t, None] * k[:, t])[:, :, None]
        kept = state - written @ (np.swapaxes(key, -1, -2) @ state)
        state = np.exp(log_gate[:, t])[:, None, None] * kept + written @ v[:, t, None, :]
        outputs[:, t] = (q[:, t, None, :] @ state)[:, 0]
    return (outputs, state), None
