"""Polar factors, Gram matrices and triangles in C: honest estimates and independence of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from evaluating import EPS, Answer, Array, candidates, parsed, run, truth
from honesty import assert_covered, reference_errors
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.programs.profile import Profile
from matfn_kernels.reference import relative_error
from matfn_kernels.running.plan import make_plan
from spectra import SHAPES, orthogonal, rectangular

if TYPE_CHECKING:
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.validation import Call

pytestmark = pytest.mark.skipif(not native.is_built(), reason="installed without a C compiler")

TALL = [(1, 1), (3, 2), (5, 5), (17, 16), (20, 33), (70, 70), (129, 130), (300, 7)]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("msign", {}),
    ("msign", {"tol": 0.05}),
    ("mclip", {"hi": 0.3, "lo": 1e-2}),
]
LARGEST = float(np.finfo(np.float32).max)
OTHERS = (np.nan, np.inf, LARGEST, 0.0, 1.0, 1e-42)
"""Values of all entries of another matrix in the batch."""


def _by_kernels(function: str, inputs: dict[str, Any], **keywords: Any) -> list[tuple[Any, Call]]:
    """The programs of the kernels in C for a call."""
    found = candidates(function, inputs, on_failure="nan", **keywords)
    return [(program, call) for program, call in found if getattr(program, "kernel", None) is Kernel.NATIVE]


def _assert_covered(found: Answer, expected: Array, estimated: int | range | None = None) -> None:
    """Asserts that every estimate is at least the error, up to the rounding of both."""
    errors = relative_error(found.outputs[0], expected) / (1 + EPS["float32"])
    assert_covered(errors, found.certificates, estimated=estimated, slack=reference_errors(found.certificates))


def _half_small(shape: tuple[int, int], condition: float) -> Array:
    """A matrix half of whose singular values are small, to which sums in single precision do most."""
    rng, small = np.random.default_rng(0), min(shape)
    values = np.where(np.arange(small) < (small + 1) // 2, 1.0, 1 / condition)
    matrix: Array = (orthogonal(rng, shape[0], small) * values) @ orthogonal(rng, shape[1], small).T
    return matrix[None]


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("shape", TALL)
@pytest.mark.parametrize(("function", "keywords"), CALLS)
def test_polar_factors_are_honest(shape: tuple[int, int], function: str, keywords: dict[str, Any]) -> None:
    """Every estimate is at least the error, by iteration and by Gram matrix, at any condition and scale."""
    conditions = (1.0, 30.0, 1e4, 5e5, 1e8) if max(shape) < 100 else (30.0, 1e4)
    parts = [rectangular(shape, kind, condition) for kind in SHAPES for condition in conditions]
    parts += [_half_small(shape, condition) for condition in conditions]
    m = np.concatenate([*parts, 1e-39 * parts[1], 1e38 * parts[1], 0 * parts[0]]).astype(np.float32)
    for program, call in _by_kernels(function, {"m": m}, **keywords):
        found = run(program, call)

        methods = [certificate.method for certificate in found.certificates]
        assert methods.count(program.method) > len(m) // 4
        _assert_covered(found, truth(function, {"m": m}, found.certificates, **keywords)[0])


@pytest.mark.parametrize("shape", [(512, 64), (256, 256)])
def test_sums_of_many_terms_are_answered_for(shape: tuple[int, int]) -> None:
    """Rounding grows with the order, and most where half of the singular values are small."""
    m = _half_small(shape, 300).astype(np.float32)
    for program, call in _by_kernels("msign", {"m": m}):
        found = run(program, call)

        assert found.certificates[0].method == program.method
        _assert_covered(found, truth("msign", {"m": m}, found.certificates)[0])


def test_singular_values_next_to_the_threshold_are_answered_for() -> None:
    """Where the square of one is too near to the threshold's, the Gram matrix does not say on which side it is."""
    edge = 8 * EPS["float32"]
    near = [edge * (1 + 10.0**k * sign) for k in range(-7, -1) for sign in (-1, 1)]
    m = np.stack([np.diag([1.0, 0.5, value]) for value in near]).astype(np.float32)
    turn = np.array([[0, 1, 0], [0.6, 0, 0.8], [0.8, 0, -0.6]])  # rounding of M moves its singular values as well
    for given in (m, (turn @ m).astype(np.float32)):
        for program, call in _by_kernels("msign", {"m": given}, tol=0.9):
            found = run(program, call)

            _assert_covered(found, truth("msign", {"m": given}, found.certificates)[0])


def _triangles(order: int, dtype: str) -> Array:
    """Lower triangles: easy, graded, of identical keys, ill-conditioned, tiny, huge, nearly singular and singular."""
    rng, eye = np.random.default_rng(order), np.eye(order)
    below = np.tril(rng.standard_normal((order, order)), -1)
    easy, size = below / order**0.5 + eye, 10 ** rng.uniform(-6, 0, order)
    middle = order // 2
    parts = [easy, easy * size, easy * size[:, None], np.tril(np.ones((order, order))), below + 0.5 * eye]
    parts += [1e-37 * easy, 1e37 * easy, *(easy - (1 - x) * np.outer(eye[middle], eye[middle]) for x in (1e-6, 0))]
    found: Array = np.stack(parts).astype(dtype)
    return found


