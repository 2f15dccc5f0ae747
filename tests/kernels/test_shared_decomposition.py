"""Programs of different functions in one batch: what they share is computed once, and no bit depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from evaluating import Array, parsed
from matfn_kernels.linalg import decompositions, invariant
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.shared_decomposition import batch_key
from matfn_kernels.running.evaluation import Batch, Evaluation, batch_of, evaluate, evaluate_together
from matfn_kernels.running.plan import make_plan
from spectra import orthogonal

if TYPE_CHECKING:
    from matfn_kernels.programs.program import Program

RNG = np.random.default_rng(70)
ORDER = 12


def _positive(dtype: str = "float64") -> Array:
    q = orthogonal(RNG, ORDER, ORDER)
    a = (q * np.geomspace(1, 1e-3, ORDER)) @ q.T
    return np.asarray((a + a.T) / 2, dtype)


def _member(function: str, inputs: dict[str, Array], **keywords: Any) -> tuple[Program, Batch]:
    call = parsed(function, {name: value[None] for name, value in inputs.items()}, keywords)
    return make_plan(call, Profile.nominal()).program, batch_of(call)


def _tall(rows: int, columns: int) -> Array:
    return RNG.standard_normal((rows, columns)).astype(np.float32)


SPECTRA = {
    "root": _member("root", {"a": _positive()}, r=2, damping="range"),
    "another root": _member("root", {"a": _positive()}, r=3, s=2, damping=1e-6),
    "inverse root": _member("inv_root", {"a": _positive()}, r=4, damping=1e-6),
    "single precision": _member("inv_root", {"a": _positive("float32")}, r=4, damping=1e-6),
    "product": _member("inv_root", {"a": _positive(), "g": RNG.standard_normal((5, ORDER))}, r=2, damping=1e-6),
    "pair": _member("sqrt_pair", {"a": _positive()}, damping=1e-6),
    "clipped eigenvalues": _member("eig_clip", {"a": _positive("float32")}, lo=0.1),
    "indefinite": _member("inv_root", {"a": np.diag(np.linspace(-1, 1, ORDER))}, r=2, damping=1e-6),
}
SINGULAR = {
    "polar factor": _member("msign", {"m": _tall(20, 12)}, method="gram"),
    "wide polar factor": _member("msign", {"m": _tall(12, 20)}, method="gram"),
    "clipping": _member("mclip", {"m": _tall(20, 12)}, hi=2.0, tol=1e-6),
}


def _same(found: Evaluation, alone: Evaluation) -> bool:
    outputs = zip(found.outputs, alone.outputs, strict=True)
    return found.certificates == alone.certificates and all(
        torch.equal(x.nan_to_num(7), y.nan_to_num(7)) for x, y in outputs
    )


@pytest.mark.parametrize("members", [SPECTRA, SINGULAR], ids=["spectra", "singular values"])
def test_functions_that_share_a_stage_share_a_batch(members: dict[str, tuple[Program, Batch]]) -> None:
    """Any mix of powers, or of polar factors and clippings, has one key, and each answer the bits it has alone."""
    together = evaluate_together(list(members.values()))

    assert len({batch_key(program) for program, _ in members.values()}) == 1
    for name, found in zip(members, together, strict=True):
        assert _same(found, evaluate(*members[name])), name


def test_the_shared_stage_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One decomposition serves every function of a batch."""
    batches: list[int] = []
    eigh = invariant.eigh

    def counted(a: torch.Tensor) -> Any:
        batches.append(len(a))
        return eigh(a)

    monkeypatch.setattr(decompositions, "eigh", counted)
    members = [member for name, member in SPECTRA.items() if name != "indefinite"]

    evaluate_together(members)

    assert batches == [len(members)]


def test_strangers_and_empty_batches_are_answered_beside_others() -> None:
    """Programs that share nothing, and calls without a matrix, keep their places in the order of the answers."""
    empty = (SPECTRA["root"][0], SPECTRA["root"][1].rows(0, 0))
    members = [SPECTRA["root"], empty, SINGULAR["clipping"], SPECTRA["inverse root"], SPECTRA["root"]]

    found = evaluate_together(members)

    assert [evaluation.items for evaluation in found] == [1, 0, 1, 1, 1]
    assert all(_same(evaluation, evaluate(*member)) for evaluation, member in zip(found, members, strict=True))
