"""A planted fault: an optimizer ships A^(-1/2) in place of A^(-1/4), and its own tests pass on the identity.

python examples/oracle.py    MATFN_URL names a server; without it this process computes

`client.verify` takes a claimed answer from anywhere and certifies it, without trusting how it was computed.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

import matfn

Array = NDArray[np.float64]


def shipped(a: Array) -> Array:
    """Said to be A^(-1/4)."""
    values, vectors = np.linalg.eigh(a)
    root: Array = (vectors * values**-0.5) @ vectors.T
    return root


def main() -> None:
    """Verifies the claim on the identity and on a factor of Shampoo."""
    rng = np.random.default_rng(0)
    g = rng.standard_normal((64, 256))
    with matfn.Client() if "MATFN_URL" in os.environ else matfn.LocalClient() as client:
        for name, a in (("the identity", np.eye(64)), ("a factor", g @ g.T / 256 + 0.1 * np.eye(64))):
            (verdict,) = client.verify.inv_root(shipped(a), a, r=4, damping=0)
            print(f"claimed A^(-1/4) of {name}: {verdict.outcome}, error {verdict.error_estimate:.1e}")
            for r in (2, 3, 4):
                (guess,) = client.verify.inv_root(shipped(a), a, r=r, damping=0)
                print(f"    as A^(-1/{r}): {guess.outcome}")


if __name__ == "__main__":
    main()
