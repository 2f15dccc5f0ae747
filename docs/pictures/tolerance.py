"""Draws docs/pictures/tolerance.png: errors of inverse fourth roots in float32 by condition."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

import matfn

HERE = Path(__file__).parent
ORDER = 64
CONDITIONS = np.logspace(0.5, 6, 23)
EPS = torch.finfo(torch.float32).eps


def powers(matrices: torch.Tensor) -> torch.Tensor:
    """Inverse fourth roots by eigh in the matrices' dtype; eigenvalues count as eps of float32 at least."""
    values, vectors = torch.linalg.eigh(matrices)  # numpy's eigh computes float32 in float64
    scaled = values.clamp_min(EPS) ** -0.25
    return torch.einsum("bij,bj,bkj->bik", vectors, scaled, vectors)


def main() -> None:
    """True errors, estimates and the default tolerance of one matrix for each condition."""
    mpl.use("Agg")
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((ORDER, ORDER)))
    spectra = np.stack([np.logspace(0, -np.log10(condition), ORDER) for condition in CONDITIONS])
    matrices = torch.from_numpy((basis * spectra[:, None, :]) @ basis.T).float()
    matrices = (matrices + matrices.mT) / 2
    answer = matfn.LocalClient().with_info.inv_root(matrices, r=4)
    shifts = torch.tensor([certificate.shift or 0.0 for certificate in answer.certificates], dtype=torch.float64)
    truth = powers(matrices.double() + shifts[:, None, None] * torch.eye(ORDER, dtype=torch.float64))

    def errors(found: torch.Tensor) -> torch.Tensor:
        differences: torch.Tensor = found - truth
        relative: torch.Tensor = differences.flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
        return relative

    conditions = [certificate.condition for certificate in answer.certificates]
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    tolerances = np.minimum(50 * EPS * np.array(conditions), 1e-3)
    axes.loglog(CONDITIONS, tolerances, "--", color="0.5", label="default tolerance")
    axes.loglog(CONDITIONS, errors(powers(matrices)), "^", ms=4, label="error of eigh in float32")
    axes.loglog(CONDITIONS, answer.errors, "-", label="matfn's estimate")
    axes.loglog(CONDITIONS, errors(answer.value), ".", label="matfn's error")
    axes.set(title="A^(-1/4) of float32 matrices of order 64", xlabel="condition of A", ylabel="relative error")
    axes.legend(fontsize=7)
    figure.savefig(HERE / "tolerance.png", dpi=110)


if __name__ == "__main__":
    main()
