"""Shampoo's steps against a plain implementation by eigh in float64, and its life as an optimizer of torch."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import torch
from torch import Tensor

import matfn
from matfn.optim import Shampoo
from refreshing import AtOnce, CountingClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Shift: TypeAlias = tuple[str, float]

DAMPING: Shift = ("damping", 1e-6)
SHAPES = {"matrix": (6, 4), "tall": (9, 2), "convolution": (4, 3, 2, 1), "vector": (5,), "scalar": (), "row": (1, 7)}


@pytest.fixture(scope="module")
def client() -> Iterator[CountingClient]:
    """A client on the CPU."""
    with CountingClient() as client:
        yield client


def gradients(shape: Sequence[int], steps: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random gradients, the same in every run."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype) for _ in range(steps)]


def ran(parameter: Tensor, optimizer: torch.optim.Optimizer, given: Sequence[Tensor]) -> list[Tensor]:
    """The parameter after each step with the given gradients."""
    path = []
    for gradient in given:
        parameter.grad = gradient.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    return path


def inverse_root(a: Tensor, shift: float, *, relative: bool, root: int = 4) -> Tensor:
    """(A + shift I)^(-1/root) by eigh."""
    w, v = torch.linalg.eigh(a)
    power: Tensor = (v * (w.clamp_min(0) + shift * (w[-1] if relative else 1)) ** (-1 / root)) @ v.mT
    return power


def graft(kind: str, m: Tensor, square: Tensor, correction: float) -> Tensor:
    """The step of the grafted optimizer."""
    scaled = square / correction if kind == "adam" else square
    return m if kind == "sgd" else m / (scaled.sqrt() + 1e-8)


def expected(
    shape: Sequence[int],
    given: Sequence[Tensor],
    *,
    lag: int = 0,
    kind: str = "adam",
    shift: Shift = DAMPING,
) -> list[Tensor]:
    """One block of Shampoo, written out: roots every third step, adopted `lag` later, lr 0.1, betas 0.9 and 0.99."""
    name, value = shift
    p = torch.zeros(tuple(shape), dtype=torch.float64)
    rows = shape[0] if len(shape) > 1 else 1
    matrix = len([n for n in shape if n > 1]) > 1
    l, r = torch.zeros(rows, rows).double(), torch.zeros(p.numel() // rows, p.numel() // rows).double()
    m, square, roots, path, due = torch.zeros_like(p), torch.zeros_like(p), None, [], {}
    for t, g in enumerate(given, 1):
        b, correction = g.reshape(rows, -1), 1 - 0.99**t
        l, r = 0.99 * l + 0.01 * b @ b.mT, 0.99 * r + 0.01 * b.mT @ b
        m, square = 0.9 * m + 0.1 * g, (square + g**2 if kind == "adagrad" else 0.99 * square + 0.01 * g**2)
        if t % 3 == 0:
            due[t if t == 3 else t + lag] = [
                inverse_root(f / correction, value, relative=name == "damping") for f in (l, r)
            ]
        roots = due.get(t, roots)
        step = mean = m / (1 - 0.9**t)
        step = mean if kind == "none" else graft(kind, mean, square, correction)
        if roots and matrix:
            own = (roots[0] @ mean.reshape(rows, -1) @ roots[1]).reshape(p.shape)
            step = own if kind == "none" else own * step.norm() / own.norm()
        p = p - 0.1 * step
        path.append(p)
    return path


def shampoo(parameter: Tensor, client: Any, **options: Any) -> Shampoo:
    """A Shampoo of the test's rates."""
    settings: dict[str, Any] = {"lr": 0.1, "refresh_every": 3, "betas": (0.9, 0.99), "executor": AtOnce()} | options
    return Shampoo([parameter], client=client, **settings)


def zeros(shape: Sequence[int], dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    """A parameter that starts at 0."""
    return torch.nn.Parameter(torch.zeros(tuple(shape), dtype=dtype))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("max_staleness", "lag"), [(3, 0), (6, 3), (4, 1)])
