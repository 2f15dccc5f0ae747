"""Proved bounds of log, exp, power and eigh: never below the true error, whatever is claimed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import mpmath as mp
import numpy as np
import pytest
import torch

import extended
from claims import Question, claims, definite, errors, function_of, proved, repeated, unitary
from evaluating import answer
from matfn_kernels import Outcome
from matfn_kernels.proofs import bound
from matfn_kernels.proofs.elementary import exponential, logarithm, real_power, whole_power

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
DTYPES: Final = ("float16", "float32", "float64", "complex64", "complex128")
CASES: Final = (("spread", 1, 1.0), ("spread", 2, 1e2), ("clustered", 5, 1e4), ("half_small", 6, 1e6))
"""Spectra, orders and conditions."""


def _assert_bounded(question: Question, dtype: str, rng: np.random.Generator) -> None:
    """No claim about the question is bounded below its error, and what is not bounded has a reason."""
    claimed = list(claims(question, dtype, rng))
    outputs = tuple(np.concatenate(column) for column in zip(*claimed, strict=True))
    question = repeated(question, len(claimed))
    error, found = errors(question, outputs), proved(question, outputs)
    low = np.flatnonzero(~(error <= found.error.numpy() + question.uncertainty))
    assert not low.size, (low, error[low], found.error[low])
    assert [reason is None for reason in found.reason] == found.error.isfinite().tolist()
    assert found.error.isfinite().any() or dtype == "float16"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.3, -0.7, 2.0, -1.0, 5.5, 1.0])
def test_no_claimed_power_is_bounded_below_its_error(p: float, dtype: str) -> None:
    """Right, perturbed and wrong answers of several spectra, powers of either sign, with factors and shifts."""
    rng = np.random.default_rng([len(dtype), int(10 * p) + 10])
    for kind, n, kappa in CASES[:3]:
        a, condition = definite(rng, 2, n, kappa, dtype, kind), abs(p) * kappa ** max(1.0, 1 - p, p)
        g = rng.standard_normal((2, 3, n)).astype(dtype)
        _assert_bounded(function_of("power", a, lambda w: w ** np.longdouble(p), condition, {"p": p}), dtype, rng)
        _assert_bounded(function_of("power", a, lambda w: w ** np.longdouble(p), condition, {"p": p}, g=g), dtype, rng)
        shift = np.array([0.0, 0.25])
        shifted = function_of("power", a, lambda w: w ** np.longdouble(p), condition, {"p": p}, shift=shift)
        _assert_bounded(shifted, dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [2, 3, -1, -2])
def test_no_claimed_power_of_an_indefinite_matrix_is_bounded_below_its_error(p: int, dtype: str) -> None:
    """Whole powers, of eigenvalues of both signs."""
    rng = np.random.default_rng(p + 9)
    q = unitary(rng, 2, 4, 4, dtype)
    a = ((q * np.array([-1.0, -0.25, 0.1, 0.5])) @ np.conj(q.swapaxes(1, 2))).astype(dtype)
    _assert_bounded(function_of("power", a, lambda w: w ** np.longdouble(p), 1e3, {"p": float(p)}), dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_claimed_logarithm_is_bounded_below_its_error(dtype: str) -> None:
    """Of matrices of several conditions and sizes, near I too."""
    rng = np.random.default_rng(1)
    for kind, n, kappa in CASES[1:]:
        for scale in (1.0, 2.0**-12, 2.0**8):
            a = definite(rng, 2, n, kappa, dtype, kind) * np.asarray(scale, dtype)
            _assert_bounded(function_of("log", a, lambda w: np.log(np.maximum(w, 1e-300)), kappa, {}), dtype, rng)
    near = (np.eye(3) + 2.0**-6 * definite(rng, 2, 3, 10.0, "float64")).astype(dtype)
    _assert_bounded(function_of("log", near, np.log, 2.0**6, {}), dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [1.0, -2.5, 0.0, 9.0])
def test_no_claimed_exponential_is_bounded_below_its_error(t: float, dtype: str) -> None:
    """Of indefinite matrices, with factors of either sign and none."""
    rng = np.random.default_rng(2)
    for kind, n, kappa in CASES:
        a = definite(rng, 2, n, kappa, dtype, kind) - np.asarray(0.25, dtype) * np.eye(n, dtype=dtype)
        _assert_bounded(function_of("exp", a, lambda w: np.exp(np.longdouble(t) * w), 1 + abs(t), {"t": t}), dtype, rng)


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("log", {}),
        ("exp", {"t": -3.0}),
        ("power", {"p": 0.4}),
        ("power", {"p": -1.5}),
        ("power", {"p": 3}),
        ("eigh", {}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize(("order", "kappa"), [(3, 10.0), (16, 1e4), (40, 1e2)])
def test_answers_are_proved_to_the_default_tolerance(
    name: str, keywords: dict[str, Any], dtype: str, order: int, kappa: float
) -> None:
    """A bound is found for every answer, and is below the tolerance that its condition sets."""
    a = definite(np.random.default_rng(order), 2, order, kappa, dtype)

    certificates = answer(name, {"a": a}, certify="proved", **keywords).certificates

    assert {certificate.outcome for certificate in certificates} == {Outcome.CONVERGED}
    assert all(certificate.error_bound is not None for certificate in certificates)


@pytest.mark.parametrize(
    ("name", "values", "keywords", "words"),
    [
        ("log", [0.0, 1.0], {"damping": 0}, "where the function is defined"),
        ("power", [-1e-9, 1.0], {"p": 0.5}, "where the function is defined"),
        ("power", [1e-15, 1.0], {"p": -1, "damping": "range"}, "keep all its eigenvalues"),
        ("log", [1e-15, 1.0], {"damping": "range"}, "keep all its eigenvalues"),
    ],
)
def test_what_is_not_proved_says_why(name: str, values: list[float], keywords: dict[str, Any], words: str) -> None:
    """Eigenvalues at the edge of the domain, and those that may have been dropped, leave no bound."""
    a = np.diag(np.array(values))

    found = bound(name, {"a": torch.from_numpy(a[None])}, keywords, [torch.eye(2, dtype=torch.float64)[None]], None)

    assert not found.error.isfinite().any()
    assert words in (found.reason[0] or "")


def _eigenpair_errors(a: Array, w: Array, v: Array) -> Array:
    """The three errors of eigenpairs in longdouble, the largest, (batch,)."""
    a, v = extended.wide(a), extended.wide(v)
    a = (a + a.swapaxes(1, 2)) / 2
    values = np.sort(extended.eigh(a)[0], -1)
    w = np.concatenate([w] * (a.shape[-1] // w.shape[-1]), -1).astype(np.longdouble)
    residual = np.sqrt(((a @ v - v * w[:, None, :]) ** 2).sum((1, 2)) / (a**2).sum((1, 2)))
    skew = np.sqrt(((v.swapaxes(1, 2) @ v - np.eye(a.shape[-1])) ** 2).sum((1, 2)) / a.shape[-1])
    moved = abs(np.sort(w, -1) - values).max(-1) / abs(values).max(-1)
    return np.asarray(np.max([residual, skew, moved], 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_claimed_eigenpair_is_bounded_below_its_error(dtype: str) -> None:
    """Eigenpairs as LAPACK finds them, perturbed, of the wrong order and of the wrong kind."""
    rng = np.random.default_rng(4)
    real = np.zeros(0, dtype).real.dtype
    for kind, n, kappa in CASES:
        a = definite(rng, 2, n, kappa, dtype, kind) - np.asarray(0.25, dtype) * np.eye(n, dtype=dtype)
        w, v = np.linalg.eigh(a.astype(np.complex128 if np.iscomplexobj(a) else np.float64))
        for size in (0.0, 1e-12, 1e-6, 1e-2, 0.5):
            values = np.sort(w * (1 + size * rng.standard_normal(w.shape)), -1).astype(real)
            vectors = (v * (1 + size * rng.standard_normal(v.shape))).astype(dtype)
            given = [torch.from_numpy(x) for x in (values, vectors)]
            found = bound("eigh", {"a": torch.from_numpy(a)}, {}, given, None)
            assert (_eigenpair_errors(a, values, vectors) <= found.error.numpy() + 1e-17).all()
            assert size > 0.1 or found.error.isfinite().all() or dtype == "float16"
    for claimed in (torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 1j]])):
        found = bound("eigh", {"a": torch.eye(2)[None]}, {}, [claimed, torch.eye(2)[None]], None)
        assert "ascending order" in (found.reason[0] or "")


def test_elementary_functions_are_within_their_bounds() -> None:
    """Logarithms, exponentials and powers of numbers of float64, against mpmath."""
    rng = np.random.default_rng(5)
    near = 1 + rng.standard_normal(300) * 10.0 ** rng.uniform(-16, -1, 300)
    x = np.concatenate([10.0 ** rng.uniform(-300, 300, 300), near, 2.0 ** rng.integers(-60, 60, 30), [0.5**0.5]])
    none = torch.zeros(1, dtype=torch.int64)
    with mp.workdps(50):
        log, off = (part[0].tolist() for part in logarithm(torch.from_numpy(x)[None], none))
        for number, value, error in zip(x.tolist(), log, off, strict=True):
            assert abs(mp.log(number) - value) <= error
        t = np.concatenate([rng.uniform(-700, 700, 300), rng.standard_normal(300)])
        parts = [part.tolist() for part in exponential(torch.from_numpy(t))]
        for number, y, k, error in zip(t.tolist(), *parts, strict=True):
            assert abs(mp.exp(number) / mp.mpf(2) ** k - y) <= error * y
        for p in (0.3, -1.75, 63.5, 2, -3, 64):
            power = partial(whole_power, p=p) if isinstance(p, int) else partial(real_power, p=p)
            parts = [part[0].tolist() for part in power(torch.from_numpy(x)[None], none)]
            for number, y, k, error in zip(x.tolist(), *parts, strict=True):
                assert abs(mp.mpf(number) ** mp.mpf(p) / mp.mpf(2) ** k - y) <= error * y


def test_bounds_of_single_precision_are_near_the_error() -> None:
    """A proof in float64 of an answer in float32 is little more than the error itself."""
    a = definite(np.random.default_rng(6), 2, 24, 1e3, "float32")
    question = function_of("log", a, np.log, 1e3, {})

    found = answer("log", {"a": a}, certify="proved")

    for error, certificate in zip(errors(question, found.outputs), found.certificates, strict=True):
        assert certificate.error_bound is not None
        assert certificate.error_bound <= 1.01 * error
