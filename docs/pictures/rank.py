"""Draws docs/pictures/rank.png: singular values of polar factors of a matrix of rank 16, by three methods."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

import matfn

HERE = Path(__file__).parent
MUON = [(3.4445, -4.7750, 2.0315)]
"""The coefficients of Muon's Newton-Schulz step, kexue.fm/archives/10922."""


def main() -> None:
    """Singular values of a 64 x 64 product of rank 16 in float32, and of three answers."""
    mpl.use("Agg")
    random = np.random.default_rng(0)
    m = (random.standard_normal((64, 16)) @ random.standard_normal((16, 64))).astype(np.float32)
    u, s, vh = np.linalg.svd(m)
    client = matfn.LocalClient()
    answers = {
        "svd, U V^T": (u @ vh, "s"),
        "15 steps of Muon's iteration": (client.with_info.msign(m, coefficients=MUON * 15).value, "^"),
        "msign": (client.msign(m), "."),
    }

    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    left.semilogy(np.arange(1, 65), s / s[0], ".")
    left.axhline(8 * np.finfo(np.float32).eps, color="0.6", lw=0.8, ls="--", label="8 eps of float32")
    left.set(title="singular values of M", xlabel="place")
    left.legend(fontsize=7)
    for name, (answer, marker) in answers.items():
        values = np.linalg.svd(answer, compute_uv=False)
        right.plot(np.arange(1, 65), values, marker, ms=4, alpha=0.7, label=name)
    right.set(title="singular values of the answers", xlabel="place")
    right.legend(fontsize=7)
    plt.savefig(HERE / "rank.png", dpi=110)


if __name__ == "__main__":
    main()