def _inverses(t: Array) -> Array:
    """Inverses of lower triangles by substitution in extended precision, NaN where the diagonal has a zero."""
    t = t.astype(np.longdouble)
    x, eye = np.zeros_like(t), np.eye(t.shape[-1])
    with np.errstate(all="ignore"):
        for i in range(t.shape[-1]):
            x[:, i] = (eye[i] - (t[:, None, i, :i] @ x[:, :i])[:, 0]) / t[:, i, i, None]
    return x


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [1, 8, 33, 70, 129])
@pytest.mark.parametrize("unit", [False, True])
def test_triangles_are_honest(order: int, dtype: str, *, unit: bool) -> None:
    """Every estimate is at least the error; the other triangle, and a diagonal taken as ones, may hold anything."""
    t, other = _triangles(order, dtype), np.triu(np.full((order, order), np.nan), 1).astype(dtype)
    exact = _inverses(np.tril(t, -1) + np.eye(order) if unit else t)
    given = t + other + (np.diag(np.full(order, np.nan)).astype(dtype) if unit else 0)
    for lower in (True, False):
        inputs = {"t": given if lower else given.swapaxes(1, 2)}
        ((program, call),) = _by_kernels("tri_inv", inputs, lower=lower, unit_diagonal=unit)
        found = run(program, call)

        with np.errstate(invalid="ignore"):  # of what has no inverse
            errors = [
                np.linalg.norm(((x if lower else x.T) - y) / np.abs(y).max()) / np.linalg.norm(y / np.abs(y).max())
                for x, y in zip(found.outputs[0], exact, strict=True)
            ]
        assert_covered(errors, found.certificates, estimated=range(5, len(t) + 1))


def _bits(answer: Answer, item: int) -> tuple[object, ...]:
    """All that is answered of one matrix but its number, which some hints name."""
    return (*(output[item].tobytes() for output in answer.outputs), answer.certificates[item]._replace(hint=None))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("function", ["msign", "mclip", "tri_inv"])
@pytest.mark.parametrize("shape", [(1, 1), (9, 7), (40, 40), (5, 33)])
def test_place_and_threads_change_no_bit(function: str, shape: tuple[int, int]) -> None:
    """Alone or among others, on one thread or several: the same bits, certificates included."""
    usual, name = torch.get_num_threads(), "t" if function == "tri_inv" else "m"
    some = [rectangular(shape, kind, condition) for kind in SHAPES for condition in (3.0, 1e3, 1e9)]
    a = _triangles(shape[0], "float32") if name == "t" else np.concatenate(some).astype(np.float32)
    for program, call in _by_kernels(function, {name: a}):
        found = run(program, call)
        try:
            torch.set_num_threads(3)
            together = run(program, parsed(function, {name: a[::-1].copy()}, {"on_failure": "nan"}))
        finally:
            torch.set_num_threads(usual)
        for item in range(len(a)):
            alone = run(program, parsed(function, {name: a[item][None]}, {"on_failure": "nan"}))
            assert _bits(alone, 0) == _bits(found, item) == _bits(together, len(a) - 1 - item)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("entry", OTHERS)
@pytest.mark.parametrize(("rows", "order"), [(1, 1), (9, 5), (33, 17), (40, 40)])
def test_other_matrix_changes_no_bit(entry: float, rows: int, order: int) -> None:
    """A matrix has the same answer alone and after any other matrix in the same buffers."""
    schedules = native.Schedules(((1e-2, ((1.875, -1.25, 0.375),) * 9), (1e-6, ((1e30, 1e30, 1e30),) * 4)))
    good = torch.from_numpy(rectangular((rows, order), condition=10, items=2).astype(np.float32))
    diverging = torch.from_numpy(rectangular((rows, order), condition=1e4).astype(np.float32))
    bad = torch.full_like(diverging, entry)
    batch = torch.cat([good[:1], bad, good[1:], diverging, good[:1]])
    vectors, h = torch.ones(5, order, order, dtype=torch.float64), torch.ones(5, order, dtype=torch.float64)
    h[[1, 3]] = entry

    def everything(m: torch.Tensor, v: torch.Tensor, h: torch.Tensor) -> list[list[bytes]]:
        value, found = native.polar_factors(m, 1e-6, schedules)
        columns = [getattr(found, name) for name in native.PolarFindings.__slots__]
        image, seen = native.images(m, v, h)
        columns += [getattr(seen, name) for name in native.ImageFindings.__slots__]
        parts = [value, *columns, native.grams(m), image]
        return [[part[item].numpy().tobytes() for part in parts] for item in range(len(m))]

    found = everything(batch, vectors, h)

    assert bool(torch.isfinite(native.polar_factors(good, 1e-6, schedules)[0]).all())
    for item in (0, 2, 4):
        assert found[item] == everything(batch[item : item + 1], vectors[:1], h[:1])[0]
    for dtype in (torch.float32, torch.float64):
        t = torch.eye(order, dtype=dtype).repeat(3, 1, 1) + torch.tril(torch.ones(order, order, dtype=dtype), -1) / 9
        t[1] = entry
        x, judged = native.triangular_inverses(t, lower=True, unit=False)
        alone, judged_alone = native.triangular_inverses(t[:1], lower=True, unit=False)
        assert torch.equal(x[0], alone[0])
        assert torch.equal(x[2], alone[0])
        assert judged.error[0] == judged.error[2] == judged_alone.error[0]