def test_steps_are_those_of_the_definition(
    client: CountingClient, shape: Sequence[int], max_staleness: int, lag: int
) -> None:
    """Every step is that of the plain implementation, with roots adopted at once, one interval later and between."""
    parameter, given = zeros(shape), gradients(shape, 13)

    path = ran(parameter, shampoo(parameter, client, max_staleness=max_staleness), given)

    for step, right in zip(path, expected(shape, given, lag=lag), strict=True):
        torch.testing.assert_close(step, right, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["none", "sgd", "adagrad", "rmsprop", "adam"])
def test_grafting_takes_the_length_of_its_optimizer(client: CountingClient, kind: Any) -> None:
    """With each grafting the steps are those of the plain implementation."""
    parameter, given = zeros((6, 4)), gradients((6, 4), 8)

    path = ran(parameter, shampoo(parameter, client, grafting=kind, max_staleness=3), given)

    for step, right in zip(path, expected((6, 4), given, kind=kind), strict=True):
        torch.testing.assert_close(step, right, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shift", [("damping", 1e-3), ("epsilon", 1e-2), ("epsilon", 1e-12)])
def test_shift_is_relative_or_absolute(client: CountingClient, shift: Shift) -> None:
    """A damping counts from the largest eigenvalue, an epsilon is added as it is; either alone is enough."""
    parameter, given = zeros((4, 4)), gradients((4, 4), 8)

    path = ran(parameter, shampoo(parameter, client, grafting="none", max_staleness=3, **dict([shift])), given)

    for step, right in zip(path, expected((4, 4), given, kind="none", shift=shift), strict=True):
        torch.testing.assert_close(step, right, rtol=1e-8, atol=1e-9)


def test_blocks_are_preconditioned_by_themselves(client: CountingClient) -> None:
    """A matrix larger than the limit moves like its blocks would as parameters of their own."""
    given = gradients((6, 4), 8)
    whole, parts = zeros((6, 4)), [zeros((3, 4)), zeros((3, 4))]

    path = ran(whole, shampoo(whole, client, max_preconditioner_dim=4), given)

    for rows, part in zip((slice(0, 3), slice(3, 6)), parts, strict=True):
        alone = ran(part, shampoo(part, client), [gradient[rows] for gradient in given])
        torch.testing.assert_close(torch.stack(path)[:, rows], torch.stack(alone), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_state_is_at_least_float32(client: CountingClient, dtype: torch.dtype) -> None:
    """Parameters of half precision keep theirs; moments, factors and roots are float32, after a checkpoint too."""
    parameter, given = zeros((6, 4), dtype), gradients((6, 4), 8, dtype)
    optimizer, other = shampoo(parameter, client), shampoo(parameter, client)

    path = ran(parameter, optimizer, given)
    other.load_state_dict(optimizer.state_dict())

    assert parameter.dtype == dtype
    assert {value.dtype for value in other.state[parameter].values()} == {torch.float32}
    torch.testing.assert_close(path[-1].double(), expected((6, 4), given, lag=3)[-1], rtol=0.05, atol=0.05)


def test_one_request_a_refresh(client: CountingClient) -> None:
    """All factors of all groups go out in one request, as exactly symmetric matrices."""
    matrices = [zeros((6, 4), torch.float32) for _ in range(3)]
    groups: list[dict[str, Any]] = [{"params": matrices[:2]}, {"params": matrices[2:], "lr": 1.0}]
    optimizer = Shampoo(groups, client=client, refresh_every=2, executor=AtOnce())
    client.requests.clear()

    for _ in range(6):
        for matrix, gradient in zip(matrices, gradients((6, 4), 3, torch.float32), strict=True):
            matrix.grad = gradient
        optimizer.step()

    assert [len(request) for request in client.requests] == [6, 6, 6]
    assert all(torch.equal(call.first, call.first.mT) for request in client.requests for call in request)


def test_groups_have_their_own_options(client: CountingClient) -> None:
    """Each group moves as a Shampoo of its own with these options would."""
    given = gradients((6, 4), 8)
    options: list[dict[str, Any]] = [{"lr": 0.3, "weight_decay": 0.1}, {"grafting": "sgd", "epsilon": 1e-3, "root": 2}]
    together = [zeros((6, 4)), zeros((6, 4))]
    groups: list[dict[str, Any]] = [{"params": [one], **own} for one, own in zip(together, options, strict=True)]
    optimizer = Shampoo(groups, lr=0.1, client=client, refresh_every=3, betas=(0.9, 0.99), executor=AtOnce())

    for gradient in given:
        for one in together:
            one.grad = gradient.clone()
        optimizer.step()

    for one, own in zip(together, options, strict=True):
        alone = zeros((6, 4))
        torch.testing.assert_close(one, torch.nn.Parameter(ran(alone, shampoo(alone, client, **own), given)[-1]))


def test_added_group_joins_the_next_refresh(client: CountingClient) -> None:
    """Parameters that come later take grafted steps until the next refresh, which has theirs."""
    first, second = zeros((6, 4)), zeros((6, 4))
    optimizer = shampoo(first, client)
    ran(first, optimizer, gradients((6, 4), 4))

    optimizer.add_param_group({"params": [second]})
    second.grad = torch.ones_like(second)
    ran(first, optimizer, gradients((6, 4), 5))

    assert len(client.requests[-1]) == 4
    assert "root_0" in optimizer.state[second]


def test_scheduler_sets_the_rate(client: CountingClient) -> None:
    """A scheduler's learning rate of 0 stops the parameters."""
    parameter, given = zeros((6, 4)), gradients((6, 4), 6)
    optimizer = shampoo(parameter, client)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 1))

    moved = ran(parameter, optimizer, given[:1])[-1]
    scheduler.step()
    stopped = ran(parameter, optimizer, given[1:])[-1]

    assert moved.abs().sum() > 0
    assert torch.equal(moved, stopped)


