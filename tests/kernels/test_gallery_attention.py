"""Attention on textbook keys and queries against 60-digit truth."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import Array, answer
from gallery import ANY, DIGITS, N, accurate, exact, plain

KEYS = ["cauchy", "frank", "hilbert", "kac-murdock-szegoe", "lehmer", "toeplitz", "vandermonde-gram", "wilkinson"]


@pytest.fixture(autouse=True)
def _digits() -> Any:
    with mpmath.workdps(DIGITS):
        yield


def _rows(name: str, dtype: str) -> Array:
    """The rows of a textbook matrix, of length 1."""
    a = ANY[name]
    return np.asarray((a / np.linalg.norm(a, axis=1, keepdims=True)).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KEYS)
def test_delta_rule_with_textbook_keys(name: str, dtype: str) -> None:
    """The recurrence S <- e^g S (I - beta k k^T) + beta v k^T, one step after the other."""
    k, q = _rows(name, dtype), _rows("grcar", dtype)
    v = np.sin(np.arange(3.0 * N)).reshape(N, 3).astype(dtype)
    beta, gate = np.linspace(0.25, 1, N).astype(dtype), -np.linspace(0, 1, N).astype(dtype)
    state, outputs = mpmath.matrix(3, N), []
    for t in range(N):
        key, value, weight = exact(k[t : t + 1]).T, exact(v[t : t + 1]).T, mpmath.mpf(float(beta[t]))
        state = mpmath.exp(mpmath.mpf(float(gate[t]))) * (state - weight * (state * key) * key.T)
        state += weight * value * key.T
        outputs.append(state * exact(q[t : t + 1]).T)

    found = answer("delta_rule", {"q": q, "k": k, "v": v, "beta": beta, "log_gate": gate}, chunk=3)

    accurate(found, np.hstack([plain(o) for o in outputs]).T)
    np.testing.assert_allclose(found.outputs[1], plain(state.T), rtol=0, atol=50 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", KEYS)
def test_logits_of_textbook_rows(name: str, dtype: str, *, causal: bool) -> None:
    """The largest product that may be seen, of two heads on one of keys."""
    q, k = np.stack([_rows("grcar", dtype), _rows("wilkinson", dtype)]), _rows(name, dtype)
    largest = []
    for head in q:
        products = exact(head) * exact(k).T
        seen = [abs(products[i, j]) for i in range(N) for j in range(N) if not causal or j <= i]
        largest.append(float(max(seen) / mpmath.sqrt(N)))

    accurate(answer("max_logit", {"q": q, "k": k[None]}, causal=causal), np.array(largest))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KEYS)
def test_clipped_textbook_weights(name: str, dtype: str) -> None:
    """Queries and keys are both multiplied by the square root of tau over the largest logit."""
    w = ANY[name].astype(dtype)[None]
    logit = np.array([300.0], dtype)

    found = answer("qk_clip", {"w_q": w, "w_k": w, "max_logit": logit})

    exactly = plain(mpmath.sqrt(mpmath.mpf(1) / 3) * exact(w[0]))[None]
    accurate(found, exactly)
    np.testing.assert_allclose(found.outputs[1], exactly, rtol=4 * float(np.finfo(dtype).eps))
