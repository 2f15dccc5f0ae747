"""Places where an answer looked converged and was not: each has to say so, or to be right."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from evaluating import EPS, Answer, Array, answer, candidates, run
from honesty import assert_covered, assert_honest, estimate_of
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.reference import relative_error
from spectra import orthogonal

EYE = np.eye(2)
HALF = np.float16
SINGLE = np.float32


def _basis(order: int, seed: int) -> Array:
    return orthogonal(np.random.default_rng(seed), order, order)


def _honest(found: Answer, exact: Array, tol: float = 1e-3, *, estimated: int | range | None = None) -> None:
    """No answer is converged, or estimated, to less than its true error."""
    error = float(np.max(relative_error(found.outputs[0], exact)))
    assert_covered(error, found.certificates, estimated=estimated, slack=30 * EPS["float64"])
    if found.certificates[0].outcome == "converged":
        assert error <= tol


@pytest.mark.parametrize(
    ("function", "inputs", "keywords"),
    [
        ("root", {"a": 1e-200 * EYE}, {"r": 1, "s": 2}),
        ("inv_root", {"a": 1e200 * EYE}, {"r": 1, "s": 2}),
        ("inv_root", {"a": (60000 * EYE).astype(HALF)}, {"r": 1, "s": 2}),
        ("inv_root", {"a": (1e30 * EYE).astype(SINGLE)}, {"r": 1, "s": 2}),
        ("tri_solve", {"t": (1e30 * EYE).astype(SINGLE), "b": np.full((2, 1), 1e-30, SINGLE)}, {}),
        ("tri_solve", {"t": 1e200 * EYE, "b": np.full((2, 1), 1e-200)}, {}),
        ("mclip", {"m": EYE.astype(SINGLE)}, {"hi": 1e-50}),
        ("mclip", {"m": EYE.astype(HALF)}, {"hi": 1e-9}),
        ("root", {"a": 1e-300 * EYE, "g": 1e-300 * EYE}, {"r": 2}),
        (
            "dplr_solve",
            {
                "diag": np.full(2, 1e30, SINGLE),
                "q": np.zeros((2, 1), SINGLE),
                "k": np.zeros((2, 1), SINGLE),
                "b": np.full((2, 1), 1e-30, SINGLE),
            },
            {},
        ),
    ],
)
def test_underflow_is_said(function: str, inputs: dict[str, Array], keywords: dict[str, Any]) -> None:
    """An answer that vanishes in its dtype is not converged and has no estimate."""
    found = answer(function, inputs, **keywords)

    assert not found.outputs[0].any()
    assert found.certificates[0].outcome == "approximate"
    assert found.certificates[0].error_estimate is None


def test_subnormal_rounding_is_estimated() -> None:
    """A half-precision answer that is subnormal carries its rounding in the estimate."""
    found = answer("inv_root", {"a": (60000 * EYE).astype(HALF)}, r=1)

    _honest(found, EYE / 60000, tol=1e-2)


@pytest.mark.parametrize(
    ("function", "scale", "keywords", "image"),
    [
        ("root", 1e-60, {"r": 2}, 1e-30),
        ("root", 1e60, {"r": 2}, 1e30),
        ("inv_root", 1e-60, {"r": 2}, 1e30),
        ("msign", 1e-60, {}, 1.0),
        ("tri_inv", 1e60, {}, 1e-60),
        ("tri_inv", 1e-60, {}, 1e60),
    ],
)
def test_single_precision_keeps_the_range_of_double(
    function: str, scale: float, keywords: dict[str, Any], image: float
) -> None:
    """precision="fp32" on float64 input rounds digits, not exponents."""
    name = {"msign": "m", "tri_inv": "t"}.get(function, "a")

    found = answer(function, {name: scale * EYE}, precision="fp32", **keywords)

    assert relative_error(found.outputs[0], image * EYE) < 1e-6
    assert found.certificates[0].outcome == "converged"


def test_low_rank_range_is_kept_too() -> None:
    """The same for diagonal plus low-rank, generators included."""
    inputs = {"diag": np.full(3, 1e60), "q": np.full((3, 1), 1e40), "k": np.full((3, 1), 1e20)}

    found = answer("dplr_inv", inputs, precision="fp32")

    exact = np.linalg.inv(np.eye(3) + np.tril(np.ones((3, 3)), -1)) / 1e60
    assert relative_error(found.outputs[0], exact) < 1e-6


@pytest.mark.parametrize("hi", [3e-12, 1e-11, 1e-8])
def test_small_upper_bound_reaches_small_singular_values(hi: float) -> None:
    """A bound below what a Gram matrix resolves is left to the svd."""
    m = ((_basis(3, 5) * [1, 1, 0.0]) @ _basis(3, 104)).astype(SINGLE)
    u, s, vh = np.linalg.svd(m.astype(np.float64))

    _honest(answer("mclip", {"m": m}, hi=hi), (u * np.minimum(s, hi)) @ vh)


@pytest.mark.parametrize(
    ("scale", "hi"), [(1e-16, 1.0), (1e-30, 1.0), (1.0, 1e12), (1.0, 1e20), (1e-290, 1.0), (1.0, 1e-3)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_bounds_do_not_cancel(scale: float, hi: float, dtype: str) -> None:
    """Every clipping method is honest when the bound is far from the data."""
    m = (np.random.default_rng(0).standard_normal((3, 3)) * scale).astype(dtype)
    u, s, vh = np.linalg.svd(m.astype(np.float64))

    for program, call in candidates("mclip", {"m": m}, hi=hi):
        _honest(run(program, call), (u * np.minimum(s, hi)) @ vh)


def test_bf16_clipping_far_below_the_bound_is_honest() -> None:
    """The iteration asked for by name is honest as well."""
    m = (np.random.default_rng(0).standard_normal((3, 3)) * 1e-16).astype(SINGLE)
    found = answer("mclip", {"m": m}, precision="bf16")

    assert_honest(found, m.astype(np.float64))


@pytest.mark.parametrize(
    ("m", "keywords", "estimated"),
    [
        (np.outer(np.arange(1.0, 9), np.cos(np.arange(8))).astype(SINGLE), {"steps": 40}, 0),
        (np.outer(np.arange(1.0, 9), np.cos(np.arange(8))), {"steps": 60}, 0),
        (np.eye(2), {"coefficients": [(-(2**0.5), 0.0, 0.0)]}, 0),
        (((_basis(30, 0) * np.logspace(0, -5.5, 30)) @ _basis(30, 1)).astype(SINGLE), {"steps": 30}, 1),
        (np.random.default_rng(2).standard_normal((12, 8)), {"steps": 4}, 1),
    ],
)
def test_obeyed_iterations_are_judged(m: Array, keywords: dict[str, Any], estimated: int) -> None:
    """Explicit steps and coefficients are run as they are, and their answer is judged by rank, sign and condition."""
    u, s, vh = np.linalg.svd(m.astype(np.float64), full_matrices=False)
    kept = s > 8 * np.finfo(m.dtype).eps * s[0]

    found = answer("msign", {"m": m}, **keywords)

    assert_honest(found, (u * kept) @ vh, estimated=estimated)
    assert found.certificates[0].outcome == "approximate"


def test_float64_triangles_are_certified_as_sent() -> None:
    """With precision="fp32" the rounding of T itself is part of the error."""
    t = np.tril(np.full((60, 60), -(1 + 3e-8)), -1) + np.eye(60)
    exact = np.eye(60)
    for i in range(60):
        exact[i, :i] = -t[i, :i] @ exact[:i, :i]

    _honest(answer("tri_inv", {"t": t}, precision="fp32"), exact)


def test_cancelling_generators_are_noticed() -> None:
    """Where q k^T cancels, the rounding of the products is in the estimate."""
    rng = np.random.default_rng(0)
    q, x = rng.standard_normal((20, 3)), rng.standard_normal((20, 3))
    k = np.concatenate([x * (1 + 1e-12 * rng.standard_normal((20, 3))) * 1e6, -x * 1e6], axis=1)
    both = np.concatenate([q, q], axis=1)
    exact_products = (both.astype(np.longdouble) @ k.T.astype(np.longdouble)).astype(np.float64)
    exact = np.linalg.inv(np.eye(20) + np.tril(exact_products, -1))

    found = answer("dplr_inv", {"diag": np.ones(20), "q": both, "k": k})

    assert_honest(found, exact)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("r", [8, 64])
def test_high_roots_of_singular_matrices_are_honest(r: int, seed: int) -> None:
    """Zero eigenvalues known to rounding only have roots far from zero: the estimate says so, or there is none."""
    b = np.random.default_rng(seed).integers(-8, 9, (3, 1)).astype(float)
    a = b @ b.T
    size = float(b[:, 0] @ b[:, 0])
    exact = a / size * size ** (1 / r)

    found = answer("root", {"a": a}, r=r)

    assert_honest(found, exact, estimated=1 if r == 8 else range(2))
    assert found.certificates[0].outcome == "approximate"


def test_range_at_the_threshold_is_not_certified() -> None:
    """An eigenvalue that eigh cannot place above or below the threshold leaves the pseudo-inverse uncertain."""
    q = _basis(8, 0)
    a = (q * np.r_[np.linspace(0.5, 1, 7), 8.5 * EPS["float64"]]) @ q.T

    found = answer("inv_root", {"a": (a + a.T) / 2}, r=2, damping="range")

    assert found.certificates[0].outcome == "approximate"
    assert found.certificates[0].error_estimate is None


def test_huge_matrices_clip_honestly() -> None:
    """A default bound 180 orders below the data is reached with the digits that are there."""
    u, v = _basis(6, 1), _basis(6, 2)
    m = ((u * np.logspace(0, -12, 6)) @ v) * 2.0**600
    found = answer("mclip", {"m": m})
    left, _, right = np.linalg.svd(m)

    error = relative_error(found.outputs[0], left @ right)
    assert_covered(error / 2, found.certificates)


@pytest.mark.parametrize("condition", [1.5, 3.0, 10.0, 30.0])
@pytest.mark.parametrize(("r", "s"), [(3, 2), (4, 3), (5, 4), (7, 5), (9, 8), (16, 9)])
@pytest.mark.parametrize(("seed", "clustered"), [(0, False), (1, True), (2, False), (3, True)])
def test_inverse_powers_of_good_matrices_are_honest(
    r: int, s: int, condition: float, seed: int, *, clustered: bool
) -> None:
    """The iteration's rounding at small condition numbers, where its steps amplify it most, is in the estimate."""
    q = _basis(16, seed)
    w = np.r_[np.ones(15), 1 / condition] if clustered else np.geomspace(1, 1 / condition, 16)
    a: Array = ((q * w) @ q.T).astype(SINGLE)
    a = (a + a.T) / 2
    values, v = np.linalg.eigh(a.astype(np.float64))

    for program, call in candidates("inv_root", {"a": a}, r=r, s=s):
        _honest(run(program, call), (v * values ** (-s / r)) @ v.T)


