"""Draws docs/pictures/iteration.png: how the coupled iteration for inverse fourth roots moves eigenvalues to 1."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from matfn_kernels.numbers.coefficients import schedule, taylor_step

HERE = Path(__file__).parent
ROOT = 4
BOUND = 1e-4
SHOWN = 5


def main() -> None:
    """Eigenvalues after each step, by optimal coefficients and by those of Taylor's polynomial."""
    mpl.use("Agg")
    eigenvalues = np.logspace(np.log10(BOUND), 0, 600)
    optimal = [(step.a, step.b, step.c) for step in schedule(ROOT, BOUND ** (1 / ROOT))]
    fixed = [taylor_step(ROOT)] * SHOWN

    figure, both = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
    for axes, title, steps in zip(
        both, ("optimal coefficients", "Taylor's coefficients"), (optimal, fixed), strict=True
    ):
        moved = eigenvalues
        axes.loglog(eigenvalues, moved, color="0.7", label="at the start")
        for number, (a, b, c) in enumerate(steps[:SHOWN], 1):
            moved = moved * (a + b * moved + c * moved**2) ** ROOT
            axes.loglog(eigenvalues, moved, color=plt.cm.viridis(1 - number / SHOWN), label=f"step {number}")
        axes.set(title=title, xlabel="eigenvalue of A")
    both[0].set_ylabel("eigenvalue of the iterate P")
    both[1].legend(fontsize=7)
    figure.savefig(HERE / "iteration.png", dpi=100)


if __name__ == "__main__":
    main()
