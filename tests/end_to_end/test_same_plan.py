"""Restarts and replicas on one machine choose the same methods and give the same bits."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn_kernels.programs.profile import Profile
from processes import ServerProcess, running_server
from spectra import positive

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(150)  # two starts

ORDERS = (16, 64, 192, 512)


def said(server: ServerProcess) -> tuple[Any, ...]:
    """The profile of a server, and for some orders its methods, the bits of its answers and their profile."""
    with matfn.Client(server.url) as client:
        found: list[Any] = [client.status()["profile"]]
        for order in ORDERS:
            a = positive(order, condition=100.0)[0].astype(np.float32)
            for answer in (client.with_info.inv_root(a, 4), client.with_info.msign(a), client.with_info.tri_inv(a)):
                found += [answer.timing.profile, answer.certificates, answer.value.tobytes()]
    return tuple(found)


def test_restarts_and_replicas_answer_alike(server: ServerProcess) -> None:
    """A server and two that are started later, side by side, have one profile, the same certificates and bits."""
    first = said(server)
    with ExitStack() as stack:
        others = [ServerProcess() for _ in range(2)]
        for other in others:
            stack.callback(other.stop)
        second, third = (said(other.started()) for other in others)

    assert first == second == third
    assert first[1] == "{name}@{hash}".format(**first[0])


def test_given_profile_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and the client in this process go by the profile that MATFN_PROFILE names."""
    rows = [(name, kind, n, s * (1 if name == "eigh" else 1e4)) for name, kind, n, s in Profile.nominal().seconds]
    profile = Profile("cpu", tuple(rows), "cheap-eigh", "made up")
    path = tmp_path / "profile.json"
    path.write_text(profile.text())
    monkeypatch.setenv("MATFN_PROFILE", str(path))
    a = positive(32, condition=100.0)[0].astype(np.float32)

    with running_server() as server, matfn.Client(server.url) as client, matfn.LocalClient(device="cpu") as local:
        answers = [asked.with_info.inv_root(a, 4) for asked in (client, local)]
        reports = [asked.status()["profile"] for asked in (client, local)]

    assert reports == 2 * [{"name": "cheap-eigh", "hash": profile.hash}]
    assert [answer.timing.profile for answer in answers] == 2 * [profile.label]
    assert [answer.certificates[0].method for answer in answers] == 2 * ["eigh"]
