"""Roots of A + shift I: by every method the same shift, the right values and honest estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evaluating import EPS, Answer, answer, candidates, parsed, run, truth
from honesty import assert_covered, reference_errors
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.methods.roots.coupled_power import IteratedPower, NativePower
from matfn_kernels.programs.profile_loading import shipped
from matfn_kernels.reference import relative_error
from matfn_kernels.running.plan import make_plan
from spectra import orthogonal

if TYPE_CHECKING:
    import torch

    from evaluating import Array

needs_c = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("inv_root", {"r": 4}),
    ("inv_root", {"r": 2}),
    ("inv_root", {"r": 3, "s": 4}),
    ("root", {"r": 2}),
    ("root", {"r": 4, "s": 3}),
    ("sqrt_pair", {}),
]
ORDERS = [65, 100, 128, 256]


def _with(w: Array, seed: int) -> Array:
    q = orthogonal(np.random.default_rng(seed), len(w), len(w))
    a = (q * w) @ q.T
    return np.asarray((a + a.T) / 2)


def _singular(n: int, dtype: type) -> Array:
    """Of low rank, negative by rounding, with far clusters, flat, and scaled by powers of ten."""
    half = np.arange(n) < n // 2
    gaussian = np.random.default_rng(n).standard_normal((n, n // 2))
    return np.stack(
        [
            gaussian @ gaussian.T,
            _with(np.where(half, 1.0, -2 * np.finfo(dtype).eps), 1),
            _with(np.where(half, 1.0, 1e-9), 2),
            np.ones((n, n)),
            np.eye(n),
            _with(np.linspace(0, 1, n), 3) * 1e20,
            _with(np.logspace(0, -9, n), 4) * 1e-20,
        ]
    ).astype(dtype)


def _assert_right(found: Answer, function: str, a: Array, keywords: dict[str, Any]) -> None:
    """Asserts that every matrix converged, and that errors against A + shift I are covered by the estimates."""
    assert [c.outcome for c in found.certificates] == ["converged"] * len(a)
    expected = truth(function, {"a": a}, found.certificates, **keywords)
    errors = np.max([relative_error(x, y) for x, y in zip(found.outputs, expected, strict=True)], axis=0)
    assert_covered(errors, found.certificates, slack=reference_errors(found.certificates))


def _iterated(function: str, a: Array, **keywords: Any) -> Answer | None:
    """What the iteration in C answers, if it is considered."""
    considered = candidates(function, {"a": a}, on_failure="nan", **keywords)
    found = [run(program, call) for program, call in considered if isinstance(program, NativePower)]
    return found[0] if found else None


@pytest.mark.sampled(2)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("function", "parameters"), CALLS)
def test_damped_roots_of_singular_matrices_are_right(
    order: int, dtype: type, function: str, parameters: dict[str, Any]
) -> None:
    """Values are those of A + shift I within the estimates, with shift = damping lambda_max to 1 %."""
    a: Array = _singular(order, dtype)
    largest = np.linalg.eigvalsh(a.astype(np.float64))[:, -1]
    for damping in (0.1, 1e-3, 1e-6):
        keywords = {**parameters, "damping": damping}
        found = answer(function, {"a": a}, **keywords)
        _assert_right(found, function, a, keywords)
        shifts = np.array([c.shift for c in found.certificates])
        assert np.allclose(shifts, damping * largest, rtol=0.01, atol=0)
        assert [c.damping for c in found.certificates] == [damping] * len(a)


@needs_c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", [65, 128, 256])
def test_iterated_and_decomposed_agree(order: int, dtype: type) -> None:
    """The iteration in C and eigh shift by the same number to 1 %, and each is right for its own."""
    a: Array = _singular(order, dtype)
    keywords = {"r": 4, "damping": 1e-2}
    iterated = _iterated("inv_root", a, **keywords)
    assert iterated is not None
    decomposed = answer("inv_root", {"a": a}, method="eigh", **keywords)
    assert [c.method for c in iterated.certificates] == ["engine"] * len(a)
    for found in (iterated, decomposed):
        _assert_right(found, "inv_root", a, keywords)
    pairs = zip(iterated.certificates, decomposed.certificates, strict=True)
    assert all(c.shift == pytest.approx(d.shift, rel=0.01) for c, d in pairs)


def _in_batches(function: str, a: Array, **keywords: Any) -> Answer:
    """What the iteration by torch's kernels answers."""
    considered = candidates(function, {"a": a}, on_failure="nan", **keywords)
    (found,) = [run(program, call) for program, call in considered if isinstance(program, IteratedPower)]
    return found


