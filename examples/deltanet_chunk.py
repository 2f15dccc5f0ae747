"""The delta rule of DeltaNet, chunk by chunk, against its definition row by row.

python examples/deltanet_chunk.py [--quick]    MATFN_URL names a server; without it this process computes

A kernel's author sends the inputs of a failing case and gets the right outputs and state, with their error.
"""

from __future__ import annotations

import os
import sys

import numpy as np
from numpy.typing import NDArray

import matfn

Array = NDArray[np.float64]


def by_rows(q: Array, k: Array, v: Array, beta: Array, gate: Array) -> Array:
    """S_t = e^(g_t) S_(t-1) (I - beta_t k_t k_t^T) + beta_t v_t k_t^T, stored transposed; o_t = S_t q_t."""
    state, rows = np.zeros((k.shape[1], v.shape[1])), []
    for t in range(len(q)):
        state = np.exp(gate[t]) * (state - beta[t] * np.outer(k[t], k[t] @ state)) + beta[t] * np.outer(k[t], v[t])
        rows.append(q[t] @ state)
    return np.array(rows)


def main() -> None:
    """Compares both, in float32 as kernels compute."""
    length = 96 if "--quick" in sys.argv else 2048
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((length, 64)).astype(np.float32) for _ in range(3))
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    beta, gate = rng.uniform(0.1, 1, length).astype(np.float32), -rng.uniform(0, 0.1, length).astype(np.float32)
    with matfn.Client() if "MATFN_URL" in os.environ else matfn.LocalClient() as client:
        answer = client.with_info.delta_rule(q, k, v, beta=beta, log_gate=gate)
    truth = by_rows(*(array.astype(np.float64) for array in (q, k, v, beta, gate)))
    error = np.linalg.norm(answer.value[0] - truth) / np.linalg.norm(truth)
    print(f"{length} rows in chunks of 64: error {error:.1e}, estimate {answer.certificates[0].error_estimate:.1e}")


if __name__ == "__main__":
    main()
