"""Thousands of flawed matrices cost what good ones cost."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from matfn_kernels import Limits, batch_of, evaluate, make_plan, screen
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.validation import parse_call
from matfn_kernels.running.requested import Requested

COUNT = 300
KEPT = 7  # one of so many matrices has an answer


@pytest.fixture
def mixed() -> torch.Tensor:
    """Matrices (COUNT, 2, 2) of which most are not symmetric, by different amounts, and the others are diag(1, 16)."""
    a = torch.diag(torch.tensor([1.0, 16.0])).repeat(COUNT, 1, 1)
    flawed = torch.arange(COUNT) % KEPT != 0
    a[flawed, 0, 1] = torch.arange(1.0, COUNT + 1)[flawed]
    return a


def test_tolerances_are_computed_once(mixed: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many matrices have a reason of their own, the tolerances of the batch are computed once."""
    computed: list[int] = []
    tolerances = Requested.tolerances

    def counted(one: Requested, condition: torch.Tensor, spacing_out: float) -> torch.Tensor:
        computed.append(len(condition))
        return tolerances(one, condition, spacing_out)

    monkeypatch.setattr(Requested, "tolerances", counted)
    call = parse_call("inv_root", {"a": mixed}, {"r": 2}, {"on_failure": "nan"}, Limits())
    plan = make_plan(call, Profile.nominal())
    evaluation = evaluate(plan.program, batch_of(screen(call)))
    good = [certificate.code is None for certificate in evaluation.certificates]

    assert sum(computed) <= 2 * COUNT
    assert good == [index % KEPT == 0 for index in range(COUNT)]
    assert all(f"matrix {i} of a" in str(c.hint) for i, c in enumerate(evaluation.certificates) if c.code)
    assert np.isnan(evaluation.outputs[0].numpy()).all((1, 2)).tolist() == [not one for one in good]
    assert torch.allclose(evaluation.outputs[0][::KEPT], torch.diag(torch.tensor([1.0, 0.25])))


def test_requests_survive_pickling(mixed: torch.Tensor) -> None:
    """What a worker is told of each matrix is what was found, with the reasons of flawed ones."""
    call = parse_call("inv_root", {"a": mixed}, {"r": 2}, {"on_failure": "nan"}, Limits())
    requested = batch_of(screen(call)).requested
    again = pickle.loads(pickle.dumps(requested))  # noqa: S301

    for one, other in zip(requested, again, strict=True):
        assert one.kind == other.kind
        assert (one.rejection is None) == (other.rejection is None)
        if one.rejection is not None:
            assert vars(one.rejection) == vars(other.rejection)
