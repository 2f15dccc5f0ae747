"""Roots in single precision where a caller's tolerance allows it: for those calls only, and never overstated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from evaluating import Answer, Array, answer, candidates, parsed, run, truth
from honesty import assert_covered, assert_honest, estimate_of, reference_errors
from matfn_kernels.methods.roots.trial_power import TrialPower
from matfn_kernels.programs.profile import Profile
from matfn_kernels.reference import relative_error
from matfn_kernels.running import evaluation
from matfn_kernels.running.plan import make_plan
from spectra import SHAPES, orthogonal, positive

if TYPE_CHECKING:
    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.validation import Call
    from matfn_kernels.running.evaluation import Batch, Evaluation

TOL = 1e-3
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("inv_root", {"r": 4}),
    ("inv_root", {"r": 2, "damping": 1e-3}),
    ("inv_root", {"r": 4, "damping": 1e-6}),
    ("inv_root", {"r": 3, "s": 4}),
    ("root", {"r": 2}),
    ("root", {"r": 2, "s": 3, "damping": 1e-2}),
    ("sqrt_pair", {}),
]


def _trial(function: str, inputs: dict[str, Array], keywords: dict[str, Any]) -> Answer:
    """What eigh in float32 with float64 behind it answers to a loose tolerance."""
    (found,) = [
        run(program, call)
        for program, call in candidates(function, inputs, tol=TOL, on_failure="nan", **keywords)
        if isinstance(program, TrialPower)
    ]
    return found


def _assert_covered(found: Answer, function: str, inputs: dict[str, Array], keywords: dict[str, Any]) -> None:
    """Asserts that every estimate is at least the error, and every matrix that converged within its tolerance."""
    expected = truth(function, inputs, found.certificates, **keywords)
    errors = np.max([relative_error(x, y) for x, y in zip(found.outputs, expected, strict=True)], axis=0)
    assert_covered(errors, found.certificates, slack=reference_errors(found.certificates))
    assert all(e <= TOL for e, c in zip(errors, found.certificates, strict=True) if c.outcome == "converged")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("shape", [*SHAPES, "clustered"])
@pytest.mark.parametrize(("function", "keywords"), CALLS)
@pytest.mark.parametrize("order", [48, 100])
def test_single_precision_is_honest(
    order: int, function: str, keywords: dict[str, Any], shape: str, condition: float
) -> None:
    """Errors of float32 eigh, which fall on few eigenvalues, are within what is measured of them."""
    if shape == "clustered":
        q = orthogonal(np.random.default_rng(1), order, order)
        a = ((q * np.repeat([1.0, 10 / condition, 1 / condition, 1 / condition], order // 4)) @ q.T)[None]
    else:
        a = positive(order, shape, condition, items=3)
    inputs = {"a": a.astype(np.float32)}

    found = _trial(function, inputs, keywords)

    _assert_covered(found, function, inputs, keywords)


@pytest.mark.parametrize("rank", [1, 30, 59])
@pytest.mark.parametrize(("function", "keywords"), [call for call in CALLS if call[1].get("damping")])
def test_damped_singular_matrices_are_honest(function: str, keywords: dict[str, Any], rank: int) -> None:
    """Rank-deficient matrices that an explicit damping makes definite, with rows of G."""
    rng = np.random.default_rng(rank)
    b = rng.standard_normal((3, 60, rank)).astype(np.float32)
    inputs = {"a": b @ b.swapaxes(1, 2), "g": rng.standard_normal((3, 4, 60)).astype(np.float32)}
    inputs["a"] = (inputs["a"] + inputs["a"].swapaxes(1, 2)) / 2

    found = _trial(function, inputs, keywords)

    _assert_covered(found, function, inputs, keywords)


@pytest.mark.parametrize("order", [1, 2, 3, 17, 40])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e7, 1e12])
@pytest.mark.parametrize("shape", SHAPES)
def test_named_single_precision_is_honest(condition: float, order: int, shape: str) -> None:
    """The same estimate, where nothing stands behind it and the damping is the default."""
    a = positive(order, shape, condition, items=4).astype(np.float32)
    found = answer("inv_root", {"a": a}, r=4, precision="fp32", on_failure="nan")

    answered = [i for i, c in enumerate(found.certificates) if c.outcome != "failed"]
    chosen = Answer(tuple(x[answered] for x in found.outputs), tuple(found.certificates[i] for i in answered))
    if answered:
        expected = truth("inv_root", {"a": a[answered]}, chosen.certificates, r=4)[0]
        assert_honest(chosen, expected, estimated=range(len(answered) // 2, len(answered) + 1))


def test_condition_ten_thousand_is_within_reach() -> None:
    """Inverse fourth roots of condition 1e4 are certified to 1e-3 in float32 alone."""
    found = _trial("inv_root", {"a": positive(128, condition=1e4, items=4).astype(np.float32)}, {"r": 4})

    assert {(c.precision, str(c.outcome)) for c in found.certificates} == {("fp32", "converged")}


@pytest.mark.parametrize(("shape", "condition"), [("geometric", 1e4), ("linear", 3e4), ("one_small", 2e4)])
def test_smallest_eigenvalues_are_corrected(shape: str, condition: float) -> None:
    """Where few small eigenvalues carry the error of float32 eigh, the answer has less than half of it."""
    a = positive(64, shape, condition, items=4).astype(np.float32)
    w, v = torch.linalg.eigh(torch.from_numpy(a))
    plain = ((v * w[:, None, :] ** -0.25) @ v.mT).numpy()

    found = _trial("inv_root", {"a": a}, {"r": 4})

    (expected,) = truth("inv_root", {"a": a}, found.certificates, r=4)
    assert {str(c.outcome) for c in found.certificates} == {"converged"}
    assert "fp32" in {
        c.precision for c in found.certificates
    }  # a matrix for which eigh is less accurate is computed in fp64
    assert relative_error(found.outputs[0], expected).max() < relative_error(plain, expected).max() / 2


@pytest.mark.parametrize("hard", ["two_clusters", "geometric"])
def test_hard_matrix_is_diagonalised_in_double(hard: str) -> None:
    """A matrix for which float32 is not tried, or fails, is computed in float64; the others in float32."""
    a = positive(64, condition=1e2, items=3).astype(np.float32)
    q, clusters = orthogonal(np.random.default_rng(0), 64, 64), np.repeat([1.0, 5e-5], 32)
    a[1] = (q * clusters) @ q.T if hard == "two_clusters" else positive(64, hard, 1e6)[0]

    found = _trial("inv_root", {"a": a}, {"r": 4})

    assert [c.precision for c in found.certificates] == ["fp32", "fp64", "fp32"]
    _assert_covered(found, "inv_root", {"a": a}, {"r": 4})
    assert estimate_of(found, 1) < 1e-6


@pytest.mark.parametrize("kind", ["indefinite", "negative", "zero"])
def test_matrices_outside_the_domain_are_refused(kind: str) -> None:
    """A matrix outside the domain is refused as it is without a tolerance."""
    a = positive(64, condition=1e2, items=2).astype(np.float32)
    a[1] = {"indefinite": a[0] - 0.5 * np.eye(64), "negative": -a[0], "zero": 0 * a[0]}[kind]

    found = _trial("inv_root", {"a": a}, {"r": 2})

    assert found.certificates[0].outcome == "converged"
    assert found.certificates[1].code == ("singular" if kind == "zero" else "not_positive")


@pytest.mark.parametrize(
    ("dtype", "keywords"),
    [
        ("float32", {}),
        ("float32", {"tol": 9e-4}),
        ("float32", {"tol": TOL, "damping": "range"}),
        ("float32", {"tol": TOL, "precision": "fp64"}),
        ("float64", {"tol": TOL}),
    ],
)
def test_other_calls_keep_their_digits(dtype: str, keywords: dict[str, Any]) -> None:
    """No tolerance, a tight one, a pseudo-inverse, a named precision and double input never run eigh in float32."""
    plan = make_plan(parsed("inv_root", {"a": np.eye(128, dtype=dtype)}, {"r": 4, **keywords}), Profile.nominal())
    programs = [plan.program, *(program for program, _ in plan.considered)]

    assert not any(isinstance(program, TrialPower) for program in programs)


def _iterations(a: Array, r: int) -> list[tuple[Program, Call]]:
    """The iteration by every kernel that there is."""
    return [pair for pair in candidates("inv_root", {"a": a}, r=r) if pair[0].method == "engine"]


def test_unproved_matrices_are_completed_in_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many of a batch the iteration gives up on shows in nobody's computation; the answers are in their places."""
    a = positive(20, condition=1e2, items=5).astype(np.float32)
    a[1::2] = positive(20, condition=1e7, items=2, seed=3).astype(np.float32)
    sizes: list[int] = []
    attempt = evaluation._attempt

    def counted(program: Program, batch: Batch, decomposition: Decomposition | None = None) -> Evaluation:
        sizes.append(batch.items)
        return attempt(program, batch, decomposition)

    monkeypatch.setattr(evaluation, "_attempt", counted)

    for pair in _iterations(a, 2):
        sizes.clear()
        found = run(*pair)

        (expected,) = truth("inv_root", {"a": a}, found.certificates, r=2)
        assert sizes == [5]
        assert [c.fallback is None for c in found.certificates] == [True, False, True, False, True]
        assert relative_error(found.outputs[0], expected).max() < TOL


def test_rounded_symmetric_part_is_estimated() -> None:
    """The iteration runs on (A + A^H) / 2 as it is rounded: an estimate is larger where that is not exact."""
    a = positive(24, "linear", 1e3)[0].astype(np.float32)
    skewed = a + np.triu(np.float32(3e-7) * np.abs(a), 1)

    for exact, rounded in zip(_iterations(a, 2), _iterations(skewed, 2), strict=True):
        assert estimate_of(run(*rounded)) > 1.5 * estimate_of(run(*exact))


def test_matrices_beyond_float32_are_completed_in_the_run() -> None:
    """A matrix beyond float32 is computed in float64 in the same run, with the same bits in any batch."""
    hopeless = positive(64, condition=1e5, seed=1)
    others = [positive(64, condition=condition, seed=2) for condition in (1e2, 1e7)]
    calls = [np.concatenate([hopeless, other]).astype(np.float32) for other in others]

    beside = [_trial("inv_root", {"a": a}, {"r": 4}) for a in calls]

    assert beside[0].certificates[0] == beside[1].certificates[0]
    assert beside[0].certificates[0].precision == "fp64"
    np.testing.assert_array_equal(beside[0].outputs[0][0], beside[1].outputs[0][0])
