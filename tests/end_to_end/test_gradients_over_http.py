"""Gradients of `matfn.torch` over a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import matfn
import matfn.torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import ServerProcess


@pytest.fixture
def client(server: ServerProcess) -> Iterator[matfn.Client]:
    """A client of the server."""
    with matfn.Client(server.url) as opened:
        yield opened


def gaussian(*shape: int) -> torch.Tensor:
    """Gaussian numbers, as a leaf."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2, 3, 5)])
def test_msign_is_differentiable_over_http(client: matfn.Client, shape: tuple[int, ...]) -> None:
    """The gradient of a square, tall and wide matrix agrees with central differences."""
    assert torch.autograd.gradcheck(lambda m: matfn.torch.msign(m, client=client), (gaussian(*shape),))


def test_roots_are_differentiable_over_http(client: matfn.Client) -> None:
    """The gradient of a shifted root of rank 2 agrees with central differences."""
    assert torch.autograd.gradcheck(
        lambda a: matfn.torch.inv_root(a @ a.mT, 4, shift=0.1, client=client), (gaussian(4, 2),)
    )


def test_gradients_have_the_same_bits_over_http(client: matfn.Client) -> None:
    """The server's gradient and this process's are the same, bit for bit."""
    found = list[torch.Tensor]()
    for one in (client, matfn.LocalClient()):
        m = gaussian(6, 4)
        loss = matfn.torch.msign(m, client=one)[0, 0] + matfn.torch.mclip(m, client=one)[0, 0]
        found += torch.autograd.grad([loss], [m])

    assert torch.equal(found[0], found[1])
