"""Where each step of Newton-Schulz moves the singular values of a matrix: Muon's coefficients and optimal ones.

python examples/msign_explorer.py [--quick]    MATFN_URL names a server; without it this process computes

Muon's five steps bring large singular values between 0.7 and 1.2 and leave small ones behind. The optimal
coefficients bring all of them to 1.
"""

from __future__ import annotations

import os
import sys

import numpy as np
from numpy.typing import NDArray

import matfn

Array = NDArray[np.float64]

MUON = ((3.4445, -4.7750, 2.0315),)


def spectrum(order: int) -> Array:
    """A matrix with singular values from 1 down to 1e-3, (order, order)."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((order, order)))[0] for _ in range(2))
    m: Array = (u * np.logspace(0, -3, order)) @ v.T
    return m


def told(name: str, x: Array) -> None:
    """Prints the range of the singular values."""
    values = np.linalg.svd(x, compute_uv=False)
    print(f"{name:28} smallest {values[-1]:.6f}  largest {values[0]:.6f}")


def main() -> None:
    """Prints the singular values after each number of steps."""
    m = spectrum(16 if "--quick" in sys.argv else 256)
    told("M", m)
    with matfn.Client() if "MATFN_URL" in os.environ else matfn.LocalClient() as client:
        for steps in range(1, 6):
            answer = client.with_info.msign(m, coefficients=MUON * steps)
            told(f"Muon, {steps} step{'s' * (steps > 1)}", answer.value)
        answer = client.with_info.msign(m)
        told(f"optimal, {answer.certificates[0].steps} steps by {answer.certificates[0].method}", answer.value)
    print(f"the certificate: {answer.certificates[0]}")


if __name__ == "__main__":
    main()
