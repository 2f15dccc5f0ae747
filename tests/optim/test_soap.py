"""SOAP's steps against a plain implementation of the paper in float64, and its life as an optimizer of torch."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.linalg import polar
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import matfn
from matfn.optim import SOAP, RefreshWarning
from matfn.optim.schedule import Progress
from refreshing import AtOnce, CountingClient, DownClient, OnDemand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from processes import ServerProcess

    Array = NDArray[np.float64]

EVERY, BETA, LR, EPS = 3, 0.9, 0.1, 1e-8
SHAPES = {"square": (5, 5), "tall": (7, 3), "convolution": (4, 3, 2, 1), "vector": (5,), "scalar": (), "row": (1, 7)}


@pytest.fixture(scope="module")
def client() -> Iterator[CountingClient]:
    """A client on the CPU."""
    with CountingClient() as client:
        yield client


def gradients(shape: Sequence[int], steps: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random gradients about a mean, of unequal rows and columns, the same in every run."""
    generator = torch.Generator().manual_seed(7)
    scale = sum((torch.arange(1, n + 1).reshape(-1, *[1] * k) for k, n in enumerate(reversed(shape))), torch.zeros(()))
    mean = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
    noise = [torch.randn(tuple(shape), generator=generator, dtype=torch.float64) for _ in range(steps)]
    return [((mean + one) * (1 + scale)).to(dtype) for one in noise]


def ran(parameter: Tensor, optimizer: torch.optim.Optimizer, given: Sequence[Tensor]) -> list[Tensor]:
    """The parameter after each step with the given gradients."""
    path = []
    for gradient in given:
        parameter.grad = gradient.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    return path


def eigenbasis(a: Array, q: Array) -> Array:
    """Eigenvectors in the order and with the signs of q; those of the eigenvalue 0 as near to q as they can be."""
    w, v = np.linalg.eigh(a)
    null = w < 1e-12 * w[-1]
    squares = (v.T @ q) ** 2
    squares[null] = squares[null].sum(0)
    _, columns = linear_sum_assignment(squares, maximize=True)
    columns[null] = np.sort(columns[null])
    v[:, null] = v[:, null] @ polar(v[:, null].T @ q[:, columns[null]])[0] if null.any() else v[:, null]
    v[:, ~null] *= np.sign((v[:, ~null] * q[:, columns[~null]]).sum(0))
    return v[:, np.argsort(columns)]


def expected(given: Sequence[Tensor], *, lag: int = 0, decay: float = 0.0, longest: int = 1024) -> list[Array]:
    """SOAP of one matrix, written out: bases at steps 1, 4, 7, ..., in use after `lag` more."""
    shape = given[0].shape
    rows = shape[0] if len(shape) > 1 else 1
    matrix = len([n for n in shape if n > 1]) > 1
    sizes = rows, given[0].numel() // rows
    w, m, v = np.zeros(sizes), np.zeros(sizes), np.zeros(sizes)
    factors, bases, path = [np.zeros((n, n)) for n in sizes], [np.eye(n) for n in sizes], []
    due: dict[int, list[Array]] = {}
    for t, gradient in enumerate(given, 1):
        g = gradient.numpy().reshape(sizes)
        moved = t - 1 if matrix else t
        if moved:
            left, right = bases
            m, v = BETA * m + (1 - BETA) * g, BETA * v + (1 - BETA) * (left.T @ g @ right) ** 2
            correction = 1 - BETA**moved
            n = (left.T @ (m / correction) @ right) / (np.sqrt(v / correction) + EPS)
            w = (1 - LR * decay) * w - LR * left @ n @ right.T
        factors = [BETA * f + (1 - BETA) * s for f, s in zip(factors, (g @ g.T, g.T @ g), strict=True)]
        bases = due.pop(t, bases)
        if t % EVERY == 1 and matrix:
            known = zip(factors, bases, strict=True)
            due[t if t == 1 else t + lag] = [eigenbasis(f, q) if len(f) <= longest else q for f, q in known]
        bases = due.pop(t, bases)
        path.append(w.reshape(shape))
    return path


def soap(parameter: Tensor, client: Any, **options: Any) -> SOAP:
    """A SOAP of the test's rates, without decay of weights."""
    settings: dict[str, Any] = {"lr": LR, "refresh_every": EVERY, "betas": (BETA, BETA), "weight_decay": 0.0}
    return SOAP([parameter], client=client, **settings | {"executor": AtOnce()} | options)