@pytest.mark.parametrize(("r", "s"), [(4, 3), (5, 4), (7, 6), (16, 3), (64, 1), (64, 63)])
@pytest.mark.parametrize("condition", [10.0, 30.0, 1e3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_near_an_integer_are_honest(r: int, s: int, condition: float, dtype: str) -> None:
    """The iteration's estimate covers the rounding of many products."""
    for seed in range(4):
        q = _basis(16, seed)
        a = ((q * np.geomspace(1, 1 / condition, 16)) @ q.T).astype(dtype)
        a = (a + a.T) / 2
        w, v = np.linalg.eigh(a.astype(np.float64))

        for program, call in candidates("root", {"a": a}, r=r, s=s):
            _honest(run(program, call), (v * w ** (s / r)) @ v.T)


@pytest.mark.parametrize(("r", "s", "order"), [(4, 3, 16), (4, 3, 40), (5, 4, 40), (8, 7, 40)])
@pytest.mark.parametrize("seed", [1, 35, 67, 136, 143, 150, 177])
def test_powers_of_two_far_clusters_are_honest(seed: int, r: int, s: int, order: int) -> None:
    """Half of the eigenvalues 3e5 times as small as the others: the iteration's rounding is in the estimate."""
    q, w = _basis(order, seed), np.repeat([1, 1 / 3e5], order // 2)
    a = ((q * w) @ q.T).astype(SINGLE)
    a = (a + a.T) / 2
    values, v = np.linalg.eigh(a.astype(np.float64))

    for program, call in candidates("root", {"a": a}, r=r, s=s):
        _honest(run(program, call), (v * values ** (s / r)) @ v.T)


@pytest.mark.parametrize("scale", [1e-200, 1e-150, 1e150, 1e200])
@pytest.mark.parametrize("function", ["tri_inv", "tri_solve", "dplr_inv"])
def test_triangles_are_scale_invariant(function: str, scale: float) -> None:
    """Far from 1 the same certificate comes as near it."""
    ones = np.tril(np.ones((3, 3)))
    small = {"diag": np.ones(3), "q": np.full((3, 1), 0.5), "k": np.ones((3, 1))}
    if function == "dplr_inv":
        inputs = {**small, "diag": scale * small["diag"], "q": scale * small["q"]}
        exact = np.linalg.inv(np.eye(3) + 0.5 * np.tril(ones, -1))
    else:
        inputs = {"t": scale * ones}
        exact = np.linalg.inv(ones)
        if function == "tri_solve":
            inputs["b"] = np.eye(3)

    found = answer(function, inputs)

    assert relative_error(found.outputs[0] * scale, exact) < 1e-14
    assert found.certificates[0].outcome == "converged"
    assert found.certificates[0].condition == pytest.approx(np.linalg.cond(np.linalg.inv(exact)), rel=0.5)


@pytest.mark.parametrize(("r", "s"), [(7, 6), (5, 4), (3, 2)])
def test_extreme_scale_costs_no_digit(r: int, s: int) -> None:
    """The power of two of a root is split exactly."""
    found = answer("root", {"a": np.array([[1.0 * 2.0**1018]])}, r=r, s=s)
    whole, rest = divmod(1018 * s, r)

    assert found.outputs[0][0, 0] == pytest.approx(2.0**whole * 2.0 ** (rest / r), rel=1e-15)


def test_large_powers_of_spread_spectra_stay_in_range() -> None:
    """What the dtype can hold is answered: powers are taken in units of the eigenvalue that leads."""
    a = np.diag([1.0, 1e-6]) * 1e6

    found = answer("inv_root", {"a": a}, r=1, s=64)

    assert np.isfinite(found.outputs[0]).all()
    assert found.outputs[0][1, 1] == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("damping", [1.0, 0.1])
def test_bf16_obeys_damping(damping: float) -> None:
    """The iteration in bf16 answers for A + shift I like any other method."""
    a = np.diag([1.0, 0.5]).astype(SINGLE)

    found = answer("inv_root", {"a": a}, r=2, precision="bf16", damping=damping, on_failure="nan")

    assert found.certificates[0].shift == pytest.approx(damping)
    assert relative_error(found.outputs[0], np.diag((np.array([1.0, 0.5]) + damping) ** -0.5)) < 0.03


@pytest.mark.parametrize(("a", "code"), [(-EYE, "not_positive"), (np.zeros((2, 2)), "singular")])
def test_bf16_knows_its_domain(a: Array, code: str) -> None:
    """The rules of damping and positivity hold in every arithmetic."""
    with pytest.raises(Rejection) as caught:
        answer("inv_root", {"a": a.astype(SINGLE)}, r=2, precision="bf16")

    assert caught.value.code == code


def test_damping_is_relative_to_the_largest_eigenvalue() -> None:
    """Nothing is added to the zero matrix, and a negative one stays outside the domain."""
    found = answer("root", {"a": np.zeros((3, 3))}, r=2, damping=0.1)

    assert not found.outputs[0].any()
    assert found.certificates[0].shift == 0.0
    with pytest.raises(Rejection, match="negative"):
        answer("root", {"a": np.diag([0.0, -0.6])}, r=2, damping=1.0)


@pytest.mark.parametrize("function", ["inv_root", "sqrt_pair", "root"])
def test_indefinite_matrices_are_refused_by_default(function: str) -> None:
    """Default damping mends rounding; it does not make an indefinite matrix definite."""
    keywords: dict[str, Any] = {} if function == "sqrt_pair" else {"r": 2}

    with pytest.raises(Rejection) as caught:
        answer(function, {"a": np.diag([1, 0.7, -0.5]).astype(SINGLE)}, **keywords)

    assert caught.value.code == "not_positive"


def test_single_precision_eigenvalues_are_judged_in_single_precision() -> None:
    """A semidefinite float64 matrix computed on in fp32 is not called indefinite."""
    b = np.random.default_rng(0).standard_normal((20, 5))

    found = answer("root", {"a": b @ b.T}, r=2, precision="fp32")

    assert found.certificates[0].rank == 5


def test_denormal_matrices_clip() -> None:
    """The smallest numbers there are pass a clipping unchanged."""
    m = 1e-310 * np.random.default_rng(0).standard_normal((3, 3))

    assert relative_error(answer("mclip", {"m": m}).outputs[0] * 1e300, m * 1e300) < 1e-12


def test_clipping_everything_is_well_conditioned() -> None:
    """Where all singular values are above the bound the answer is hi times the polar factor, and as accurate."""
    u, v = _basis(6, 1), np.eye(6)

    found = answer("mclip", {"m": (u @ v) * 1e20})

    assert found.certificates[0].outcome == "converged"
    assert relative_error(found.outputs[0], u @ v) < 1e-14


def test_complex_rows_come_out_resolved() -> None:
    """No lazily conjugated tensor leaves the kernels."""
    m = (np.arange(1, 5) + 1j)[None, :]

    assert relative_error(answer("msign", {"m": m}).outputs[0], m / np.linalg.norm(m)) < 1e-15


@pytest.mark.parametrize(
    ("a", "r", "s"),
    [(np.zeros((1, 1)), 1, 1), (np.zeros((2, 2)), 2, 4), (np.array([[0.0, 1], [0, 0]]), 1, 2)],
)
def test_whole_powers_that_vanish_have_a_value(a: Array, r: int, s: int) -> None:
    """A nilpotent matrix has whole powers, and its batch-mate keeps its own."""
    both = np.stack([np.eye(len(a)), a])

    found = answer("root", {"a": both}, r=r, s=s, structure="general")

    np.testing.assert_allclose(found.outputs[0], np.stack([np.eye(len(a)), np.zeros_like(a)]), atol=1e-15)
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize(
    ("shape_q", "shape_k", "variant", "expected"),
    [((1, 1, 4), (1, 0, 5), "mla", 0.25), ((1, 3, 4), (1, 3, 0), "mha", 0.5), ((1, 3, 4), (1, 3, 0), "gqa", 0.5)],
)
def test_weights_beside_empty_ones_are_clipped(
    shape_q: tuple[int, ...], shape_k: tuple[int, ...], variant: str, expected: float
) -> None:
    """An empty weight on one side leaves the other's factors as they are."""
    inputs = {"w_q": np.ones(shape_q), "w_k": np.ones(shape_k), "max_logit": np.array([400.0])}

    found = answer("qk_clip", inputs, variant=variant)

    np.testing.assert_allclose(found.outputs[0], expected)
    assert found.outputs[2] == pytest.approx(0.25)


@pytest.mark.parametrize(("scale", "least"), [(1e-160, 1e-5), (1e-200, None)])
def test_vanishing_logits_are_said(scale: float, least: float | None) -> None:
    """Logits below what the dtype holds carry that error, and those that vanish have no estimate."""
    rng = np.random.default_rng(0)
    inputs = {"q": rng.standard_normal((1, 3, 8)), "k": rng.standard_normal((1, 3, 8))}

    found = answer("max_logit", {name: x * scale for name, x in inputs.items()}, scale=0.1)

    estimate = found.certificates[0].error_estimate
    assert found.certificates[0].outcome == "approximate"
    assert estimate is None if least is None else estimate is not None and estimate > least


def test_subnormal_weights_are_said() -> None:
    """Weights that clipping rounds to subnormals carry that error."""
    inputs = {"w_q": np.full((1, 2, 2), 3e-45, SINGLE), "w_k": np.ones((1, 2, 2), SINGLE)}

    found = answer("qk_clip", {**inputs, "max_logit": np.array([250.0], SINGLE)}, precision="fp32")

    assert estimate_of(found) > 0.1


def test_subnormal_eigenvalues_are_said() -> None:
    """Clipped eigenvalues among the subnormals carry their rounding."""
    found = answer("eig_clip", {"a": np.array([[2.0, 1], [1, -1]]) * 1e-322}, lo=0.0)

    assert estimate_of(found) > 1e-3


def test_vanishing_keys_are_not_certified() -> None:
    """Where keys are too small for cancellation to be seen there is no estimate."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((1, 6)), rng.standard_normal((1, 6))
    k -= (k @ q.T) / (q @ q.T) * q

    found = answer("delta_rule", {"q": q, "k": k * 1e-170, "v": rng.standard_normal((1, 3))})

    assert found.certificates[0].outcome == "approximate"
    assert found.certificates[0].error_estimate is None


def test_absurd_damping_is_refused() -> None:
    """A shift 100 orders above the matrix is a parameter out of its domain."""
    with pytest.raises(Rejection, match="damping"):
        answer("inv_root", {"a": np.array([[2.0, 1], [0, 3]])}, r=1, structure="general", damping=1e200)


@pytest.mark.parametrize("scale", [1e-308, 1e-315, 1e-320])
@pytest.mark.parametrize("r", [2, 4])
def test_a_subnormal_shift_is_stated_exactly(scale: float, r: int) -> None:
    """Near the bottom of the range, where the shift has few bits left, the answer is for the shift that is stated."""
    a = np.diag([1.0, 0.5, 0.05]) * scale

    found = answer("inv_root", {"a": a[None]}, r=r, damping=1e-3)

    with mpmath.workdps(40):
        exact = [1 / mpmath.root(mpmath.mpf(x) + mpmath.mpf(found.certificates[0].shift), r) for x in a.diagonal()]
    unit = float(max(exact))
    scaled = Answer((found.outputs[0] / unit,), found.certificates)
    _honest(scaled, np.diag([float(x) / unit for x in exact]))


def test_both_powers_of_a_pair_keep_the_same_range() -> None:
    """With damping="range" what is noise for the inverse is noise for the root: X Y is a projector, X Y X = X."""
    a = np.diag([1.0, 0.1, 1e-8, 0.0]).astype(SINGLE)

    x, y = answer("sqrt_pair", {"a": a[None]}, damping="range").outputs

    np.testing.assert_allclose(x[0] @ y[0], np.diag([1.0, 1, 0, 0]), atol=1e-6)
    np.testing.assert_allclose(x[0] @ y[0] @ x[0], x[0], atol=1e-6)


@pytest.mark.parametrize("entry", [1e35, 1e60])
def test_hopeless_triangles_say_so(entry: float) -> None:
    """A condition number beyond float64's range is large, not 0."""
    t = np.eye(3) + np.triu(np.full((3, 3), entry), 1)

    certificate = answer("tri_inv", {"t": t[None]}, lower=False).certificates[0]

    assert certificate.condition is not None
    assert certificate.condition > 1e16
