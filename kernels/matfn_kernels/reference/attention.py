"""The functions of attention, by the whole matrix of logits and one step of the recurrence after the other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from matfn_kernels.reference.arrays import wide

if TYPE_CHECKING:
    from matfn_kernels.reference.arrays import Array

__all__ = ["delta_rule", "max_logit", "qk_clip"]


def max_logit(q: Array, k: Array, *, scale: float | None, causal: bool) -> Array:
    """Max |q_i . k_j| scale over visible pairs for q (batch, h, t, d), k (batch, hk, s, d), 0 without any."""
    shared = np.repeat(wide(k), q.shape[-3] // max(1, k.shape[-3]), axis=-3)
    logits = np.abs(wide(q) @ np.swapaxes(shared, -1, -2))
    t, s = logits.shape[-2:]
    seen = np.arange(s) <= np.arange(t)[:, None] + s - t if causal else np.ones((t, s), dtype=bool)
    largest: Array = np.where(seen, logits, 0).max((-2, -1), initial=0)
    return largest * (max(1, q.shape[-1]) ** -0.5 if scale is None else scale)


def qk_clip(w_q: Array, w_k: Array, max_logit: Array, *, tau: float, variant: str) -> tuple[Array, Array, Array]:
    """(w_q, w_k, gamma) scaled, for w_q (batch, h, dq, m), w_k (batch, hk, dk, m'), max_logit (batch, h)."""
    clipped = wide(max_logit) > tau
    excess = np.where(clipped, wide(max_logit), 1)
    gamma = np.where(clipped, tau / excess, 1)
    root = np.where(clipped, np.sqrt(tau) / np.sqrt(excess), 1)
    if variant == "mla":
        rope = np.arange(w_q.shape[-2]) >= w_k.shape[-2]
        of_q, of_k = np.where(rope, gamma[..., None], root[..., None]), root
    else:
        of_q, of_k = _grouped(root, w_k.shape[-3])
    return wide(w_q) * of_q[..., None], wide(w_k) * of_k[..., None, None], gamma


def _grouped(root: Array, groups: int) -> tuple[Array, Array]:
    """Factors of w_q (batch, h, 1), gamma Gamma^(-1/2), and w_k (batch, hk), Gamma^(1/2), Gamma a group's largest."""
    size = root.shape[-1] // max(1, groups)
    largest = root.reshape(*root.shape[:-1], groups, size).max(-1) if size else np.ones((*root.shape[:-1], groups))
    shared = np.repeat(largest, size, axis=-1)
    return (root * np.divide(root, shared, out=np.zeros_like(root), where=shared > 0))[..., None], largest


def _packed(
    given: dict[str, Array | None], states: Array | None, offsets: tuple[int, ...], **keywords: float
) -> tuple[Array, Array]:
    """The delta rule of each sequence by itself."""
    axes = {"beta": -1, "log_gate": -1}
    parts = [
        {name: None if x is None else np.take(x, range(start, stop), axes.get(name, -2)) for name, x in given.items()}
        for start, stop in pairwise(offsets)
    ]
    firsts = [None if states is None else states[..., one, :, :] for one in range(len(parts))]
    found = [
        delta_rule(**part, initial_state=first, **keywords)  # type: ignore[arg-type]
        for part, first in zip(parts, firsts, strict=True)
    ]
    return np.concatenate([o for o, _ in found], -2), np.stack([state for _, state in found], -3)


def delta_rule(  # noqa: PLR0913, PLR0917 - the function's own arguments
    q: Array,
    k: Array,
    v: Array,
    beta: Array | None = None,
    log_gate: Array | None = None,
    channel_log_gate: Array | None = None,
    initial_state: Array | None = None,
    *,
    chunk: int,
    scale: float,
    cu_seqlens: tuple[int, ...] | None = None,
) -> tuple[Array, Array]:
    """(o, S_t) of S_t = S_(t-1) Diag(e^g_t) (I - beta_t k_t k_t^T) + beta_t v_t k_t^T, o_t = scale S_t q_t.

    For q, k (batch, t, dk), v (batch, t, dv), beta, log_gate (batch, t), channel_log_gate (batch, t, dk), initial_state
    (batch, dk, dv), as which the state is stored: transposed. The value does not depend on chunk. Packed sequences have
    states (batch, N, dk, dv).
    """
    if cu_seqlens is not None:
        given = {"q": q, "k": k, "v": v, "beta": beta, "log_gate": log_gate, "channel_log_gate": channel_log_gate}
        return _packed(given, initial_state, cu_seqlens, chunk=chunk, scale=scale)
    del chunk
    q, k, v = wide(q), wide(k), wide(v)
    strength = np.ones(k.shape[:-1]) if beta is None else wide(beta)
    gate = np.ones(k.shape) if log_gate is None else np.exp(wide(log_gate))[..., None] * np.ones(k.shape)
    gate = gate if channel_log_gate is None else np.exp(wide(channel_log_gate))
    empty = np.zeros((*k.shape[:-2], k.shape[-1], v.shape[-1]))
    state = empty if initial_state is None else wide(initial_state)
    outputs = np.zeros(v.shape)
    for t in range(k.shape[-2]):
        key, value, query = k[..., t, :, None], v[..., t, None, :], q[..., t, None, :]
        written = strength[..., t, None, None] * key
        state = gate[..., t, :, None] * state
        state = state - written @ (np.swapaxes(key, -1, -2) @ state) + written @ value
        outputs[..., t, :] = (query @ state)[..., 0, :]
    return scale * outputs, state