def test_loose_tolerance_takes_fewer_steps() -> None:
    """The looser the tolerance and the better the condition the fewer, and what converged is within the tolerance."""
    m = np.concatenate([rectangular((40, 20), condition=condition) for condition in (2.0, 1e2, 1e4)]).astype(np.float32)
    steps = []
    for tol in (1e-2, 0.1, 0.5):
        (found,) = [run(*pair) for pair in _by_kernels("msign", {"m": m}, tol=tol) if pair[0].method == "newton_schulz"]
        steps.append([certificate.steps for certificate in found.certificates])

        assert [certificate.method for certificate in found.certificates] == ["newton_schulz"] * 3
        assert [certificate.outcome for certificate in found.certificates] == ["converged"] * 3
        assert (relative_error(found.outputs[0], truth("msign", {"m": m}, found.certificates)[0]) <= tol).all()
        assert steps[-1] == sorted(set(steps[-1]))
    assert (np.diff(np.sum(steps, axis=1)) < 0).all()


@pytest.mark.parametrize("keywords", [{"steps": 3}, {"coefficients": ((1.5, -0.5, 0.0),)}])
def test_explicit_steps_are_obeyed_elsewhere(keywords: dict[str, Any]) -> None:
    """The kernels in C choose steps by the matrix, so that a caller's own are never theirs."""
    m = rectangular((9, 9)).astype(np.float32)
    assert not _by_kernels("msign", {"m": m}, **keywords)


@pytest.mark.parametrize(("function", "name"), [("msign", "m"), ("mclip", "m"), ("tri_inv", "t")])
def test_layout_changes_no_bit(function: str, name: str) -> None:
    """Strides, a bit that negates and a gradient are nothing to the kernels."""
    a = torch.from_numpy(rectangular((12, 12), condition=30, items=3).astype(np.float32))
    wide = torch.zeros(3, 24, 36)
    wide[:, ::2, ::3] = a
    given = [a.mT.contiguous().mT, wide[:, ::2, ::3], torch._neg_view(-a), a.clone().requires_grad_()]
    for program, call in _by_kernels(function, {name: a}):
        usual = program.run(call.inputs)
        for one in given:
            with torch.no_grad():
                found = program.run({name: one})
            assert torch.equal(found.outputs[0], usual.outputs[0])
            assert torch.equal(found.error, usual.error)


@pytest.mark.parametrize(("function", "name"), [("msign", "m"), ("mclip", "m"), ("tri_inv", "t")])
def test_torch_serves_without_the_library(monkeypatch: pytest.MonkeyPatch, function: str, name: str) -> None:
    """Where nothing was compiled no plan asks for it, and answers are as good."""
    a = np.tril(rectangular((24, 24), condition=30, items=3)) + np.eye(24)
    inputs = {name: a.astype(np.float32)}
    monkeypatch.setattr("matfn_kernels.linalg.native.library.library", lambda: None)

    call = parsed(function, inputs, {})
    plan = make_plan(call, Profile.nominal())
    found = run(plan.program, call)

    programs: list[Program] = [plan.program, *(other for other, _ in plan.considered)]
    assert Kernel.NATIVE not in {getattr(program, "kernel", None) for program in programs}
    _assert_covered(found, truth(function, inputs, found.certificates)[0])
    assert [certificate.outcome for certificate in found.certificates] == ["converged"] * 3


def test_matrices_beyond_the_iteration_are_completed_in_the_same_run() -> None:
    """What the iteration cannot prove, or not well enough, goes through its Gram matrix; others keep every bit."""
    rng = np.random.default_rng(1)
    easy, rough = (rectangular((40, 24), condition=condition, items=2).astype(np.float32) for condition in (10, 3e5))
    low = (rng.standard_normal((1, 40, 5)) @ rng.standard_normal((1, 5, 24))).astype(np.float32)
    batch = np.concatenate([easy[:1], rough[:1], low, easy[1:], rough[1:]])
    program = next(pair[0] for pair in _by_kernels("msign", {"m": batch}) if pair[0].method == "newton_schulz")

    found = program.run({"m": torch.from_numpy(batch)})
    answer = run(program, parsed("msign", {"m": batch}, {}))

    assert found.escalated is not None
    assert found.escalated.tolist() == [0, 1, 1, 0, 1]
    assert [c.method for c in answer.certificates] == [
        "newton_schulz", "gram", "gram", "newton_schulz", "gram",
    ]  # fmt: skip
    _assert_covered(answer, truth("msign", {"m": batch}, answer.certificates)[0])
    for index in (0, 3):
        alone = program.run({"m": torch.from_numpy(batch[[index]])})
        assert torch.equal(found.outputs[0][index], alone.outputs[0][0])
        assert found.error[index] == alone.error[0]
