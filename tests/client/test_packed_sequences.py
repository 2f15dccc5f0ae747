"""Packed sequences of the delta rule, by every client, over HTTP and on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import matfn
from matfn.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processes import ServerProcess

RANDOM: Final = np.random.default_rng(0)
Q, K, V = RANDOM.standard_normal((3, 8, 4)) / 2
STATES: Final = RANDOM.standard_normal((2, 4, 4))


@pytest.fixture(params=["server", "local"])
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[matfn.Client | matfn.LocalClient]:
    """A client of a real server, and one in this process."""
    with matfn.Client(server.url) if request.param == "server" else matfn.LocalClient() as client:
        yield client


@pytest.mark.parametrize("offsets", [[0, 3, 8], np.array([0, 3, 8]), torch.tensor([0, 3, 8], dtype=torch.int32)])
def test_each_sequence_is_as_if_it_were_alone(offsets: Any, client: matfn.Client | matfn.LocalClient) -> None:
    """Offsets are a list, or an array of whole numbers as flash-linear-attention has them."""
    outputs, states = client.delta_rule(Q, K, V, cu_seqlens=offsets, initial_state=STATES)

    for one, rows in enumerate((slice(0, 3), slice(3, 8))):
        alone, last = client.delta_rule(Q[rows], K[rows], V[rows], initial_state=STATES[one])
        np.testing.assert_array_equal(outputs[rows], alone)
        np.testing.assert_array_equal(states[one], last)


def test_calls_of_many_are_stacked(client: matfn.Client | matfn.LocalClient) -> None:
    """With states and without them."""
    calls = [matfn.call.delta_rule(x * Q, K, V, cu_seqlens=[0, 3, 8]) for x in (1, 2, 3)]
    calls += [matfn.call.delta_rule(Q, K, x * V, cu_seqlens=[0, 3, 8], initial_state=x * STATES) for x in (1, 2)]

    found = client.map(calls)

    assert {states.shape for _, states in found} == {(2, 4, 4)}
    np.testing.assert_allclose(found[4][0], 2 * found[3][0], rtol=1e-13)


def test_offsets_beyond_the_end_are_refused(client: matfn.Client | matfn.LocalClient) -> None:
    """With the length that they should end with."""
    with pytest.raises(matfn.InvalidShape, match="ends with 9, but t is 8"):
        client.delta_rule(Q, K, V, cu_seqlens=[0, 9])


def test_the_command_line_takes_offsets(tmp_path: Path) -> None:
    """As a list in JSON."""
    for name, x in (("q", Q), ("k", K), ("v", V)):
        np.save(tmp_path / f"{name}.npy", x)
    files = [str(tmp_path / f"{name}.npy") for name in "qkv"]

    result = CliRunner().invoke(
        app, ["run", "delta_rule", *files, "--cu-seqlens", "[0, 3, 8]", "--local", "-o", str(tmp_path / "o.npy")]
    )

    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "o.y.npy").shape == (2, 4, 4)
