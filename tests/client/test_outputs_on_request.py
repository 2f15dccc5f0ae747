"""Outputs that a parameter asks for, over every client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import matfn

if TYPE_CHECKING:
    from processes import ServerProcess


@pytest.mark.parametrize("function", ["solve_care", "solve_dare"])
def test_gains_come_on_request(server: ServerProcess, function: str) -> None:
    """One array without a request, a pair with one, the same over HTTP, in this process and among many calls."""
    a, b = np.array([[1.0, 0.1], [0.2, 1.0]]), np.array([[0.0], [1.0]])
    inputs = (np.stack([a, 2 * a]), b, np.eye(2), np.eye(1))
    with matfn.Client(server.url) as client, matfn.LocalClient() as local:
        x = getattr(client, function)(*inputs)
        pairs = [getattr(one, function)(*inputs, gain=True) for one in (client, local)]
        calls = [getattr(matfn.call, function)(one, *inputs[1:], gain=True) for one in inputs[0]]
        pairs += [tuple(map(np.stack, zip(*one.map(calls), strict=True))) for one in (client, local)]

    assert x.shape == (2, 2, 2)
    assert [[value.shape for value in pair] for pair in pairs] == [[(2, 2, 2), (2, 1, 2)]] * 4
    for pair in pairs:
        assert all(np.array_equal(one, other) for one, other in zip(pair, pairs[0], strict=True))
    np.testing.assert_allclose(pairs[0][0], x, rtol=1e-10)
