"""Draws docs/pictures/certificates.png: true errors, estimates and proved bounds of answers in single precision."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

import matfn

HERE = Path(__file__).parent
ORDER = 64
CONDITIONS = np.logspace(0.3, 4, 25)
EPS = float(np.finfo(np.float32).eps)


def main() -> None:
    """Inverse square roots by the iteration in float32, one matrix for each condition."""
    mpl.use("Agg")
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((ORDER, ORDER)))
    spectra = np.stack([np.logspace(0, -np.log10(condition), ORDER) for condition in CONDITIONS])
    matrices = torch.from_numpy((basis * spectra[:, None, :]) @ basis.T).float()
    matrices = (matrices + matrices.mT) / 2
    values, vectors = torch.linalg.eigh(matrices.double())
    truth = (vectors * values.rsqrt()[:, None, :]) @ vectors.mT
    answer = matfn.LocalClient().with_info.inv_root(
        matrices, r=2, method="engine", precision="fp32", certify="proved", on_failure="nan"
    )
    errors = ((answer.value - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).numpy()
    bounds = [one.error_bound or np.nan for one in answer.certificates]
    conditions = np.array([one.condition or np.nan for one in answer.certificates])

    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    axes.loglog(CONDITIONS, np.minimum(50 * EPS * conditions, 1e-3), "--", color="0.5", label="default tolerance")
    axes.loglog(CONDITIONS, answer.errors, "-", label="error_estimate")
    axes.loglog(CONDITIONS, bounds, "-.", label="error_bound, proved")
    axes.loglog(CONDITIONS, errors, ".", label="true error")
    axes.set(title="A^(-1/2) by the iteration in float32", xlabel="condition of A", ylabel="relative error")
    axes.legend(fontsize=7)
    figure.savefig(HERE / "certificates.png", dpi=110)


if __name__ == "__main__":
    main()