def zeros(shape: Sequence[int], dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    """A parameter that starts at 0."""
    return torch.nn.Parameter(torch.zeros(tuple(shape), dtype=dtype))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("max_staleness", "lag"), [(3, 0), (6, 3), (4, 1)])
def test_steps_are_those_of_the_paper(
    client: CountingClient, shape: Sequence[int], max_staleness: int, lag: int
) -> None:
    """Fifty steps are those of the plain implementation, with bases adopted at once, one interval later and between."""
    parameter, given = zeros(shape), gradients(shape, 50)

    path = ran(parameter, soap(parameter, client, max_staleness=max_staleness), given)

    np.testing.assert_allclose(torch.stack(path), np.stack(expected(given, lag=lag)), rtol=1e-7, atol=1e-8)


def test_decay_is_decoupled(client: CountingClient) -> None:
    """Weights shrink by lr weight_decay a step, whatever the gradient."""
    parameter, given = zeros((5, 5)), gradients((5, 5), 9)

    path = ran(parameter, soap(parameter, client, weight_decay=0.5, max_staleness=3), given)

    np.testing.assert_allclose(torch.stack(path), np.stack(expected(given, decay=0.5)), rtol=1e-7, atol=1e-8)


def test_vectors_take_the_steps_of_adamw(client: CountingClient) -> None:
    """What has one dimension, and a matrix with both sides too long, moves as AdamW moves it."""
    for shape in ((5,), (6, 7)):
        mine, theirs, given = zeros(shape), zeros(shape), gradients(shape, 9)
        options: dict[str, Any] = {"weight_decay": 0.1, "max_preconditioner_dim": 4, "oversize": "identity"}

        path = ran(mine, soap(mine, client, **options), given)

        adamw = torch.optim.AdamW([theirs], LR, (BETA, BETA), EPS, 0.1)
        torch.testing.assert_close(torch.stack(path), torch.stack(ran(theirs, adamw, given)), rtol=1e-10, atol=1e-12)


def test_too_long_a_side_stands_in_its_axes(client: CountingClient) -> None:
    """With oversize="identity" a matrix is rotated on its short side alone."""
    parameter, given = zeros((7, 3)), gradients((7, 3), 9)
    optimizer = soap(parameter, client, max_preconditioner_dim=4, oversize="identity", max_staleness=3)

    path = ran(parameter, optimizer, given)

    np.testing.assert_allclose(torch.stack(path), np.stack(expected(given, longest=4)), rtol=1e-7, atol=1e-8)
    assert {name for name in optimizer.state[parameter] if name.startswith("factor")} == {"factor_1"}


def test_blocks_move_by_themselves(client: CountingClient) -> None:
    """A matrix larger than the limit moves like its blocks would as parameters of their own."""
    given = gradients((6, 4), 12)
    whole, parts = zeros((6, 4)), [zeros((3, 4)), zeros((3, 4))]

    path = ran(whole, soap(whole, client, max_preconditioner_dim=4), given)

    for rows, part in zip((slice(0, 3), slice(3, 6)), parts, strict=True):
        alone = ran(part, soap(part, client), [gradient[rows] for gradient in given])
        torch.testing.assert_close(torch.stack(path)[:, rows], torch.stack(alone), rtol=1e-9, atol=1e-12)


