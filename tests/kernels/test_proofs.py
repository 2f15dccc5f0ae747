"""Proved bounds: never below the true error, whatever is claimed, and near it where the answer is good."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import mpmath
import numpy as np
import pytest
import torch

import extended
from claims import (
    Question,
    claims,
    clip_of_eigenvalues,
    clip_of_values,
    definite,
    errors,
    low_rank,
    pair,
    polar_factors,
    power,
    proved,
    rectangular,
    repeated,
    triangle,
    unitary,
)
from evaluating import answer
from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.proofs import bound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
DTYPES = ("float16", "float32", "float64", "complex64", "complex128")
CASES = (("spread", 1, 1.0), ("spread", 2, 1e2), ("clustered", 5, 1e4), ("half_small", 6, 1e9), ("one_small", 7, 1e12))
POWERS = [("inv_root", 1, 1), ("inv_root", 2, 1), ("inv_root", 3, 1), ("inv_root", 4, 1), ("inv_root", 3, 2)]
POWERS += [("inv_root", 2, 3), ("inv_root", 4, 2), ("root", 2, 1), ("root", 3, 1), ("root", 4, 3), ("root", 1, 2)]


def _cases(dtype: str) -> tuple[tuple[str, int, float], ...]:
    """All, or two of them for dtypes whose proofs are those of others."""
    return CASES if dtype in {"float32", "float64"} else CASES[1:4:2]


def _gaussian(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    """Gaussian numbers, complex where the dtype is."""
    real = rng.standard_normal(shape)
    return np.asarray(real + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else real)


def _assert_bounded(question: Question, dtype: str, rng: np.random.Generator) -> None:
    """No claim about the question is bounded below its error, and what is not bounded has a reason."""
    claimed = list(claims(question, dtype, rng))
    outputs = tuple(np.concatenate(column) for column in zip(*claimed, strict=True))
    question = repeated(question, len(claimed))
    error, found = errors(question, outputs), proved(question, outputs)
    low = np.flatnonzero(~(error <= found.error.numpy() + question.uncertainty))
    assert not low.size, (low, error[low], found.error[low])
    assert [reason is None for reason in found.reason] == found.error.isfinite().tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("function", "r", "s"), POWERS)
def test_no_claimed_power_is_bounded_below_its_error(function: str, r: int, s: int, dtype: str) -> None:
    """Right, perturbed and wrong answers of several spectra and conditions."""
    rng = np.random.default_rng([r, s, len(dtype)])
    for kind, n, kappa in _cases(dtype):
        _assert_bounded(power(function, r, s, definite(rng, 2, n, kappa, dtype, kind), kappa), dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_claimed_pair_is_bounded_below_its_larger_error(dtype: str) -> None:
    """Both roots of the shifted matrix."""
    rng = np.random.default_rng(1)
    for kind, n, kappa in _cases(dtype):
        shift = np.array([0.0, 2.0**-7])
        _assert_bounded(pair(definite(rng, 2, n, kappa, dtype, kind), kappa, shift), dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extra", [(0, 0), (3, 0), (0, 2)])
def test_no_claimed_polar_factor_is_bounded_below_its_error(extra: tuple[int, int], dtype: str) -> None:
    """Square, tall and wide matrices of full rank, and those whose smallest values are rounding."""
    rng = np.random.default_rng(2)
    for kind, n, kappa in _cases(dtype):
        m = rectangular(rng, (2, n + extra[0], n + extra[1]), min(kappa, 1e6), dtype, kind)
        sign, both = polar_factors(m, kappa)
        _assert_bounded(sign, dtype, rng)
        if not extra[1]:
            _assert_bounded(both, dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_claimed_clip_is_bounded_below_its_error(dtype: str) -> None:
    """Of eigenvalues and singular values, with limits that act and that do not."""
    rng = np.random.default_rng(3)
    for kind, n, kappa in _cases(dtype):
        for hi in (0.1, 5.0, None):
            _assert_bounded(clip_of_values(rectangular(rng, (2, n + 1, n), kappa, dtype, kind), hi), dtype, rng)
        a = definite(rng, 2, n, kappa, dtype, kind)
        a = a - np.asarray(0.25, dtype) * np.eye(n, dtype=dtype)
        for lo, hi in ((0.0, None), (0.0, 0.5), (None, 0.125)):
            _assert_bounded(clip_of_eigenvalues(a, lo, hi), dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_no_claimed_triangular_solution_is_bounded_below_its_error(dtype: str, lower: bool) -> None:
    """Inverses and solutions, with rows of very different sizes and with nearly singular triangles."""
    rng = np.random.default_rng(4)
    for n, least, rows in ((1, 1.0, 0), (4, 0.3, 0), (7, 1e-4, 0), (6, 0.3, 4)):
        t = _gaussian(rng, dtype, 2, n, n)
        t[:, range(n), range(n)] = np.linspace(least, 1, n) * rng.choice([-1, 1], n)
        t = (t * 2.0 ** rng.integers(-rows, rows + 1, (2, n, 1))).astype(dtype)
        b = _gaussian(rng, dtype, 2, n, 3).astype(dtype)
        for question in (
            triangle(t, None, lower=lower),
            triangle(t, None, lower=lower, unit=True),
            triangle(t, b, lower=lower),
            triangle(t, b, lower=lower, transpose=True),
        ):
            _assert_bounded(question, dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transpose", [True, False])
def test_no_claimed_low_rank_solution_is_bounded_below_its_error(dtype: str, transpose: bool) -> None:
    """Inverses and solutions."""
    rng = np.random.default_rng(5)
    for n, rank in ((1, 1), (5, 2), (9, 3)):
        diag = (rng.uniform(0.3, 1, (2, n)) * rng.choice([-1, 1], n)).astype(dtype)
        q, k = (_gaussian(rng, dtype, 2, n, rank).astype(dtype) for _ in range(2))
        b = _gaussian(rng, dtype, 2, n, 3).astype(dtype)
        _assert_bounded(low_rank((diag, q, k), None), dtype, rng)
        _assert_bounded(low_rank((diag, q, k), b, transpose=transpose), dtype, rng)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("function", ["root", "inv_root"])
def test_no_claimed_product_with_a_power_is_bounded_below_its_error(function: str, dtype: str) -> None:
    """G A^(+-1/2)."""
    rng = np.random.default_rng(6)
    a = definite(rng, 2, 6, 1e3, dtype)
    g = unitary(rng, 2, 9, 6, dtype).astype(dtype)
    plain = power(function, 2, 1, a, 1e3)
    truth = extended.wide(g) @ plain.truths[0]
    question = Question(function, {"a": a, "g": g}, (truth,), plain.parameters, uncertainty=plain.uncertainty)

    _assert_bounded(question, dtype, rng)
    assert np.all(proved(question, next(claims(question, dtype, rng))).error.numpy() < 1e-6)


def _good_answers(dtype: str) -> Iterator[Question]:
    """Questions of the kinds that users have."""
    rng = np.random.default_rng(7)
    for n, kappa in ((4, 1e2), (12, 1e4), (17, 1e3), (24, 1e5)):
        for function, r, s in POWERS[:5] + POWERS[7:10]:
            yield power(function, r, s, definite(rng, 3, n, kappa, dtype), kappa)
        m = rectangular(rng, (3, n + n % 5, n), kappa / 10, dtype, "spread")
        yield from polar_factors(m, kappa)
        yield clip_of_values(m, 0.1)
        yield clip_of_eigenvalues(definite(rng, 3, n, kappa, dtype) - np.eye(n, dtype=dtype) / 4, 0.0, 0.5)
        t = (np.tril(rng.standard_normal((3, n, n)), -1) / n**0.5 + np.eye(n)).astype(dtype)
        b = rng.standard_normal((3, n, 4)).astype(dtype)
        yield triangle(t, None, lower=True)
        yield triangle(t, b, lower=True)
        factors = (np.ones((3, n), dtype), b / np.asarray(n, dtype), b)
        yield low_rank(factors, None)
        yield low_rank(factors, b)


@pytest.mark.parametrize(("dtype", "most"), [("float32", 30.0), ("float64", 100.0)])
def test_answers_are_bounded_within_a_factor_of_their_errors(dtype: str, most: float) -> None:
    """Of every function, in the median; and no answer is bounded below its error."""
    factors: dict[str, list[float]] = {}
    for question in _good_answers(dtype):
        outputs = answer(question.function, question.inputs, **question.parameters).outputs
        error, found = errors(question, outputs), proved(question, outputs).error.numpy()
        assert np.all(error <= found + question.uncertainty)
        factors.setdefault(question.function, []).extend(found / error)

    medians = {function: float(np.median(found)) for function, found in factors.items()}

    assert all(median <= most for median in medians.values()), medians


@pytest.mark.parametrize("size", [1e-100, 1e100])
def test_sizes_of_matrices_cost_no_bound(size: float) -> None:
    """Matrices of 1e100 and of 1e-100 are proved as those near 1 are."""
    rng = np.random.default_rng(8)
    a = definite(rng, 2, 6, 1e4, "float64")
    for function in ("root", "inv_root"):
        question = power(function, 3, 1, a * size, 1e4)
        outputs = next(claims(question, "float64", rng))
        found = proved(question, outputs).error.numpy()
        assert np.all(errors(question, outputs) <= found + question.uncertainty)
        assert np.all(found < 1e-14)


def test_scaling_by_a_power_of_two_changes_no_bit() -> None:
    """The bound of A^(-1/4) is that of (16^k A)^(-1/4)."""
    rng = np.random.default_rng(9)
    a, x = (torch.from_numpy(definite(rng, 3, 7, 1e3, "float64")) for _ in range(2))
    x = torch.linalg.inv(torch.linalg.cholesky(a)).mT @ torch.linalg.inv(torch.linalg.cholesky(a))

    plain = bound("inv_root", {"a": a}, {"r": 1}, [x], None)
    scaled = bound("inv_root", {"a": a * 2.0**80}, {"r": 1}, [x * 2.0**-80], None)

    assert torch.equal(plain.error, scaled.error)
    assert bool((plain.error < 1e-10).all())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_company_is_invisible(dtype: str) -> None:
    """A matrix alone has the bits of its bound in a batch, also beside one that has none."""
    rng = np.random.default_rng(10)
    m = rectangular(rng, (9, 13, 11), 1e2, dtype, "spread")
    a = definite(rng, 9, 11, 1e3, dtype)
    m[4], a[4] = 0, -a[4]
    questions = [*polar_factors(m[:1], 1e2), clip_of_values(m[:1], 0.5), clip_of_eigenvalues(a[:1], 0.5, None)]
    questions += [power(function, r, s, a[:1], 1e3) for function, r, s in (("root", 2, 1), ("inv_root", 3, 1))]
    for question in questions:
        name, given = ("m", m) if "m" in question.inputs else ("a", a)
        outputs = answer(question.function, {name: given}, **question.parameters, on_failure="nan").outputs
        tensors = [torch.from_numpy(output) for output in outputs]
        whole = bound(question.function, {name: torch.from_numpy(given)}, question.parameters, tensors, None)
        for i in range(9):
            alone = torch.from_numpy(given[i : i + 1])
            one = bound(question.function, {name: alone}, question.parameters, [x[i : i + 1] for x in tensors], None)
            assert torch.equal(one.error, whole.error[i : i + 1])
            assert one.reason == whole.reason[i : i + 1]


def _reason(function: str, inputs: dict[str, Array], parameters: dict[str, object], *outputs: Array) -> str:
    given = {name: torch.from_numpy(x)[None] for name, x in inputs.items()}
    found = bound(function, given, parameters, [torch.from_numpy(x)[None] for x in outputs], None)
    assert found.error.tolist() == [math.inf]
    assert found.reason[0] is not None
    return found.reason[0]


def test_what_has_no_bound_has_a_reason() -> None:
    """A plain sentence for each cause."""
    one, two = np.eye(2), np.diag([1.0, 2.0])
    roots: dict[str, object] = {"r": 2, "s": 1}

    assert "finite" in _reason("root", {"a": one}, roots, one * np.nan)
    assert "positive definite" in _reason("root", {"a": one}, roots, -one)
    assert "residual" in _reason("inv_root", {"a": one}, roots, one * 3)
    assert "symmetry" in _reason("root", {"a": one}, {**roots, "structure": "general"}, one)
    assert "separation" in _reason("mcsgn", {"a": one}, {}, one)
    assert "separation" in _reason("solve_lyapunov", {"a": one, "q": two}, {}, one)
    assert "rank" in _reason("mclip", {"m": one}, {"lo": 0.5, "hi": 1.0}, one)
    assert "rank" in _reason("msign", {"m": np.diag([1.0, 1e-7]).astype("f4")}, {}, one.astype("f4"))
    assert "singular" in _reason("polar", {"m": np.ones((1, 2))}, {}, np.ones((1, 2)), one)
    assert "invertible" in _reason("tri_inv", {"t": np.diag([1.0, 0.0])}, {}, one)
    assert "no digit" in _reason("eig_clip", {"a": one}, {}, two * 9)


PROVED = {"root", "inv_root", "sqrt_pair", "log", "exp", "power", "msign", "mclip", "polar", "eig_clip", "eigh"}


def test_every_function_has_a_bound_or_a_reason() -> None:
    """Also those that no proof is known for."""
    for function in FUNCTIONS.values():
        if function.name not in PROVED and not function.name.startswith(("tri_", "dplr_")):
            found = bound(function.name, {}, {}, [torch.zeros(2, 3, 3)], None)
            assert found.reason[0] == found.reason[1]
            assert found.reason[0] is not None
            assert found.reason[0].startswith("no cheap proof: ")


def test_eigenvalues_that_range_may_drop_leave_no_bound() -> None:
    """An inverse root that keeps an eigenvalue below the threshold is wrong under damping="range"."""
    a = torch.diag_embed(torch.tensor([[1.0, 1e-3], [1.0, 1e-7]], dtype=torch.float32))
    x = a.double().inverse().float()

    kept = bound("inv_root", {"a": a}, {"r": 1, "damping": "range"}, [x], None)
    plain = bound("inv_root", {"a": a}, {"r": 1}, [x], None)

    assert kept.reason[0] is None
    assert "range" in str(kept.reason[1])
    assert plain.reason == (None, None)


def test_empty_answers_are_exact() -> None:
    """Of order zero, and of no matrices."""
    for shape in ((2, 0, 0), (0, 3, 3)):
        found = bound("root", {"a": torch.zeros(shape)}, {"r": 2}, [torch.zeros(shape)], None)
        assert found.error.tolist() == [0.0] * shape[0]
        assert found.reason == (None,) * shape[0]


def _precise_error(x: Array, truth: mpmath.matrix) -> mpmath.mpf:
    """||X - X*||_F / ||X*||_F in the digits of mpmath."""
    return mpmath.mnorm(mpmath.matrix(x.tolist()) - truth, "f") / mpmath.mnorm(truth, "f")


def _precise_power(a: Array, exponent: mpmath.mpf) -> mpmath.matrix:
    a = mpmath.matrix(a.tolist())
    w, v = mpmath.eigsy((a + a.T) / 2)
    return v * mpmath.diag([value**exponent for value in w]) * v.T


def _precise_sign(m: Array) -> mpmath.matrix:
    u, _, v = mpmath.svd_r(mpmath.matrix(m.tolist()))
    return u * v


@pytest.mark.parametrize("kappa", [1e2, 1e6, 1e9])
def test_bounds_of_double_answers_hold_in_sixty_digits(kappa: float) -> None:
    """Without any allowance for the truth."""
    rng = np.random.default_rng(11)
    with mpmath.workdps(60):
        for kind, n in (("spread", 3), ("half_small", 4), ("clustered", 5)):
            a = definite(rng, 2, n, kappa, "float64", kind)
            m = rectangular(rng, (2, n + 1, n), min(kappa, 1e7), "float64", kind)
            t = np.tril(m[:, :n])
            for function, inputs, parameters, truth in (
                ("inv_root", {"a": a}, {"r": 3}, lambda x: _precise_power(x, -mpmath.mpf(1) / 3)),
                ("inv_root", {"a": a}, {"r": 2}, lambda x: _precise_power(x, -mpmath.mpf(1) / 2)),
                ("root", {"a": a}, {"r": 2}, lambda x: _precise_power(x, mpmath.mpf(1) / 2)),
                ("msign", {"m": m}, {}, _precise_sign),
                ("tri_inv", {"t": t}, {}, lambda x: mpmath.matrix(x.tolist()) ** -1),
            ):
                damping = {"damping": 0.0} if "a" in inputs else {}
                outputs = answer(function, inputs, **parameters, **damping).outputs
                found = proved(Question(function, inputs, (), parameters), outputs).error.tolist()
                (given,) = inputs.values()
                for matrix, x, most in zip(given, outputs[0], found, strict=True):
                    assert _precise_error(x, truth(matrix)) <= most < 1e-5
