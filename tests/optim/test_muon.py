"""Muon against its definition by singular values and torch's own, and what it refuses to send."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import matfn.optim
from matfn.optim import Muon
from matfn.optim.shards import local_shard
from refreshing import CountingClient, DownClient

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def client() -> Iterator[CountingClient]:
    """A client on the CPU."""
    with CountingClient() as client:
        yield client


def matrix(rows: int = 6, columns: int = 4, dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    """A matrix that starts at 1."""
    return torch.nn.Parameter(torch.ones(rows, columns, dtype=dtype))


def gradients(like: Tensor, steps: int = 5) -> list[Tensor]:
    """Random gradients, the same in every run."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype) for _ in range(steps)]


def ran(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> Tensor:
    """The parameter after five steps."""
    for gradient in gradients(parameter):
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw"])
def test_steps_are_those_of_the_definition(client: CountingClient, shape: Any, nesterov: bool, adjust: Any) -> None:
    """Each step goes against the polar factor of the momentum, at torch's adjusted rate."""
    parameter = matrix(*shape)
    p, average = parameter.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    ratio = 0.2 * math.sqrt(6) if adjust == "match_rms_adamw" else math.sqrt(max(1, shape[0] / shape[1]))
    for g in gradients(p):
        average = 0.9 * average + 0.1 * g
        u, _, vh = torch.linalg.svd(0.1 * g + 0.9 * average if nesterov else average, full_matrices=False)
        p = p * (1 - 0.02 * 0.1) - 0.02 * ratio * u @ vh

    path = ran(parameter, Muon([parameter], 0.02, client, momentum=0.9, nesterov=nesterov, adjust_lr_fn=adjust))

    torch.testing.assert_close(path, p, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_newton_schulz_steps_are_those_of_torch(client: CountingClient, shape: Any) -> None:
    """With torch's coefficients the steps are those of torch.optim.Muon, within its bfloat16."""
    coefficients = (3.4445, -4.775, 2.0315)
    ours, theirs = matrix(*shape), matrix(*shape)

    one = ran(ours, Muon([ours], 0.02, client, ns_coefficients=coefficients))
    other = ran(theirs, torch.optim.Muon([theirs], 0.02, ns_coefficients=coefficients))

    torch.testing.assert_close(one, other, rtol=0, atol=5 * 0.02 * 0.02)


def test_one_request_a_step(client: CountingClient) -> None:
    """The matrices of all groups go out together, and those without a gradient stay."""
    one, two, still = matrix(), matrix(3, 3), matrix()
    groups: list[dict[str, Any]] = [{"params": [one]}, {"params": [two, still], "lr": 0.1}]
    optimizer = Muon(groups, client=client)
    client.requests.clear()

    for parameter in (one, two):
        parameter.grad = gradients(parameter)[0]
    optimizer.step()

    assert [len(request) for request in client.requests] == [2]
    assert torch.equal(still, matrix())


def test_zero_gradient_only_decays(client: CountingClient) -> None:
    """A momentum of 0 has the polar factor 0."""
    parameter = matrix()
    optimizer = Muon([parameter], 0.1, client, weight_decay=0.5)
    parameter.grad = torch.zeros_like(parameter)

    optimizer.step()

    torch.testing.assert_close(parameter.detach(), 0.95 * torch.ones(6, 4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_stays(client: CountingClient, dtype: torch.dtype) -> None:
    """Parameters of any dtype keep it and move near the float64 steps."""
    low, high = matrix(dtype=dtype), matrix()

    path = ran(low, Muon([low], 0.02, client))

    assert path.dtype == dtype
    torch.testing.assert_close(path.double(), ran(high, Muon([high], 0.02, client)), rtol=0, atol=0.02)


def test_resumed_run_is_the_uninterrupted_one(client: CountingClient) -> None:
    """A run from a checkpoint has the same bits."""
    first, second = matrix(), matrix()
    optimizer, resumed = Muon([first], 0.02, client), Muon([second], 0.02, client)
    ran(first, optimizer)
    second.data.copy_(first)

    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    assert torch.equal(ran(first, optimizer), ran(second, resumed))


def test_budget_is_refused_with_a_hint() -> None:
    """Matrices that would move more than the budget over a network are refused, in whichever group they come."""
    optimizer = Muon([matrix(6, 4)], client=DownClient(), max_bytes_per_step=400)

    with pytest.raises(ValueError, match=r"384 bytes.*max_bytes_per_step is 300.*client=None"):
        Muon([matrix(6, 4)], client=DownClient(), max_bytes_per_step=300)
    with pytest.raises(ValueError, match=r"768 bytes"):
        optimizer.add_param_group({"params": [matrix(6, 4)]})

    assert len(optimizer.param_groups) == 1


def test_local_client_has_no_budget(client: CountingClient) -> None:
    """What stays in this process may be of any size."""
    parameter = matrix(6, 4)

    ran(parameter, Muon([parameter], client=client, max_bytes_per_step=0))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"lr": -1}, "lr=-1"), ({"momentum": math.nan}, "momentum=nan"), ({"adjust_lr_fn": "rms"}, "'match_rms_adamw'")],
)
def test_arguments_are_checked(client: CountingClient, options: dict[str, Any], words: str) -> None:
    """An argument outside its domain is a ValueError that says what is allowed."""
    with pytest.raises(ValueError, match=words):
        Muon([matrix()], client=client, **options)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
def test_only_matrices_are_taken(client: CountingClient, shape: tuple[int, ...]) -> None:
    """Vectors and tensors are refused by their shape."""
    with pytest.raises(ValueError, match="real matrices"):
        Muon([torch.nn.Parameter(torch.zeros(shape))], client=client)


def test_shards_are_refused(client: CountingClient) -> None:
    """A shard is refused, since its polar factor is not what the whole matrix needs; a replica is taken."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        mesh = DeviceMesh("cpu", [0, 1])
        shard = DTensor.from_local(torch.zeros(3, 4), mesh, [Shard(0)], run_check=False)
        replica = DTensor.from_local(torch.ones(6, 4), mesh, [Replicate()], run_check=False)

        with pytest.raises(ValueError, match="full_tensor"):
            Muon([torch.nn.Parameter(shard)], client=client)
        whole, alone = torch.nn.Parameter(replica), matrix(dtype=torch.float32)
        alone.grad = gradients(alone)[0]
        whole.grad = DTensor.from_local(alone.grad, mesh, [Replicate()], run_check=False)
        for one in (whole, alone):
            Muon([one], client=client).step()

        assert torch.equal(local_shard(whole.data), alone)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("optimizer", [matfn.optim.Muon, matfn.optim.Shampoo])
@pytest.mark.parametrize("client", [matfn.AsyncClient(), "http://127.0.0.1:8000", matfn.call])
def test_what_cannot_answer_is_refused_at_once(optimizer: Any, client: Any) -> None:
    """A client that a step could not use raises when the optimizer is made, not in the middle of a training."""
    with pytest.raises(TypeError, match="an optimizer takes a Client, a LocalClient or None"):
        optimizer([torch.ones(2, 2, requires_grad=True)], client=client)
