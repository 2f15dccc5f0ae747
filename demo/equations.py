"""The demo's matrix equations, distances and attention: more functions on the same real matrices."""

from __future__ import annotations

import numpy as np

from cases import DEFAULT, TIGHT, Array, Case

__all__ = ["equations"]


def equations(data: dict[str, Array]) -> list[Case]:
    """Every function that is not a root, a polar factor or a triangular one."""
    return [*_signs(data), *_linear(data), *_means(data), *_attention(data)]


def _signs(data: dict[str, Array]) -> list[Case]:
    middle = np.float64(np.median(np.linalg.eigvalsh(data["fid_cov_b"])[96:]))
    shifted = data["fid_cov_b"] - middle * np.eye(192)
    beta, keys = data["deltanet_beta"][0].astype(np.float64), data["deltanet_keys"][0].astype(np.float64)
    jordan = np.eye(64) + np.tril(beta[:, None] * keys @ keys.T, -1)
    return [
        Case("fid covariance - t I", "mcsgn", (shifted,), 1e-8),
        Case("fid covariance - t I", "spectral_projector", (shifted,), 1e-8),
        Case("deltanet T, general", "root", (jordan,), TIGHT, {"r": 2, "structure": "general"}),
    ]


def _linear(data: dict[str, Array]) -> list[Case]:
    a = data["digits_covariance"] / 100 + np.eye(64)
    b, q = data["fid_cov_a"] + np.eye(192), np.random.default_rng(2).standard_normal((64, 192))
    return [
        Case("digits, fid", "solve_sylvester", (a, b, q), 1e-10),
        Case("digits", "solve_lyapunov", (a, data["digits_covariance"]), 1e-10),
        Case("digits / 2", "solve_discrete_lyapunov", (a / (2 * np.linalg.norm(a, 2)), a), 1e-10),
        Case("digits", "solve_care", (a, np.eye(64), a, np.eye(64)), 1e-10),
        Case("digits", "solve_dare", (a, np.eye(64), a, np.eye(64)), 1e-10),
    ]


def _means(data: dict[str, Array]) -> list[Case]:
    _, before = np.linalg.eigh(data["shampoo_l_step1"].astype(np.float64))
    gaussians = np.zeros(192), data["fid_cov_a"], np.zeros(192), data["fid_cov_b"]
    return [
        Case("shampoo l, r", "geometric_mean", (data["shampoo_l_step20"], data["shampoo_r_step20"]), DEFAULT),
        Case("momentum", "norm2", (data["momentum_q_step20"],), TIGHT),
        Case("digits + I", "cond", (data["digits_covariance"] + np.eye(64),), 1e-10),
        Case("digits", "eigh", (data["digits_covariance"],), 1e-10),
        Case("shampoo l, from step 1", "eigenbasis", (data["shampoo_l_step20"], before.astype(np.float32)), TIGHT),
        Case("digits", "eig_clip", (data["digits_covariance"],), 1e-10, {"lo": 1, "hi": 50}),
        Case("fid (rank 95)", "frechet_distance", gaussians, 1e-8),
    ]


def _attention(data: dict[str, Array]) -> list[Case]:
    keys, beta = data["deltanet_keys"], data["deltanet_beta"]
    weights = data["momentum_q_step20"].reshape(4, 64, 256)
    largest = np.array([50, 200, 400, 100], np.float32)
    return [
        Case("deltanet keys", "max_logit", (keys, keys), TIGHT),
        Case("momentum as heads", "qk_clip", (weights, weights, largest), TIGHT),
        Case("deltanet keys", "delta_rule", (keys, keys, keys), TIGHT, {"beta": beta}),
    ]
