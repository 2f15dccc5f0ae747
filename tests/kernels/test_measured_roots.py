"""Roots whose errors no law of rounding sees: the certificate states at least the true error, and not much more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch
from mpmath import mp, mpf, workdps

from evaluating import EPS, answer, candidates, parsed, run
from honesty import assert_honest, estimate_of
from many_digits import power
from matfn_kernels.reference import relative_error
from matfn_kernels.running.evaluation import batch_of, evaluate
from spectra import orthogonal, positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"


def _nearly_singular(size: float, angle: float, condition: float) -> Array:
    """A positive definite matrix of order 2 whose small eigenvalue is lost in float32's rounding of its entries."""
    c, s = np.cos(angle), np.sin(angle)
    v = np.array([[c, -s], [s, c]])
    a: Array = size * (v * [1.0, 1 / condition]) @ v.T
    return a


_ROUNDED = {
    "found": np.array([[0.25815041120103066, -0.2543171523994333], [-0.2543171523994333, 0.250560519012648]]),
    "thirds": np.array([[1, 2 / 3], [2 / 3, 4 / 9 + 1e-4]]),
    "turned": _nearly_singular(3.7, 0.6, 7e4),
    "flat": _nearly_singular(0.9, 0.1, 4e4),
}


@pytest.mark.parametrize("matrix", _ROUNDED)
@pytest.mark.parametrize("structure", ["symmetric", "general"])
@pytest.mark.parametrize(
    ("function", "r", "s"), [("inv_root", 1, 1), ("inv_root", 3, 2), ("root", 2, 1), ("root", 3, 5)]
)
def test_estimate_counts_the_rounding_of_a_matrix_to_a_named_precision(
    function: str, r: int, s: int, structure: str, matrix: str
) -> None:
    """The answer of fp32 for a float64 matrix is no further from the truth for that matrix than its estimate."""
    a = _ROUNDED[matrix]
    exact = power(a, s / r if function == "root" else -s / r)
    damping = {} if function == "root" else {"damping": 0.0}
    for program, call in candidates(function, {"a": a}, r=r, s=s, structure=structure, precision="fp32", **damping):
        assert_honest(run(program, call), exact, estimated=range(2))


@pytest.mark.parametrize("matrix", _ROUNDED)
def test_estimate_of_a_pair_counts_the_rounding_of_its_matrix(matrix: str) -> None:
    """Both matrices of a pair in fp32 are within the estimate of the pair of the float64 matrix."""
    a = _ROUNDED[matrix]
    for program, call in candidates("sqrt_pair", {"a": a}, damping=0.0, precision="fp32"):
        assert_honest(run(program, call), power(a, 0.5), power(a, -0.5), estimated=range(2))


