"""Orders at which sizes no longer fit the numbers that libraries state them in."""

from __future__ import annotations

import pytest
import torch

from matfn_kernels.linalg import invariant


@pytest.mark.timeout(300)
def test_large_orders_have_workspace_enough() -> None:
    """LAPACK states the size of its workspace in the numbers of the call: float32 has no 2 n^2 + 6 n + 1 of this n."""
    order = 2900

    w, v = invariant.eigh(torch.eye(order)[None])

    assert torch.equal(w, torch.ones(1, order))
    assert torch.equal(v.abs().sum(-1), torch.ones(1, order))