def test_squares_move_with_the_columns() -> None:
    """Where a client answers in another order, the second moments are permuted, and the steps are the same."""

    class Ascending(CountingClient):
        def _answers(self, calls: Any, *rest: Any) -> list[Any]:
            for call in (calls := list(calls)):
                call.params["order"] = "ascending"
            return super()._answers(calls, *rest)

    given, paths = gradients((5, 4), 16), []
    for other in (CountingClient(), Ascending()):
        parameter = zeros((5, 4))
        paths.append(torch.stack(ran(parameter, soap(parameter, other), given)))

    torch.testing.assert_close(*paths, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_state_is_at_least_float32(client: CountingClient, dtype: torch.dtype) -> None:
    """Parameters of half precision keep theirs; moments, factors and bases are float32, after a checkpoint too."""
    parameter, given = zeros((5, 4), dtype), gradients((5, 4), 8, dtype)
    optimizer, other = soap(parameter, client), soap(parameter, client)

    ran(parameter, optimizer, given)
    other.load_state_dict(optimizer.state_dict())

    assert parameter.dtype == dtype
    assert {value.dtype for value in other.state[parameter].values()} == {torch.float32}


def test_one_request_a_refresh(client: CountingClient) -> None:
    """All factors of all groups go out in one request, as exactly symmetric matrices, with the bases in use."""
    matrices = [zeros((6, 4), torch.float32) for _ in range(3)]
    groups: list[dict[str, Any]] = [{"params": matrices[:2]}, {"params": matrices[2:], "lr": 1.0}]
    optimizer = SOAP(groups, client=client, refresh_every=2, executor=AtOnce())
    client.requests.clear()

    for _ in range(5):
        for matrix, gradient in zip(matrices, gradients((6, 4), 3, torch.float32), strict=True):
            matrix.grad = gradient
        optimizer.step()

    assert [len(request) for request in client.requests] == [6, 6, 6]
    assert all(torch.equal(call.first, call.first.mT) for request in client.requests for call in request)
    assert all(torch.equal(call.inputs["q"], torch.eye(len(call.first))) for call in client.requests[0])
    assert not any(torch.equal(call.inputs["q"], torch.eye(len(call.first))) for call in client.requests[1])


def test_groups_have_their_own_options(client: CountingClient) -> None:
    """Each group moves as a SOAP of its own with these options would; a group that comes later joins."""
    given = gradients((6, 4), 8)
    options: list[dict[str, Any]] = [{"lr": 0.3, "weight_decay": 0.1}, {"shampoo_beta": 1.0, "eps": 1e-3}]
    together = [zeros((6, 4)), zeros((6, 4))]
    groups: list[dict[str, Any]] = [{"params": [one], **own} for one, own in zip(together, options, strict=True)]
    settings: dict[str, Any] = {"lr": LR, "betas": (BETA, BETA), "weight_decay": 0.0, "refresh_every": EVERY}
    optimizer = SOAP(groups, client=client, executor=AtOnce(), **settings)

    for gradient in given:
        for one in together:
            one.grad = gradient.clone()
        optimizer.step()

    for one, own in zip(together, options, strict=True):
        alone = zeros((6, 4))
        torch.testing.assert_close(one.detach(), ran(alone, soap(alone, client, **own), given)[-1])


@pytest.mark.parametrize("at", range(1, 11))
def test_resumed_run_is_the_uninterrupted_one(client: CountingClient, at: int) -> None:
    """A run from any step's checkpoint, with or without a refresh under way, has the same bits."""
    parameter, given = zeros((6, 4), torch.float32), gradients((6, 4), 14, torch.float32)
    whole = ran(parameter, soap(parameter, client), given)
    first = zeros((6, 4), torch.float32)
    optimizer = soap(first, client)
    ran(first, optimizer, given[:at])
    saved = io.BytesIO()
    torch.save({"parameter": first.detach(), "optimizer": optimizer.state_dict()}, saved)

    saved.seek(0)
    loaded = torch.load(saved)
    second = torch.nn.Parameter(loaded["parameter"])
    resumed = soap(second, client)
    resumed.load_state_dict(loaded["optimizer"])

    assert torch.equal(torch.stack(ran(second, resumed, given[at:])), torch.stack(whole[at:]))


def unpickled(given: Any) -> Any:
    """A copy by way of pickle."""
    return pickle.loads(pickle.dumps(given))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("copied", [copy.deepcopy, unpickled])
def test_copies_go_on_alike(copied: Any) -> None:
    """A copy of an optimizer with its parameter, made while a refresh is under way, takes the same steps."""
    parameter, given = zeros((6, 4), torch.float32), gradients((6, 4), 14, torch.float32)
    optimizer = SOAP([parameter], client=matfn.LocalClient(device="cpu"), refresh_every=3, on_late="wait")
    ran(parameter, optimizer, given[:5])

    other, second = copied((optimizer, parameter))

    assert torch.equal(torch.stack(ran(second, other, given[5:])), torch.stack(ran(parameter, optimizer, given[5:])))


def test_server_gives_the_steps_of_this_process(client: CountingClient, server: ServerProcess) -> None:
    """Bases of a real server give the losses of those that are computed here."""
    paths, given = [], gradients((6, 4), 12, torch.float32)
    with matfn.Client(server.url) as remote:
        for each in (client, remote):
            parameter = zeros((6, 4), torch.float32)
            optimizer = SOAP([parameter], client=each, refresh_every=EVERY, on_late="wait")
            paths.append(torch.stack(ran(parameter, optimizer, given)))

    torch.testing.assert_close(*paths)


def test_dead_server_keeps_training_alive() -> None:
    """A server that is down from the first step on costs warnings at the caller's line, and AdamW's steps meanwhile."""
    client, parameter, plain, given = DownClient(), zeros((5, 4)), zeros((5, 4)), gradients((5, 4), 9)
    optimizer = soap(parameter, client, max_staleness=EVERY)

    with pytest.warns(RefreshWarning, match="failure 1 in a row, 3 tolerated.*refused") as caught:
        ran(parameter, optimizer, given[:EVERY])
    assert [warning.filename for warning in caught] == [__file__]
    adam = torch.optim.AdamW([plain], LR, (BETA, BETA), EPS, 0.0)
    torch.testing.assert_close(parameter.detach(), ran(plain, adam, given[1:EVERY])[-1])
    client.down = False
    ran(parameter, optimizer, given[EVERY:])

    assert Progress.of(optimizer.param_groups[0]).adopted == 1 + 2 * EVERY
    assert bool(parameter.isfinite().all())


def test_step_never_waits_after_the_first(client: CountingClient) -> None:
    """Steps go on with the bases that there are while no answer comes, and one warning says so."""
    executor, parameter, given = OnDemand(), zeros((5, 4)), gradients((5, 4), 30)
    optimizer = soap(parameter, client, executor=executor, first="async")
    ran(parameter, optimizer, given[:EVERY])
    executor.run()
    ran(parameter, optimizer, given[EVERY : EVERY + 1])

    with pytest.warns(RefreshWarning, match="step 4 has no answer at step 7; the bases of step 1 stay") as caught:
        ran(parameter, optimizer, given[EVERY + 1 :])

    assert len(caught) == len(executor.calls) == 1


def test_gradient_that_is_not_finite_raises_at_once(client: CountingClient) -> None:
    """NaN in a factor is no failure to be tolerated."""
    parameter = zeros((5, 4))

    with pytest.raises(matfn.NotFinite):
        ran(parameter, soap(parameter, client), [torch.full((5, 4), torch.nan, dtype=torch.float64)])


def test_settled_bases_are_kept(client: CountingClient) -> None:
    """With a tol_drift that every basis meets, the identity stays in use, and the worst estimate is told."""
    parameter, given = zeros((5, 4)), gradients((5, 4), 9)
    optimizer = soap(parameter, client, tol_drift=2.0, max_staleness=3)

    ran(parameter, optimizer, given)

    assert optimizer.last_refresh is not None
    assert (optimizer.last_refresh.asked, optimizer.last_refresh.answered) == (7, 2)
    assert optimizer.last_refresh.error_estimate is not None
    assert torch.equal(optimizer.state[parameter]["basis_0"], torch.eye(5, dtype=torch.float64))


def test_closure_gives_the_loss(client: CountingClient) -> None:
    """A closure computes the gradients of a step, and its loss is returned."""
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = soap(parameter, client)

    def closure() -> float:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        torch.autograd.backward([loss])
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(8)]

    assert losses[0] == losses[1] == 6.0  # the first gradient moves nothing
    assert losses[-1] < losses[2] < losses[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\) must lie in \[0, 1\)"),
        ({"shampoo_beta": 0.0}, r"shampoo_beta=0.0 must lie in \(0, 1\]"),
        ({"eps": -1.0}, "eps=-1.0 must be a finite number"),
        ({"oversize": "drop"}, "oversize='drop' is none of 'blocks', 'identity'"),
        ({"max_preconditioner_dim": 0}, "max_preconditioner_dim=0 must be a whole number"),
        ({"refresh_every": 0}, "refresh_every=0 must be a whole number of steps"),
        ({"first": "never"}, "first='never' is none of"),
    ],
)
def test_options_outside_their_domain_are_refused(options: dict[str, Any], words: str) -> None:
    """The message names the option and what is allowed."""
    with pytest.raises(ValueError, match=words):
        SOAP([zeros((2, 2))], **options)


def test_what_belongs_to_all_groups_is_refused_in_one(client: CountingClient) -> None:
    """The error names the optimizer that takes it."""
    with pytest.raises(ValueError, match="refresh_every: these belong to all groups; pass them to SOAP itself"):
        SOAP([{"params": [zeros((2, 2))], "refresh_every": 2}], client=client)
    with pytest.raises(TypeError, match="SOAP takes no complex parameters"):
        SOAP([torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))], client=client)