def test_matrix_that_its_named_precision_holds_has_the_estimate_of_that_precision() -> None:
    """A float64 matrix of float32 numbers gets the estimate that its float32 twin gets."""
    a = positive(24, condition=1e3).astype(np.float32)
    twin = answer("inv_root", {"a": a}, r=2, precision="fp32")
    found = answer("inv_root", {"a": a.astype(np.float64)}, r=2, precision="fp32")
    assert estimate_of(found) == pytest.approx(estimate_of(twin), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_estimate_counts_the_rounding_of_g_to_a_named_precision(seed: int) -> None:
    """A product G X in which the large part of X cancels counts what rounding took from G."""
    rng = np.random.default_rng(seed)
    v = orthogonal(rng, 12, 12)
    w = np.geomspace(1, 1e-3, 12)
    a = ((v * w) @ v.T).astype(np.float32).astype(np.float64)
    a = (a + a.T) / 2
    g = (v[:, 0] + 1e-3 * v[:, 1])[None]
    exact = power(a, -1.0, g=g)
    for program, call in candidates("inv_root", {"a": a, "g": g}, r=1, damping=0.0, precision="fp32"):
        assert_honest(run(program, call), exact, estimated=range(2))


def _missed(order: int, condition: float, rows: int, seed: int) -> tuple[Array, Array]:
    """A matrix with one small eigenvalue, and G without a part in its eigenvector."""
    rng = np.random.default_rng(seed)
    v = orthogonal(rng, order, order)
    a = (v * np.append(np.ones(order - 1), 1 / condition)) @ v.T
    g = rng.standard_normal((rows, order)) @ (np.eye(order) - np.outer(v[:, -1], v[:, -1]))
    return (a + a.T) / 2, g


@pytest.mark.parametrize(("order", "condition", "rows"), [(48, 1e8, 1), (20, 1e6, 1), (33, 1e7, 3), (12, 1e9, 2)])
def test_estimate_of_a_product_that_misses_the_small_eigenvalue(order: int, condition: float, rows: int) -> None:
    """G X is within its estimate where the error of X in one eigenvector is all the error there is."""
    a, g = _missed(order, condition, rows, seed=order)
    exact = power(a, -1.0, g=g)
    for program, call in candidates("inv_root", {"a": a, "g": g}, r=1, damping=0.0):
        found = run(program, call)
        assert_honest(found, exact)
        assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("function", ["root", "inv_root"])
@pytest.mark.parametrize("r", [1, 2, 3, 4, 8])
def test_bf16_states_the_error_that_it_has(function: str, r: int) -> None:
    """A power in bf16 has an estimate within a hundredth of its true error, and converges where that is small."""
    order = 8
    a = np.eye(order) + 0.1
    for name, matrix in {"ones": a, "wide": positive(order, condition=12.0, seed=r)[0]}.items():
        found = answer(function, {"a": matrix}, r=r, precision="bf16")
        error = float(relative_error(found.outputs[0], power(matrix, 1 / r if function == "root" else -1 / r)))
        assert error <= estimate_of(found) <= 1.01 * error + 1e-12, name
        assert (found.certificates[0].outcome == "converged") == (estimate_of(found) <= 1e-2)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_bf16_damps_by_its_own_spacing(dtype: str) -> None:
    """The default damping of a named bf16 lifts the smallest eigenvalue to 8 of its eps."""
    v = orthogonal(np.random.default_rng(4), 6, 6)
    a = (v * [1.0, 0.8, 0.6, 0.4, 0.2, 1e-3]) @ v.T
    a = ((a + a.T) / 2).astype(dtype)
    found = answer("inv_root", {"a": a}, r=2, precision="bf16").certificates[0]
    least = np.linalg.eigvalsh(a.astype(np.float64))[0] / np.linalg.eigvalsh(a.astype(np.float64))[-1]
    assert found.damping == pytest.approx(8 * 2.0**-7 - least, rel=1e-2)
    assert found.error_estimate is not None


def test_bf16_takes_negative_eigenvalues_that_its_spacing_cannot_tell_from_zero() -> None:
    """An eigenvalue of -0.05 of the largest counts as rounding in a named bf16, and one of -0.1 does not."""
    v = orthogonal(np.random.default_rng(5), 4, 4)
    for least, code in ((-0.05, None), (-0.1, "not_positive")):
        a = (v * [1.0, 0.8, 0.6, least]) @ v.T
        found = answer("inv_root", {"a": (a + a.T) / 2}, r=2, precision="bf16", on_failure="nan").certificates[0]
        assert (found.code if code else None) == code
        assert (found.outcome == "failed") == (code is not None)


@pytest.mark.parametrize(("function", "keywords"), [("inv_root", {"r": 2}), ("inv_root", {"r": 1, "s": 3})])
def test_estimate_above_one_meets_no_tolerance(function: str, keywords: dict[str, Any]) -> None:
    """An error that may be larger than the answer is not stated, and no tolerance calls it converged."""
    for least in (1e-15, 3e-16, 1e-16):
        found = answer(function, {"a": np.diag([1.0, least])}, tol=1e3, on_failure="nan", **keywords).certificates[0]
        assert found.outcome == "approximate"
        assert found.code == "not_converged"
        assert found.error_estimate is None
        assert "estimated relative error" not in (found.hint or "")


@pytest.mark.parametrize("matrix", [[1.0, 0.0], [3.0, 2.0, 0.0], [1.0, 1e-17, 0.0]])
def test_hint_of_default_damping_names_the_pseudo_inverse(matrix: list[float]) -> None:
    """A singular matrix that is damped by default, or refused without damping, is told of damping="range"."""
    a = np.diag(matrix)
    damped = answer("inv_root", {"a": a}, r=2).certificates[0]
    refused = answer("inv_root", {"a": a}, r=2, damping=0.0, on_failure="nan").certificates[0]
    assert 'damping="range"' in (damped.hint or "")
    assert 'damping="range"' in (refused.hint or "")


def _semidefinite(order: int, rank: int, dtype: str) -> Array:
    rng = np.random.default_rng(order + rank)
    b = rng.standard_normal((order, rank)) + (1j * rng.standard_normal((order, rank)) if "complex" in dtype else 0)
    a = (b @ b.conj().T).astype(dtype)
    return np.asarray(np.triu(a, 1) + np.triu(a, 1).conj().T + np.diag(np.diag(a).real))


@pytest.mark.parametrize(("dtype", "precision"), [("float64", "auto"), ("complex128", "auto"), ("float32", "fp32")])
@pytest.mark.parametrize(("order", "rank"), [(2, 1), (7, 3), (20, 1), (20, 19)])
def test_default_shift_is_what_lifts_the_smallest_eigenvalue_to_8_eps(
    order: int, rank: int, dtype: str, precision: str
) -> None:
    """The default damping is 8 eps less the smallest eigenvalue to a hundredth of 8 eps."""
    a = _semidefinite(order, rank, dtype)
    eps = float(np.finfo(dtype).eps)
    with mp.workdps(40):
        values = (mp.eighe if "complex" in dtype else mp.eigsy)(mp.matrix(a.tolist()), eigvals_only=True)
        real = sorted(mp.re(value) for value in values)
        least = float(real[0] / real[-1])
    for program, call in candidates("inv_root", {"a": a}, r=2, precision=precision):
        found = run(program, call).certificates[0]
        assert found.damping == pytest.approx(max(0.0, 8 * eps - least), abs=0.08 * eps)


@pytest.mark.parametrize(("r", "s"), [(1, 8), (2, 9), (1, 3)])
def test_default_tolerance_grows_with_the_power(r: int, s: int) -> None:
    """The default tolerance of A^(s/r) is 50 eps s/r times the condition."""
    call = parsed("root", {"a": positive(5, condition=4.0)}, {"r": r, "s": s})
    wanted = batch_of(call).requested[0]
    found = float(wanted.tolerances(torch.tensor([4.0], dtype=torch.float64), EPS["float64"]))
    assert found == pytest.approx(50 * EPS["float64"] * (s / r) * 4.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [1, 2, 33, 100])
@pytest.mark.parametrize(
    ("function", "r", "s"), [("inv_root", 8, 1), ("inv_root", 4, 1), ("root", 3, 1), ("inv_root", 2, 1)]
)
def test_powers_of_multiples_of_the_identity_are_right_to_an_ulp(
    function: str, r: int, s: int, order: int, dtype: str
) -> None:
    """No route leaves more than an ulp in the power of c I, or more than two in that of a diagonal matrix."""
    for a, ulps in ((np.eye(order), 1), (3.7 * np.eye(order), 1), (np.diag(np.linspace(1, 2, order)), 2)):
        given = a.astype(dtype)
        numbers = np.diag(given).astype(float) ** ((1 if function == "root" else -1) * s / r)
        for program, call in candidates(function, {"a": given}, r=r, s=s):
            found = run(program, call).outputs[0]
            np.testing.assert_array_equal(found - np.diag(np.diag(found)), 0)
            np.testing.assert_allclose(np.diag(found), numbers, rtol=1.01 * ulps * EPS[dtype])


_SIMILAR = np.array([[1.0, 2, 0, 1], [0, 1, 3, 0], [0, 0, 1, -1], [0, 0, 0, 1]])


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("squares", [[2.0, 1, 0, 0], [9.0, 4, 1, 0], [16.0, 0, 0, 0], [0.0, 0, 0, 0]])
def test_root_of_a_singular_general_matrix_takes_zero_to_zero(squares: list[float], dtype: str) -> None:
    """A general matrix whose eigenvalue 0 is semisimple has its principal root, with an honest estimate."""
    inverse = np.rint(np.linalg.inv(_SIMILAR))
    for left, right in ((np.eye(4), np.eye(4)), (_SIMILAR, inverse), (inverse.T, _SIMILAR.T)):
        a = left @ np.diag(squares) @ right
        for r, s in ((2, 1), (3, 2), (2, 3)):
            found = answer("root", {"a": a.astype(dtype)}, r=r, s=s, structure="general")
            assert_honest(found, left @ np.diag(np.array(squares) ** (s / r)) @ right)
            assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("function", ["root", "inv_root"])
def test_root_of_a_defective_zero_is_refused_and_told_why(function: str) -> None:
    """A Jordan block at 0 has no root and no inverse, and the hint says what to do."""
    for block in (np.eye(2, k=1), _SIMILAR @ np.diag([1.0, 0, 0], k=1) @ np.rint(np.linalg.inv(_SIMILAR))):
        found = answer(function, {"a": block}, r=2, structure="general", on_failure="nan").certificates[0]
        assert found.code == ("not_positive" if function == "root" else "singular")
        assert ("fewer eigenvectors" in (found.hint or "")) == (function == "root")
        assert "damping" in (found.hint or "")


def test_root_of_a_singular_matrix_with_a_negative_eigenvalue_is_refused() -> None:
    """A zero eigenvalue excuses no negative one."""
    a = _SIMILAR @ np.diag([4.0, -1, 0, 0]) @ np.rint(np.linalg.inv(_SIMILAR))
    assert answer("root", {"a": a}, r=2, structure="general", on_failure="nan").certificates[0].code == "not_positive"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("size", "r"), [(0.9, 7), (1.3, 8), (0.6, 3)])
