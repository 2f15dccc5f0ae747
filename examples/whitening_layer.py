"""A layer that whitens its features, trained through `matfn.torch`.

python examples/whitening_layer.py [--quick]    MATFN_URL names a server; without it this process computes

The features of a batch are decorrelated by the inverse root of their covariance, whose gradient is finite where
features coincide; by torch.linalg.eigh it is not a number there.
"""

from __future__ import annotations

import os
import sys

import torch
from torch import Tensor, nn

import matfn
import matfn.torch


class Whitening(nn.Module):
    """Features (samples, width) with the identity for their covariance."""

    def __init__(self, client: matfn.Client | matfn.LocalClient) -> None:
        super().__init__()
        self.client = client

    def forward(self, features: Tensor) -> Tensor:
        """The whitened features."""
        centred = features - features.mean(0)
        covariance = centred.mT @ centred / len(centred) + 1e-4 * torch.eye(centred.shape[1])
        return centred @ matfn.torch.inv_root(covariance, r=2, damping=0, client=self.client)


def main() -> None:
    """Trains a network on rings, and prints the loss."""
    torch.manual_seed(0)
    angles, radii = torch.rand(512, 1) * 6.28, torch.randint(1, 4, (512, 1)).float()
    inputs, targets = torch.cat((radii * angles.cos(), radii * angles.sin()), 1), radii.squeeze(1).long() - 1
    with matfn.Client() if "MATFN_URL" in os.environ else matfn.LocalClient() as client:
        model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), Whitening(client), nn.Linear(16, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        steps = 10 if "--quick" in sys.argv else 200
        for step in range(steps + 1):
            loss = nn.functional.cross_entropy(model(inputs), targets)
            if step % (steps // 5) == 0:
                print(f"step {step:4}  loss {loss.item():.4f}")
            optimizer.zero_grad()
            torch.autograd.backward([loss])
            optimizer.step()


if __name__ == "__main__":
    main()
