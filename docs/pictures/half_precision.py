"""Draws docs/pictures/half_precision.png: eigenvalues of a covariance before and after it is rounded."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
ORDER = 64


def main() -> None:
    """A covariance of condition 1e6, its eigenvalues in float64 and those of its roundings."""
    mpl.use("Agg")
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((ORDER, ORDER)))
    a = torch.from_numpy((basis * np.logspace(0, -6, ORDER)) @ basis.T)

    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for name in ("float64", "float32", "float16", "bfloat16"):
        values = torch.linalg.eigvalsh(a.to(getattr(torch, name)).double()).flip(0).numpy()
        places, positive = np.arange(1, ORDER + 1), values > 0
        (line,) = axes.semilogy(places[positive], values[positive], ".", ms=4, label=name)
        axes.semilogy(places[~positive], -values[~positive], "x", ms=4, color=line.get_color())
    axes.set(title="eigenvalues of one covariance, rounded; x: negative ones, |w|", xlabel="place")
    axes.legend(fontsize=7)
    figure.savefig(HERE / "half_precision.png", dpi=110)


if __name__ == "__main__":
    main()