def test_rounding_of_an_output_that_has_an_error_itself(size: float, r: int, dtype: str) -> None:
    """The rounding of an answer to half precision is counted relative to the truth."""
    a = (size * torch.eye(3) + 0.05).to(getattr(torch, dtype))
    program, call = candidates("inv_root", {"a": a}, r=r, damping=0.0, precision="bf16")[0]  # type: ignore[dict-item]
    found = evaluate(program, batch_of(call))
    error = relative_error(found.outputs[0][0].double().numpy(), power(a.double().numpy(), -1 / r))
    estimate = found.certificates[0].error_estimate
    assert estimate is not None
    assert error <= estimate


@pytest.mark.parametrize(("r", "s"), [(3, 2), (3, 1), (5, 2), (7, 5), (8, 1)])
@pytest.mark.parametrize("number", [1e290, 1e100, 3.9834811856309656e91, 3.0, 0.4, 1e-100, 1e-180])
def test_numbers_far_from_one_keep_their_digits(number: float, r: int, s: int) -> None:
    """The exponent s/r is rounded, which the logarithm of a number multiplies: powers of two are taken out before."""
    for order in (1, 3):
        found = answer("inv_root", {"a": number * np.eye(order)}, r=r, s=s)
        with workdps(40):
            truth = float(mpf(number) ** (-mpf(s) / r))
        assert_honest(found, truth * np.eye(order), slack=1.2e-16)
        assert abs(found.outputs[0].flat[0] - truth) <= 1e-15 * truth


@pytest.mark.parametrize("r", [2, 3, 4])
def test_roots_of_matrices_of_nullity_one_know_their_smallest_eigenvalue(r: int) -> None:
    """A root is within an estimate far below that of an eigenvalue off by 8 eps, whatever rounding left of the zero."""
    rng = np.random.default_rng(9)
    for _ in range(20):
        f = rng.standard_normal((3, 2))
        a = f @ f.T

        found = answer("root", {"a": a[None]}, r=r, method="eigh")

        truth = power((a + a.T) / 2, 1 / r)
        assert_honest(found, truth, slack=1e-16)
        assert estimate_of(found) < 0.1 * (8 * EPS["float64"]) ** (1 / r)
