"""Draws docs/pictures/damping.png: what dampings make of the eigenvalues of a Shampoo factor of one step."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
DAMPINGS = (1e-2, 1e-4, 1e-9)


def main() -> None:
    """Eigenvalues of the factor on the left, of its inverse fourth root on the right, largest eigenvalue 1."""
    mpl.use("Agg")
    factor = np.load(HERE.parents[1] / "demo" / "matrices.npz")["shampoo_l_step1"].astype(np.float64)
    eigenvalues = np.linalg.eigvalsh(factor)[::-1]
    eigenvalues /= eigenvalues[0]
    places = np.arange(1, len(eigenvalues) + 1)
    negative = eigenvalues < 0

    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    left.semilogy(places[~negative], eigenvalues[~negative], ".", label="positive")
    left.semilogy(places[negative], -eigenvalues[negative], ".", label="negative, by rounding")
    left.axhline(8 * np.finfo(np.float32).eps, color="0.6", lw=0.8, ls="--", label="8 eps of float32")
    left.set(title="eigenvalues of the factor, |w|", xlabel="place", ylim=(1e-12, 2))
    left.legend(fontsize=7)
    for damping in DAMPINGS:
        right.semilogy(places, (np.maximum(eigenvalues, 0) + damping) ** -0.25, label=f"damping {damping:g}")
    floor = 8 * np.finfo(np.float32).eps
    right.semilogy(places, (np.maximum(eigenvalues, 0) + floor) ** -0.25, "--", color="0.4", label="default, 8 eps")
    right.set(title="eigenvalues of the inverse fourth root", xlabel="place")
    right.legend(fontsize=7)
    plt.savefig(HERE / "damping.png", dpi=110)


if __name__ == "__main__":
    main()
