"""Draws docs/pictures/coefficients.png: the optimal coefficients of a step by the interval that is left, and errors."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from matfn_kernels.numbers.coefficients import schedule

HERE = Path(__file__).parent
STARTS = (1e-2, 1e-4, 1e-6)
ROUNDING = 1e-16


def main() -> None:
    """Coefficients of the polar factor's step on the left; on the right what is left after each step."""
    mpl.use("Agg")
    bounds = np.logspace(-6, -0.05, 60)
    first = [schedule(2, bound)[0] for bound in bounds]

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for name in ("a", "b", "c"):
        left.semilogx(bounds, [getattr(step, name) for step in first], label=name)
    for value, name in zip((15 / 8, -10 / 8, 3 / 8), ("a", "b", "c"), strict=True):
        left.axhline(value, color="0.75", lw=0.8, ls="--", label="Taylor's" if name == "a" else None)
    left.set(title="coefficients of the next step", xlabel="smallest singular value, relative to the largest")
    left.legend(fontsize=7)
    for start in STARTS:
        errors = [1 - start, *(max(step.error, ROUNDING) for step in schedule(2, start))]
        right.semilogy(range(len(errors)), errors, "o-", ms=4, label=f"from {start:g}")
    right.set(title="largest |s - 1| after each step", xlabel="steps", ylim=(3e-17, 3))
    right.legend(fontsize=7)
    figure.savefig(HERE / "coefficients.png", dpi=100)


if __name__ == "__main__":
    main()
