"""Vectors as right-hand sides, of every client's route to an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import matfn
import matfn.torch as mt
from matfn import wire
from matfn.exchange import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

RANDOM = np.random.default_rng(4)
N = 5
T = np.tril(RANDOM.standard_normal((N, N))) + N * np.eye(N)
B = RANDOM.standard_normal(N)
DIAG, Q, K = np.ones(N), RANDOM.standard_normal((N, 2)), RANDOM.standard_normal((N, 2))
DPLR = np.diag(DIAG) + np.tril(Q @ K.T, -1)
TIMING = wire.Timing(queue_ms=0.0, device_ms=0.0, batch_size=1, fill=0.1, profile=None)

CASES = pytest.mark.parametrize(
    ("solve", "matrix"),
    [
        (lambda client, b: client.tri_solve(T, b), T),
        (lambda client, b: client.tri_solve(T, b, transpose=True), T.T),
        (lambda client, b: client.dplr_solve(DIAG, Q, K, b), DPLR),
        (lambda client, b: client.map([matfn.call.tri_solve(T, b)] * 3)[2], T),
        (lambda client, b: client.with_info.dplr_solve(DIAG, Q, K, b).value, DPLR),
    ],
)


@pytest.fixture(scope="module")
def local() -> matfn.LocalClient:
    """A client in this process."""
    return matfn.LocalClient(device="cpu")


@CASES
def test_vector_gives_a_vector(
    solve: Callable[[Any, Any], Any], matrix: np.ndarray[Any, Any], local: matfn.LocalClient
) -> None:
    """A right-hand side of shape (n,) has a solution of shape (n,), equal to that of one column."""
    x = solve(local, B)

    assert x.shape == (N,)
    np.testing.assert_allclose(matrix @ x, B, atol=1e-13)
    np.testing.assert_array_equal(x, solve(local, B[:, None])[:, 0])


def test_vector_serves_a_batch(local: matfn.LocalClient) -> None:
    """One vector beside many matrices gives one vector for each, as numpy.linalg.solve does."""
    x = local.tri_solve(np.stack([T, 2 * T]), B)

    np.testing.assert_allclose(x, np.linalg.solve(np.stack([T, 2 * T]), B), atol=1e-13)


def test_torch_vector_stays_torch(local: matfn.LocalClient) -> None:
    """A tensor comes back as a tensor of one dimension."""
    x = local.tri_solve(torch.from_numpy(T), torch.from_numpy(B))

    assert isinstance(x, torch.Tensor)
    assert x.shape == (N,)


@pytest.mark.parametrize("b", [B, B[:, None], list(B)])
def test_claimed_vector_is_verified(b: Any, local: matfn.LocalClient) -> None:
    """A claimed solution has the dimensions of its right-hand side."""
    (certificate,) = local.verify.tri_solve(np.linalg.solve(T, b), T, b)

    assert certificate.outcome == "converged"


def test_vector_travels_as_a_column() -> None:
    """The server is asked about one column, and the answer's array has none."""
    prepared = prepare(matfn.call.tri_solve(T, B))

    assert prepared.call.inputs["b"].shape == (N, 1)
    answer = wire.Answer({"x": prepared.call.inputs["b"]}, (), TIMING, "cpu", "")
    np.testing.assert_array_equal(prepared.answer(answer).value, B)


GRADIENTS = pytest.mark.parametrize(
    ("gradients", "matrix"),
    [
        (lambda client, x, b: client.vjp.tri_solve(x, T, b), T),
        (lambda client, x, b: client.vjp.tri_solve(x, T, b, transpose=True), T.T),
        (lambda client, x, b: client.vjp.dplr_solve(x, DIAG, Q, K, b), DPLR),
        (lambda client, x, b: client.with_info.vjp.tri_solve(x, T, b).value, T),
        (lambda client, x, b: client.map([matfn.gradient.tri_solve(x, T, b)])[0], T),
    ],
)


@GRADIENTS
def test_gradient_of_a_vector_is_a_vector(
    gradients: Callable[[Any, Any, Any], Any], matrix: np.ndarray[Any, Any], local: matfn.LocalClient
) -> None:
    """The cotangent and the gradient of b have its shape; both gradients are those of one column."""
    x = np.linspace(1, 2, N)
    found, column = gradients(local, x, B), gradients(local, x[:, None], B[:, None])

    assert found.b.shape == (N,)
    np.testing.assert_allclose(found.b, np.linalg.solve(matrix.T, x), atol=1e-13)
    assert {name: getattr(found, name).shape for name in found._fields if name != "b"} == {
        name: getattr(column, name).shape for name in column._fields if name != "b"
    }


def test_gradient_of_a_vector_travels_as_a_column() -> None:
    """The server is asked about one column; the gradient of b has none, and that of the matrix stays a matrix."""
    prepared = prepare(matfn.gradient.tri_solve(B, T, B))
    sent = prepared.call.inputs
    answer = wire.Answer({"x": sent["x"]}, (), TIMING, "cpu", "", {"t": sent["t"], "b": sent["b"]})

    assert (sent["x"].shape, sent["b"].shape, sent["t"].shape) == ((N, 1), (N, 1), (N, N))
    value = prepared.answer(answer).value
    assert (value.t.shape, value.b.shape) == ((N, N), (N,))


@pytest.mark.parametrize(
    ("solve", "words"),
    [
        (lambda client: client.tri_solve(T, np.ones(N + 1)), "b has shape (6,): n is 6, but t makes it 5"),
        (lambda client: client.dplr_solve(DIAG, Q, K, np.ones(3)), "b has shape (3,): n is 3, but diag makes it 5"),
        (lambda client: client.map([matfn.call.tri_solve(T, np.ones(4))]), "b has shape (4,)"),
        (lambda client: client.vjp.tri_solve(np.ones((N, 1)), T, B), "x has shape (5, 1): n is 1, but t makes it 5 (b"),
        (lambda client: client.vjp.tri_solve(np.float64(1), T, B), "x has shape (): it has no dimension"),
        (lambda client: client.verify.tri_solve(np.ones((N, 1)), T, B), "b is a vector (n,), and x then (*, n)"),
        (lambda client: client.tri_solve(np.stack([T, T]), np.stack([B, B])), "a batch of vectors is b[..., None]"),
        (lambda client: mt.tri_solve(torch.from_numpy(T), torch.ones(4), client=client), "b has shape (4,)"),
    ],
)
def test_vector_that_does_not_fit_is_named_as_given(
    solve: Callable[[Any], Any], words: str, local: matfn.LocalClient
) -> None:
    """A refusal has the shape that the caller gave, of the input that is at fault."""
    with pytest.raises(matfn.InvalidShape) as caught:
        solve(local)

    assert words in str(caught.value)


def test_vectors_and_matrices_share_a_stack(local: matfn.LocalClient) -> None:
    """Calls of both forms in one map keep their own shapes."""
    values = local.map([matfn.call.tri_solve(T, b) for b in (B, B[:, None], B)])

    assert [value.shape for value in values] == [(N,), (N, 1), (N,)]
