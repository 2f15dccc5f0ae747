"""Proofs that run in C: their bounds beside those of torch, in any company, and of answers made to deceive them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch

from claims import (
    Question,
    claims,
    clip_of_eigenvalues,
    clip_of_values,
    definite,
    errors,
    function_of,
    low_rank,
    pair,
    polar_factors,
    power,
    proved,
    rectangular,
    repeated,
    triangle,
)
from evaluating import answer
from matfn_kernels.linalg.native.library import is_built, variant
from variants import VARIANTS, use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
FUNCTIONS = ["inv_root", "root", "root_3", "sqrt_pair", "msign", "polar", "mclip", "eig_clip"]
FUNCTIONS += ["tri_inv", "tri_solve", "dplr_inv", "dplr_solve", "log", "exp", "power"]
ITEMS = 3

pytestmark = pytest.mark.skipif(not is_built(), reason="installed without a C compiler")


def _question(function: str, n: int, kappa: float, dtype: str) -> Question:
    """Some matrices of that order and about that condition."""
    rng = np.random.default_rng([n, len(dtype), len(function)])
    a = definite(rng, ITEMS, n, kappa, dtype)
    m = rectangular(rng, (ITEMS, n + 3, n), min(kappa, 1e4), dtype, "spread")
    t = np.tril(rng.standard_normal((ITEMS, n, n)), -1) / n**0.5 + np.eye(n) * rng.uniform(0.3, 1, (ITEMS, n, 1))
    b = rng.standard_normal((ITEMS, n, 3)).astype(dtype)
    g = b.swapaxes(1, 2).copy()
    factors = (rng.uniform(0.3, 1, (ITEMS, n)).astype(dtype), b / np.asarray(n, dtype), b)
    made: dict[str, Any] = {
        "inv_root": lambda: power("inv_root", 2, 1, a, kappa),
        "root": lambda: power("root", 2, 1, a, kappa),
        "root_3": lambda: power("root", 3, 2, a, kappa),
        "sqrt_pair": lambda: pair(a, kappa, np.array([0.0, 2.0**-9, 0.5])),
        "log": lambda: function_of("log", a, lambda w: np.log(np.maximum(w, 1e-300)), kappa, {}),
        "exp": lambda: function_of("exp", a, lambda w: np.exp(-2 * w), 2.0, {"t": -2.0}),
        "power": lambda: function_of("power", a, lambda w: w ** np.longdouble(-0.7), kappa**1.7, {"p": -0.7}, g=g),
        "msign": lambda: polar_factors(m, kappa)[0],
        "polar": lambda: polar_factors(m, kappa)[1],
        "mclip": lambda: clip_of_values(m, 0.1),
        "eig_clip": lambda: clip_of_eigenvalues(a - np.asarray(0.25, dtype) * np.eye(n, dtype=dtype), 0.0, 0.5),
        "tri_inv": lambda: triangle(t.astype(dtype), None, lower=True),
        "tri_solve": lambda: triangle(t.astype(dtype), b, lower=False, transpose=True),
        "dplr_inv": lambda: low_rank(factors, None),
        "dplr_solve": lambda: low_rank(factors, b, transpose=True),
    }
    found: Question = made[function]()
    return found


def _planted(question: Question, dtype: str) -> tuple[Question, tuple[Array, ...]]:
    """Right and wrong claims about the matrices."""
    claimed = list(claims(question, dtype, np.random.default_rng(7)))
    return repeated(question, len(claimed)), tuple(np.concatenate(column) for column in zip(*claimed, strict=True))


def _assert_none_low(question: Question, outputs: tuple[Array, ...]) -> Array:
    """The bounds, none of which is below the true error."""
    error, found = errors(question, outputs), proved(question, outputs).error.numpy()
    low = np.flatnonzero(~(error <= found + question.uncertainty))
    assert not low.size, (low, error[low], found[low])
    return np.asarray(found)


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proofs compute as they do where the library is not built."""
    for module in ("balls", "bounds"):
        monkeypatch.setattr(f"matfn_kernels.proofs.{module}.is_built", lambda: False)


@pytest.fixture
def usual() -> Iterator[None]:
    """Takes the instruction set that was in use before the test again."""
    name = variant()
    yield
    use(name)


