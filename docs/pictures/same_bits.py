"""Draws docs/pictures/same_bits.png: entries of a product that change with what shares a batch, and those of matfn."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

import matfn

HERE = Path(__file__).parent
ORDER, PADDED = 100, 128


def main() -> None:
    """Where X X and A^(-1/2) computed alone differ from those of the same matrix beside others."""
    mpl.use("Agg")
    torch.set_num_threads(1)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((ORDER, ORDER)))
    padded = torch.zeros(2, PADDED, PADDED, dtype=torch.float64)
    padded[0, :ORDER, :ORDER] = x
    a = x @ x.mT / ORDER + torch.eye(ORDER, dtype=torch.float64)
    client = matfn.LocalClient()
    others = torch.stack([a * scale for scale in (2.0, 3.0, 5.0)])
    pictures = {
        f"X X alone and padded to {PADDED},\ntorch.bmm": torch.bmm(padded, padded)[0, :ORDER, :ORDER] != x @ x,
        "A^(-1/2) alone and in a batch of 4,\nmatfn": client.inv_root(torch.cat([a[None], others]), r=2)[0]
        != client.inv_root(a, r=2),
    }

    figure, both = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
    for axes, (title, differ) in zip(both, pictures.items(), strict=True):
        axes.imshow(differ, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        axes.set(title=f"{title}\n{100 * differ.double().mean():.0f} % of the entries differ", xticks=[], yticks=[])
        axes.title.set_fontsize(9)
    figure.savefig(HERE / "same_bits.png", dpi=110)


if __name__ == "__main__":
    main()
