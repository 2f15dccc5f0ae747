"""Covariances of 1000 EEG windows, whitened in one call and checked.

python examples/eeg_whitening.py [--quick]    MATFN_URL names a server; without it this process computes

Each window mixes 64 channels of 40 sources with noise. W = C^(-1/2) whitens its samples: W C W is the identity.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
from numpy.typing import NDArray

import matfn

Array = NDArray[np.float64]


def windows(count: int, channels: int = 64, sources: int = 40, samples: int = 256) -> Array:
    """Covariances of mixed sources, (count, channels, channels)."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((count, channels, sources)) * np.logspace(0, -2, sources)
    signals = mixing @ rng.standard_normal((count, sources, samples))
    signals += 1e-2 * rng.standard_normal(signals.shape)
    return signals @ signals.mT / samples


def main() -> None:
    """Whitens, and prints how well and how fast."""
    covariances = windows(50 if "--quick" in sys.argv else 1000)
    with matfn.Client() if "MATFN_URL" in os.environ else matfn.LocalClient() as client:
        client.inv_root(covariances[:2], r=2)  # connects
        started = time.perf_counter()
        answer = client.with_info.inv_root(covariances, r=2)
        seconds = time.perf_counter() - started
    whitened = answer.value @ covariances @ answer.value
    worst = np.linalg.norm(whitened - np.eye(covariances.shape[-1]), axis=(1, 2)).max()
    print(f"{len(covariances)} windows in {seconds * 1e3:.0f} ms on {answer.device}")
    print(f"condition up to {np.linalg.cond(covariances).max():.1e}; |W C W - I| at most {worst:.1e}")
    print(f"estimated errors of W: at most {max(one.error_estimate or np.inf for one in answer.certificates):.1e}")


if __name__ == "__main__":
    main()
