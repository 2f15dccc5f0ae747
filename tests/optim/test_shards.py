"""Distributed parameters: each process preconditions the shard that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import matfn
from matfn.optim import SOAP, Shampoo
from refreshing import AtOnce

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """Two processes, of which this is the second and the other answers nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    yield DeviceMesh("cpu", [0, 1])
    dist.destroy_process_group()


def shard(rows: torch.Tensor, mesh: DeviceMesh) -> DTensor:
    """A tensor of which this process holds these rows."""
    return DTensor.from_local(rows, mesh, [Shard(0)], run_check=False)


@pytest.mark.parametrize("kind", [Shampoo, SOAP])
def test_shard_moves_as_a_parameter_of_its_own(mesh: DeviceMesh, kind: type[Shampoo | SOAP]) -> None:
    """The local shard of a DTensor takes the steps of a plain parameter with its rows; its state is local too."""
    generator = torch.Generator().manual_seed(1)
    whole = torch.nn.Parameter(shard(torch.zeros(3, 4), mesh))
    alone = torch.nn.Parameter(torch.zeros(3, 4))
    client = matfn.LocalClient(device="cpu")
    optimizers = [kind([one], 0.1, client, 3, weight_decay=0.1, executor=AtOnce()) for one in (whole, alone)]

    for _ in range(8):
        alone.grad = torch.randn(3, 4, generator=generator)
        whole.grad = shard(alone.grad, mesh)
        for optimizer in optimizers:
            optimizer.step()

    assert isinstance(whole.data, DTensor)
    assert torch.equal(whole.data.to_local(), alone)
    assert not any(isinstance(value, DTensor) for value in optimizers[0].state[whole].values())