@pytest.mark.parametrize("kind", ["none", "sgd", "adagrad", "rmsprop", "adam"])
def test_foreach_changes_no_number(client: CountingClient, kind: Any) -> None:
    """Updating all tensors in one launch gives the bits of updating each."""
    paths, given = [], [gradients(shape, 7, torch.float32) for shape in SHAPES.values()]
    for foreach in (False, True):
        parameters = [zeros(shape, torch.float32) for shape in SHAPES.values()]
        optimizer = Shampoo(
            parameters, 0.1, client, 3, weight_decay=0.01, grafting=kind, foreach=foreach, executor=AtOnce()
        )
        for some in zip(*given, strict=True):
            for parameter, gradient in zip(parameters, some, strict=True):
                parameter.grad = gradient
            optimizer.step()
        paths.append([parameter.detach() for parameter in parameters])

    assert all(map(torch.equal, *paths))


@pytest.mark.parametrize("at", range(1, 11))
def test_resumed_run_is_the_uninterrupted_one(client: CountingClient, at: int) -> None:
    """A run from any step's checkpoint, with or without a refresh under way, has the same bits."""
    parameter, given = zeros((6, 4), torch.float32), gradients((6, 4), 14, torch.float32)
    whole = ran(parameter, shampoo(parameter, client), given)
    first = zeros((6, 4), torch.float32)
    optimizer = shampoo(first, client)
    ran(first, optimizer, given[:at])
    saved = io.BytesIO()
    torch.save({"parameter": first.detach(), "optimizer": optimizer.state_dict()}, saved)

    saved.seek(0)
    loaded = torch.load(saved)
    second = torch.nn.Parameter(loaded["parameter"])
    resumed = shampoo(second, client)
    resumed.load_state_dict(loaded["optimizer"])

    assert torch.equal(torch.stack(ran(second, resumed, given[at:])), torch.stack(whole[at:]))


def unpickled(given: Any) -> Any:
    """A copy by way of pickle."""
    return pickle.loads(pickle.dumps(given))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("copied", [copy.deepcopy, unpickled])