@pytest.mark.usefixtures("by_torch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_claim_is_bounded_below_its_error_by_torch(function: str, dtype: str) -> None:
    """Where there is no library the bounds hold too."""
    for n, kappa in ((1, 1.0), (7, 1e3)):
        _assert_none_low(*_planted(_question(function, n, kappa, dtype), dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_bounds_in_c_are_those_by_torch(function: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same claims have a bound, and the bounds of claims that are wrong by digits are the same to a tenth."""
    question, outputs = _planted(_question(function, 9, 1e2, dtype), dtype)
    found = _assert_none_low(question, outputs)
    for module in ("balls", "bounds"):
        monkeypatch.setattr(f"matfn_kernels.proofs.{module}.is_built", lambda: False)
    expected = proved(question, outputs).error.numpy()

    assert np.array_equal(np.isfinite(found), np.isfinite(expected))
    coarse = np.isfinite(expected) & (expected > (1e-9 if dtype == "float32" else 1e-13))
    assert coarse.any()
    np.testing.assert_allclose(found[coarse], expected[coarse], rtol=0.1)


@pytest.mark.sampled(4)
@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_claim_is_bounded_below_its_error_by_any_instructions(function: str, dtype: str, name: str) -> None:
    """Orders below, at and above those that fill vectors, with every instruction set that the processor has."""
    if not use(name):
        pytest.skip(f"this processor has no {name}")
    for n, kappa in ((3, 1e2), (16, 1e3), (33, 1e2)):
        _assert_none_low(*_planted(_question(function, n, kappa, dtype), dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_bound_is_the_same_bits_in_any_company(function: str, dtype: str) -> None:
    """Beside matrices that are not finite, or alone; and what is not finite has no bound."""
    question = _question(function, 10, 1e2, dtype)
    settings = {"damping": 0.0} if function in {"inv_root", "root", "root_3"} else {}
    outputs = tuple(answer(question.function, question.inputs, **question.parameters, **settings).outputs)
    outputs = tuple(np.asarray(output) for output in outputs)
    expected = proved(question, outputs)
    for wrong in (np.nan, np.inf):
        first = next(iter(question.inputs))
        spoilt = {name: x.copy() for name, x in question.inputs.items()}
        spoilt[first][0, 0] = wrong
        claimed = tuple(output.copy() for output in outputs)
        claimed[0][2, -1, 0] = wrong
        found = proved(replace(question, inputs=spoilt), claimed)
        assert found.error.isinf().tolist() == [True, False, True]
        assert found.error[1] == expected.error[1]
        alone = replace(
            question,
            inputs={name: x[1:2] for name, x in question.inputs.items()},
            shift=None if question.shift is None else question.shift[1:2],
        )
        assert proved(alone, tuple(output[1:2] for output in outputs)).error[0] == expected.error[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_half_of_a_triangle_that_is_not_read_does_not_matter(dtype: str) -> None:
    """Not in T, whatever it holds; but in X, where zeros are claimed."""
    question = _question("tri_inv", 20, 1.0, dtype)
    truth = np.asarray(question.truths[0]).astype(dtype)
    filled = question.inputs["t"] + np.triu(np.full((20, 20), 1e30), 1).astype(dtype)
    found = _assert_none_low(replace(question, inputs={"t": filled}), (truth,))
    assert np.array_equal(found, proved(question, (truth,)).error.numpy())

    for i, j, size in ((0, 19, 1e-3), (3, 4, 1e-2), (18, 19, 10.0)):
        claimed = truth.copy()
        claimed[:, i, j] += np.asarray(size, dtype)
        _assert_none_low(question, (claimed,))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverses_of_badly_scaled_triangles_keep_their_digits(dtype: str) -> None:
    """Rows and columns of very different sizes, whose inverses are proved by another way than their own residuals."""
    rng = np.random.default_rng(3)
    t = np.tril(rng.standard_normal((ITEMS, 12, 12)), -1) / 4 + np.eye(12)
    rows = 1e6 ** rng.uniform(-1, 1, (ITEMS, 12, 1))
    columns = 1e3 ** rng.uniform(-1, 1, (ITEMS, 1, 12))
    for scaled in (t * rows, t * columns, t * rows * columns):
        question = triangle(scaled.astype(dtype), None, lower=True)
        outputs = (np.asarray(answer("tri_inv", question.inputs, lower=True).outputs[0]),)
        found = _assert_none_low(question, outputs)
        assert (found < 1e3 * np.finfo(dtype).eps).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_pair_is_not_proved_by_one_right_half(dtype: str) -> None:
    """Signs, exchanged halves, a wrong root beside a right inverse root, and the other way round."""
    question = replace(_question("sqrt_pair", 8, 1e2, dtype), shift=None)
    question = pair(question.inputs["a"], 1e2, np.zeros(ITEMS))
    root, inverse = (np.asarray(truth).astype(dtype) for truth in question.truths)
    turned = np.eye(8, dtype=dtype)
    turned[0, 0] = -1
    for claimed in ((inverse, root), (-root, inverse), (root, -inverse), (turned @ root, inverse), (root, 2 * inverse)):
        assert not np.isfinite(_assert_none_low(question, claimed)).any()
    skewed = root + 1e-4 * np.triu(np.ones((8, 8), dtype), 1)
    assert np.isfinite(_assert_none_low(question, (skewed, inverse))).all()


def test_rows_beyond_the_range_have_no_bound() -> None:
    """A row that underflow has touched is not scaled up."""
    t = np.eye(6)[None].repeat(2, 0)
    t[1, 3] *= 2.0**-400
    x = np.linalg.inv(t)
    b = np.ones((2, 6, 1))
    question = Question("tri_solve", {"t": t, "b": b}, (x @ b,), {"lower": True})
    assert proved(question, (x @ b,)).error.isfinite().tolist() == [True, False]


def test_threads_change_no_bound() -> None:
    """A batch that is shared among threads has the bounds that one thread finds."""
    question = _question("root", 40, 1e2, "float32")
    question = repeated(question, 20)
    outputs = tuple(np.asarray(truth).astype("float32") for truth in question.truths)
    threads = torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(proved(question, outputs).error)
    torch.set_num_threads(threads)
    assert torch.equal(*found)
