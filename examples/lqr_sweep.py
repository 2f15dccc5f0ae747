"""A sweep of LQR weights for an inverted pendulum on a cart: every Riccati equation in one call.

python examples/lqr_sweep.py [--quick]    MATFN_URL names a server; without it this process computes

For each weight of the input the gain K = R^-1 B^T X stabilises the pendulum; the slowest pole shows the price of a
cheap controller.
"""

from __future__ import annotations

import os
import sys

import numpy as np

import matfn

MASS, CART, LENGTH, GRAVITY = 0.2, 1.0, 0.5, 9.81  # kg, kg, m, m/s^2
A = np.array(
    [
        [0, 1, 0, 0],
        [0, 0, -MASS * GRAVITY / CART, 0],
        [0, 0, 0, 1],
        [0, 0, (CART + MASS) * GRAVITY / (CART * LENGTH), 0],
    ]
)
B = np.array([[0], [1 / CART], [0], [-1 / (CART * LENGTH)]])
Q = np.diag([1.0, 0.0, 10.0, 0.0])


def main() -> None:
    """Solves the sweep, and prints gains and poles of some of it."""
    weights = np.logspace(-4, 4, 9 if "--quick" in sys.argv else 400)
    with matfn.Client() if "MATFN_URL" in os.environ else matfn.LocalClient() as client:
        answer = client.with_info.solve_care(A, B, Q, weights[:, None, None], gain=True)
    _, gains = answer.value
    poles = np.linalg.eigvals(A - B @ gains)
    for place in np.linspace(0, len(weights) - 1, 5).astype(int):
        gain = ", ".join(f"{one:9.2f}" for one in gains[place, 0])
        print(f"r = {weights[place]:8.1e}   K = [{gain}]   slowest pole {poles[place].real.max():7.3f}")
    outcomes = {str(one.outcome) for one in answer.certificates}
    print(f"{len(weights)} equations: {', '.join(sorted(outcomes))}; all stable: {bool((poles.real < 0).all())}")


if __name__ == "__main__":
    main()
