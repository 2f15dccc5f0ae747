"""The demo's matrix equations, distances and attention: more functions on the same real matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg

from cases import DEFAULT, TIGHT, Array, Case, known

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["equations"]

FRECHET = 25.13595266679713406
"""Distance of the two shipped covariances with equal means, computed once with 50 digits."""


def equations(data: dict[str, Array]) -> list[Case]:
    """Every function that is not a root, a polar factor or a triangular one."""
    return [*_signs(data), *_linear(data), *_means(data), *_attention(data)]


def _through(a: Array, image: Callable[[Array], Array]) -> Array:
    """V f(w) V^T of a symmetric matrix, in float64."""
    w, v = np.linalg.eigh(a.astype(np.float64))
    value: Array = (v * image(w)) @ v.T
    return value


def _signs(data: dict[str, Array]) -> list[Case]:
    middle = np.float64(np.median(np.linalg.eigvalsh(data["fid_cov_b"])[96:]))
    shifted = data["fid_cov_b"] - middle * np.eye(192)
    beta, keys = data["deltanet_beta"][0].astype(np.float64), data["deltanet_keys"][0].astype(np.float64)
    jordan = np.eye(64) + np.tril(beta[:, None] * keys @ keys.T, -1)
    root = np.asarray(scipy.linalg.sqrtm(jordan))
    return [
        Case("fid covariance - t I", "mcsgn", (shifted,), known(_through(shifted, np.sign)), 1e-8),
        Case("fid covariance - t I", "spectral_projector", (shifted,), known(_through(shifted, lambda w: w > 0)), 1e-8),
        Case("deltanet T, general", "root", (jordan,), known(root), TIGHT, {"r": 2, "structure": "general"}),
    ]


def _linear(data: dict[str, Array]) -> list[Case]:
    a = data["digits_covariance"] / 100 + np.eye(64)
    b, q = data["fid_cov_a"] + np.eye(192), np.random.default_rng(2).standard_normal((64, 192))
    w, v = np.linalg.eigh(a)
    p, u = np.linalg.eigh(b)
    x = v @ ((v.T @ q @ u) / (w[:, None] + p)) @ u.T
    weight = data["digits_covariance"]
    y = v @ ((v.T @ weight @ v) / (w[:, None] + w)) @ v.T
    stabilising = _through(a, lambda d: d + np.sqrt(d * d + d))
    return [
        Case("digits, fid", "solve_sylvester", (a, b, q), known(x), 1e-10),
        Case("digits", "solve_lyapunov", (a, weight), known(y), 1e-10),
        Case(
            "digits",
            "solve_care",
            (a, np.eye(64), a, np.eye(64)),
            known(stabilising),
            1e-10,
        ),
    ]


def _means(data: dict[str, Array]) -> list[Case]:
    first, second = data["shampoo_l_step20"], data["shampoo_r_step20"]
    half = _through(first, np.sqrt)
    inverse = _through(first, lambda w: 1 / np.sqrt(w))
    mean = half @ _through(inverse @ second.astype(np.float64) @ inverse, lambda w: np.sqrt(np.maximum(w, 0))) @ half
    digits = data["digits_covariance"]
    clipped = _through(digits, lambda w: np.clip(w, 1, 50))
    gaussians = np.zeros(192), data["fid_cov_a"], np.zeros(192), data["fid_cov_b"]
    return [
        Case("shampoo l, r", "geometric_mean", (first, second), known(mean), DEFAULT),
        Case(
            "digits",
            "eig_clip",
            (digits,),
            known(clipped),
            1e-10,
            {"lo": 1, "hi": 50},
        ),
        Case(
            "fid (rank 95)",
            "frechet_distance",
            gaussians,
            known(np.array(FRECHET)),
            1e-8,
        ),
    ]


def _attention(data: dict[str, Array]) -> list[Case]:
    keys, beta = data["deltanet_keys"], data["deltanet_beta"]
    wide = keys.astype(np.float64)
    logits = np.abs(np.tril(wide @ wide.swapaxes(1, 2))).max((1, 2)) / 8
    weights = data["momentum_q_step20"].reshape(4, 64, 256)
    largest = np.array([50, 200, 400, 100], np.float32)
    gamma = np.minimum(1, 100 / largest.astype(np.float64))
    scaled = weights * np.sqrt(gamma)[:, None, None]
    return [
        Case("deltanet keys", "max_logit", (keys, keys), known(logits), TIGHT),
        Case("momentum as heads", "qk_clip", (weights, weights, largest), known(scaled, scaled, gamma), TIGHT),
        Case("deltanet keys", "delta_rule", (keys, keys, keys), known(*_recurrence(wide, beta)), TIGHT, {"beta": beta}),
    ]


def _recurrence(keys: Array, beta: Array) -> tuple[Array, Array]:
    """Outputs and final state of the delta rule with queries and values equal to the keys, step by step."""
    state: Any = np.zeros((4, 64, 64))
    outputs = []
    for t in range(keys.shape[1]):
        k = keys[:, t, :, None]
        state = state + beta[:, t, None, None] * k @ (k.swapaxes(1, 2) - k.swapaxes(1, 2) @ state)
        outputs.append((state.swapaxes(1, 2) @ k)[..., 0])
    return np.stack(outputs, axis=1), state