@pytest.mark.parametrize("order", [20, 65, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("added", [{"damping": 0.1}, {"damping": 1e-3}, {"damping": 1e-6}, {"shift": 0.1}])
@pytest.mark.parametrize(("function", "parameters"), [CALLS[0], CALLS[4], CALLS[5]])
def test_iteration_in_batches_shifts_too(
    order: int, dtype: type, added: dict[str, float], function: str, parameters: dict[str, Any]
) -> None:
    """By torch's kernels singular matrices are answered by the iteration, right for the shift that it states."""
    a: Array = _singular(order, dtype)[[0, 1, 2, 3, 5]]
    a[4] *= dtype(1e-20)
    keywords = {**parameters, **added}
    found = _in_batches(function, a, **keywords)
    _assert_right(found, function, a, keywords)
    assert [(c.method, c.fallback) for c in found.certificates] == [("engine", None)] * len(a)
    largest = np.linalg.eigvalsh(a.astype(np.float64))[:, -1]
    wanted = added["damping"] * largest if "damping" in added else np.full(len(a), added["shift"])
    np.testing.assert_allclose([c.shift for c in found.certificates], wanted, rtol=0.01)


@pytest.mark.parametrize("part", [1e-3, 0.2, 0.5])
def test_iteration_in_batches_leaves_what_it_does_not_lift(part: float) -> None:
    """A negative eigenvalue beyond the damping is refused, and one within it answered for A + shift I."""
    a = np.stack([_with(np.where(np.arange(70) < 2, -below, 1.0), 8) for below in (2 * part, part / 2)])
    found = _in_batches("inv_root", a, r=2, damping=part)
    assert [c.code for c in found.certificates] == ["not_positive", None]
    expected = truth("inv_root", {"a": a[1:]}, found.certificates[1:], r=2, damping=part)
    rounding = EPS["float64"] * 2 / part  # the reference's own error, by the condition of A + shift I
    assert_covered(relative_error(found.outputs[0][1:], expected[0]), found.certificates[1:], slack=rounding)


@pytest.mark.parametrize("order", [64, 128, 256, 1024])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("added", [{"damping": 1e-3}, {"damping": 1e-6}, {"shift": 1e-2}])
def test_damped_roots_are_iterated_on_a_gpu(order: int, dtype: type, added: dict[str, float]) -> None:
    """By the prices of a GPU the plan is the iteration by kernels that a GPU has."""
    call = parsed("inv_root", {"a": np.eye(order, dtype=dtype)}, {"r": 4, **added})
    program = make_plan(call, shipped("nvidia-h100")).program
    assert isinstance(program, IteratedPower)


@needs_c
def test_iteration_is_considered_where_it_reaches_the_tolerance() -> None:
    """Float32 serves moderate dampings, and nothing but eigh smaller ones."""
    a = {order: _singular(order, np.float32)[:1] for order in (100, 256)}
    planned = {
        (order, damping): [
            str(program.precision)
            for program, _ in candidates("inv_root", {"a": one}, r=4, damping=damping)
            if isinstance(program, NativePower)
        ]
        for order, one in a.items()
        for damping in (1e-2, 1e-6, 1e-12)
    }
    assert all(precision == "fp32" for order in a for precision in planned[order, 1e-2])
    assert planned[100, 1e-2]
    assert not planned[100, 1e-6]
    assert planned[256, 1e-6] == planned[100, 1e-12] == planned[256, 1e-12] == []


@needs_c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_damped_roots_have_the_same_bits_alone(dtype: type) -> None:
    """A matrix has the same bits of its answer and certificate alone as in a mixed batch."""
    a: Array = np.concatenate([_singular(100, dtype), -np.eye(100)[None], np.zeros((1, 100, 100))]).astype(dtype)
    keywords = {"r": 4, "damping": 1e-2, "on_failure": "nan"}
    together = answer("inv_root", {"a": a}, **keywords)
    for i, one in enumerate(a):
        alone = answer("inv_root", {"a": one[None]}, **keywords)
        assert alone.certificates[0] == together.certificates[i]
        np.testing.assert_array_equal(alone.outputs[0][0], together.outputs[0][i])


def test_damping_accepts_what_it_lifts() -> None:
    """A damping above the most negative eigenvalue answers for A + shift I; one below it does not."""
    a = _with(np.linspace(-0.01, 1, 100), 5)[None]
    _assert_right(answer("inv_root", {"a": a}, r=2, damping=0.1), "inv_root", a, {"r": 2, "damping": 0.1})
    refused = answer("inv_root", {"a": a}, r=2, damping=1e-4, on_failure="nan")
    assert refused.certificates[0].code == "not_positive"


def test_damped_products_are_right() -> None:
    """G times a damped power is that of A + shift I."""
    a, g = _singular(100, np.float32), np.random.default_rng(0).standard_normal((7, 30, 100), np.float32)
    keywords = {"r": 4, "damping": 1e-2}
    found = answer("inv_root", {"a": a, "g": g}, **keywords)
    expected = truth("inv_root", {"a": a, "g": g}, found.certificates, **keywords)
    assert_covered(relative_error(found.outputs[0], expected[0]), found.certificates)


@needs_c
@pytest.mark.parametrize("order", [65, 128])
def test_singular_matrices_are_tried_once(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of low rank, undamped, leave the iteration for eigh without a second attempt in float64."""
    tried: list[int] = []
    run_some = NativePower.run_some

    def counted(self: NativePower, inputs: dict[str, torch.Tensor], wanted: torch.Tensor) -> object:
        tried.append(int(wanted.sum()))
        return run_some(self, inputs, wanted)

    monkeypatch.setattr(NativePower, "run_some", counted)
    a = _singular(order, np.float32)[[0, 2, 3]]
    found = _iterated("inv_root", a, r=4)
    assert found is not None
    assert tried == []
    expected = answer("inv_root", {"a": a}, r=4, method="eigh", on_failure="nan")
    np.testing.assert_array_equal(found.outputs[0], expected.outputs[0])
    assert [c.shift for c in found.certificates] == [c.shift for c in expected.certificates]


@pytest.mark.parametrize("order", [5, 48, 65, 100, 128, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("function", "parameters"), CALLS)
def test_shifts_are_added_as_they_are(order: int, dtype: type, function: str, parameters: dict[str, Any]) -> None:
    """Values are those of A + s I within the estimates, and the certificate states s itself."""
    a: Array = _singular(order, dtype)
    sizes = np.abs(a).astype(np.float64).max((-2, -1))
    for shift, some in ((1e-3, slice(0, 5)), (1e-22, slice(6, 7)), (1e19, slice(5, 6)), (1e4, slice(0, 5))):
        keywords = {**parameters, "shift": shift}
        found = answer(function, {"a": a[some]}, **keywords)
        _assert_right(found, function, a[some], keywords)
        assert {c.shift for c in found.certificates} == {shift}
        assert all(
            c.damping > 0.1 * shift / (order * size) for c, size in zip(found.certificates, sizes[some], strict=True)
        )


@pytest.mark.parametrize("order", [48, 65, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shift_is_the_damping_of_the_same_size(order: int, dtype: type) -> None:
    """The shift that a damping is stated to add gives the same answer within both estimates."""
    a: Array = _singular(order, dtype)
    damped = answer("inv_root", {"a": a}, r=4, damping=1e-2)
    for i, certificate in enumerate(damped.certificates):
        shifted = answer("inv_root", {"a": a[i : i + 1]}, r=4, shift=certificate.shift)
        (own,) = shifted.certificates
        assert own.shift == certificate.shift
        assert own.damping == pytest.approx(1e-2, rel=0.01)
        assert own.error_estimate is not None
        assert certificate.error_estimate is not None
        difference = relative_error(shifted.outputs[0][0], damped.outputs[0][i].astype(np.float64))
        assert difference <= 1.01 * (own.error_estimate + certificate.error_estimate)


@pytest.mark.parametrize("order", [5, 48, 65, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_negative_eigenvalues_count_as_zero_before_a_shift(order: int, dtype: type) -> None:
    """Eigenvalues below -8 eps of the largest are lifted to 0, and the certificate says so."""
    part = float(np.finfo(dtype).eps) ** 0.5 / 4
    a: Array = _with(np.where(np.arange(order) < 2, -part, 1.0), 6)[None].astype(dtype)
    for function in ("inv_root", "root"):
        found = answer(function, {"a": a}, r=2, shift=part / 4)
        (certificate,) = found.certificates
        assert certificate.outcome == "approximate"
        assert certificate.hint is not None
        assert "count as 0" in certificate.hint
        expected = truth(function, {"a": a}, found.certificates, r=2, shift=part / 4)
        assert relative_error(found.outputs[0], expected[0])[0] < 1e-4


@pytest.mark.parametrize("order", [3, 48, 100])
def test_zero_matrix_with_a_shift(order: int) -> None:
    """The zero matrix has the powers of the shift, by every method."""
    for structure in ("symmetric", "general"):
        found = answer("inv_root", {"a": np.zeros((1, order, order))}, r=2, shift=0.25, structure=structure)
        np.testing.assert_allclose(found.outputs[0][0], 2 * np.eye(order), rtol=1e-14)


def test_shift_of_zero_is_damping_of_zero() -> None:
    """Nothing is added, and the inverse root of a singular matrix is refused."""
    found = answer("inv_root", {"a": np.ones((1, 70, 70))}, r=2, shift=0.0, on_failure="nan")
    assert found.certificates[0].code == "singular"


def test_shift_beyond_the_range_of_float64() -> None:
    """A shift whose ratio to the matrix is beyond float64 is refused."""
    found = answer("inv_root", {"a": 1e-300 * np.eye(4)[None]}, r=2, shift=1e10, on_failure="nan")
    assert found.certificates[0].code == "invalid_parameter"


def test_general_matrices_are_shifted() -> None:
    """With structure="general" the answer is that of A + s I."""
    a = np.random.default_rng(7).standard_normal((1, 6, 6)) * 1e3
    a += 8e3 * np.eye(6)
    found = answer("root", {"a": a}, r=3, shift=500.0, structure="general")
    np.testing.assert_allclose(np.linalg.matrix_power(found.outputs[0][0], 3), a[0] + 500 * np.eye(6), atol=1e-8)
    assert found.certificates[0].shift == 500


@needs_c
def test_shifted_roots_have_the_same_bits_alone() -> None:
    """A matrix has the same bits alone as in a mixed batch, some of which eigh has to answer."""
    a: Array = np.concatenate(
        [_singular(100, np.float32)[:5], np.zeros((1, 100, 100)), -1e-3 * _singular(100, np.float32)[:1]]
    )
    a = a.astype(np.float32)
    keywords = {"r": 4, "shift": 1e-2, "on_failure": "nan"}
    together = answer("inv_root", {"a": a}, **keywords)
    for i, one in enumerate(a):
        alone = answer("inv_root", {"a": one[None]}, **keywords)
        assert alone.certificates[0] == together.certificates[i]
        np.testing.assert_array_equal(alone.outputs[0][0], together.outputs[0][i])


@pytest.mark.parametrize("certified", ["inv_root", "root", "sqrt_pair"])
@pytest.mark.parametrize("added", [{"shift": 0.01}, {"damping": 0.01}])
def test_shifted_roots_are_proved(certified: str, added: dict[str, float]) -> None:
    """Proofs are about A + shift I with the shift that was added, by the iteration too."""
    a: Array = _singular(100, np.float32)[:4]
    parameters = {} if certified == "sqrt_pair" else {"r": 2}
    found = answer(certified, {"a": a}, certify="proved", **parameters, **added)
    assert [c.outcome for c in found.certificates] == ["converged"] * 4
    assert all(c.error_bound is not None for c in found.certificates)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shift": -1.0}, "at least 0"),
        ({"shift": float("nan")}, "finite"),
        ({"shift": float("inf")}, "finite"),
        ({"shift": "range"}, "finite number"),
        ({"shift": 1.0, "damping": 1e-3}, "both given"),
        ({"shift": 0.0, "damping": "range"}, "both given"),
    ],
)
@pytest.mark.parametrize("function", ["root", "inv_root", "sqrt_pair"])
def test_shifts_that_are_refused(function: str, given: dict[str, Any], said: str) -> None:
    """Negative and other shifts that are no finite number, and a damping beside a shift, are refused in words."""
    parameters = {} if function == "sqrt_pair" else {"r": 2}
    with pytest.raises(Rejection, match=r"shift") as caught:
        answer(function, {"a": np.eye(3)[None]}, **parameters, **given)
    assert caught.value.code == "invalid_parameter"
    assert said in f"{caught.value.detail} {caught.value.hint}"