def test_copies_go_on_alike(copied: Any) -> None:
    """A copy of an optimizer with its parameter, made while a refresh is under way, takes the same steps."""
    parameter, given = zeros((6, 4), torch.float32), gradients((6, 4), 14, torch.float32)
    optimizer = Shampoo([parameter], client=matfn.LocalClient(device="cpu"), refresh_every=3, on_late="wait")
    ran(parameter, optimizer, given[:7])

    twin_parameter, twin = copied((parameter, optimizer))

    assert torch.equal(ran(parameter, optimizer, given[7:])[-1], ran(twin_parameter, twin, given[7:])[-1])


def test_zero_gradients_need_no_roots(client: CountingClient) -> None:
    """A parameter whose gradients were all 0 is not asked for, stays where it is and fails nothing."""
    parameter = zeros((6, 4))
    optimizer = shampoo(parameter, client)

    path = ran(parameter, optimizer, [torch.zeros_like(parameter)] * 7)

    assert not path[-1].any()
    assert optimizer.last_refresh is not None
    assert optimizer.last_refresh.failed == 0


def test_parameters_without_gradients_stay(client: CountingClient) -> None:
    """A parameter without a gradient is neither moved nor given a state."""
    used, unused = zeros((6, 4)), zeros((6, 4))
    optimizer = Shampoo([used, unused], client=client, refresh_every=1, executor=AtOnce())

    ran(used, optimizer, gradients((6, 4), 3))

    assert not unused.any()
    assert unused not in optimizer.state


def test_closure_is_evaluated_with_gradients(client: CountingClient) -> None:
    """The loss of the closure is returned, and its gradients are those of the step."""
    parameter = zeros((6, 4))
    optimizer = shampoo(parameter, client)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (parameter - 1).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.item())

    losses = [optimizer.step(closure) for _ in range(9)]

    assert losses[0] == 24
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"betas": (1.0, 0.9)}, "betas="),
        ({"damping": 1e-3, "epsilon": 1e-3}, "give one of them"),
        ({"damping": None}, "give one of them"),
        ({"grafting": "adamw"}, "'rmsprop'"),
        ({"root": 65}, "1 to 64"),
        ({"max_preconditioner_dim": 0}, "max_preconditioner_dim=0"),
        ({"refresh_every": 0}, "refresh_every=0"),
        ({"refresh_every": 5, "max_staleness": 4}, "at least 5"),
        ({"first": "never"}, "'sync', 'async'"),
        ({"on_late": "raise"}, "'keep', 'wait'"),
        ({"tolerated_failures": -1}, "tolerated_failures=-1"),
    ],
)
def test_arguments_are_checked(client: CountingClient, options: dict[str, Any], words: str) -> None:
    """An argument outside its domain is a ValueError that says what is allowed."""
    with pytest.raises(ValueError, match=words):
        Shampoo([zeros((2, 2))], client=client, **options)


def test_groups_cannot_have_a_schedule(client: CountingClient) -> None:
    """What belongs to all groups is refused in one of them."""
    with pytest.raises(ValueError, match="refresh_every: these belong to all groups"):
        Shampoo([{"params": [zeros((2, 2))], "refresh_every": 5}], client=client)


def test_complex_and_sparse_are_refused(client: CountingClient) -> None:
    """Complex parameters and sparse gradients are refused with a hint."""
    with pytest.raises(TypeError, match="view_as_real"):
        Shampoo([torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))], client=client)
    parameter = zeros((2, 2))
    parameter.grad = torch.zeros(2, 2, dtype=torch.float64).to_sparse()
    with pytest.raises(RuntimeError, match="SparseAdam"):
        shampoo(parameter, client).step()


def test_client_is_shared_by_default() -> None:
    """Optimizers that name no client have one LocalClient between them."""
    optimizers = [Shampoo([zeros((2, 2))]) for _ in range(2)]

    first, second = (optimizer._refresher._client for optimizer in optimizers)

    assert first is second
    assert isinstance(first, matfn.LocalClient)
