"""Claimed eigenpairs: right ones of any library are accepted, and no wrong one is, whatever is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import mpmath
import numpy as np
import pytest

from evaluating import EPS, Array, answer, parsed
from honesty import assert_covered
from matfn_kernels import Rejection, batch_of, evaluate, load_profile, make_plan
from matfn_kernels.programs.profile import Profile
from spectra import orthogonal
from verified_cases import verified

if TYPE_CHECKING:
    from collections.abc import Callable

DTYPES: Final = ["float32", "float64", "complex64", "complex128"]
SPECTRA: Final = {
    "simple": [-2.0, -0.5, 0.25, 1.0, 3.0, 3.5],
    "clustered": [1.0, 1.0, 1.0, 2.0, 2.0, 5.0],
    "within rounding": [-1.0, -1.0 + 1e-12, 1.0, 1.0 + 1e-15, 1.0 + 1e-7, 1.0 + 1e-6],
    "graded": [1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3],
    "of low rank": [0.0, 0.0, 0.0, 0.0, 1e-3, 1.0],
    "single": [-3.0],
}


def hermitian(values: list[float], dtype: str, seed: int = 0) -> Array:
    """A matrix (n, n) with these eigenvalues to rounding."""
    rng = np.random.default_rng(seed)
    q = orthogonal(rng, len(values), len(values), is_complex=dtype.startswith("complex"))
    a = (q * values) @ q.conj().T
    return np.asarray((a + a.conj().T) / 2).astype(dtype)


def by_numpy(a: Array) -> tuple[Array, Array]:
    """Eigenpairs by numpy, which computes those of float32 matrices in float64."""
    w, v = np.linalg.eigh(a.astype(np.complex128 if np.iscomplexobj(a) else np.float64))
    return w.astype(a.real.dtype), v.astype(a.dtype)


def true_error(a: Array, w: Array, v: Array) -> float:
    """The largest of the three errors of claims in the order in which they come, in extended precision."""
    wide, w, v = (x.astype(np.clongdouble) for x in (a, w, v))
    with mpmath.workdps(50):
        exact = mpmath.mp.eighe(mpmath.matrix(wide.tolist()), eigvals_only=True)
        exact = np.array([mpmath.nstr(mpmath.re(x), 30) for x in exact], dtype=np.longdouble)
    exact.sort()
    left, skew = wide @ v - v * w, v.conj().T @ v - np.eye(len(a))
    parts = [
        abs(w - exact).max() / abs(exact).max(),
        np.sqrt((abs(left) ** 2).sum() / (abs(wide) ** 2).sum()),
        np.sqrt((abs(skew) ** 2).sum() / len(a)),
    ]
    return float(max(parts))


def _moved(v: Array, size: float) -> Array:
    noise = np.random.default_rng(3).standard_normal(v.shape)
    return np.asarray(v + size * noise).astype(v.dtype)


def _with(x: Array, place: Any, value: Any) -> Array:
    found = x.copy()
    found[place] = value
    return found


CLAIMS: Final[dict[str, Callable[[Array, Array], tuple[Array, Array]]]] = {
    "right": lambda w, v: (w, v),
    "other signs": lambda w, v: (w, v * np.where(np.arange(len(w)) % 2, -1, 1).astype(w.dtype)),
    "an ulp off": lambda w, v: (np.nextafter(w, np.inf).astype(w.dtype), v),
    "descending": lambda w, v: (w[::-1].copy(), v[:, ::-1].copy()),
    "swapped values": lambda w, v: (w[::-1].copy(), v),
    "swapped vectors": lambda w, v: (w, v[:, ::-1].copy()),
    "one value off": lambda w, v: (_with(w, -1, w[-1] * 1.01), v),
    "one value a little off": lambda w, v: (_with(w, -1, w[-1] * (1 + 60 * np.finfo(w.dtype).eps)), v),
    "a repeated pair": lambda w, v: (_with(w, 0, w[-1]), _with(v, (slice(None), 0), v[:, -1])),
    "all of one vector": lambda w, v: (np.full_like(w, w[-1]), np.repeat(v[:, -1:], len(w), 1)),
    "longer vectors": lambda w, v: (w, v * 1.001),
    "noise of 1e-2": lambda w, v: (w, _moved(v, 1e-2)),
    "noise of 1e-5": lambda w, v: (w, _moved(v, 1e-5)),
    "no vectors": lambda w, v: (w, np.zeros_like(v)),
    "no values": lambda w, v: (np.zeros_like(w), v),
    "the identity": lambda w, v: (w, np.eye(len(w), dtype=v.dtype)),
    "the transpose": lambda w, v: (w, v.T.copy()),
    "absolute values": lambda w, v: (np.sort(abs(w)), v),
    "an imaginary part": lambda w, v: (w + 1e-3j * abs(w).max(), v),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("kind", CLAIMS)
def test_no_claim_is_nearer_than_its_estimate(kind: str, spectrum: str, dtype: str) -> None:
    """And a converged one is within the tolerance, 50 eps, of the three errors."""
    a = hermitian(SPECTRA[spectrum], dtype)
    claims = CLAIMS[kind](*by_numpy(a))
    wide = np.result_type(a, *claims)
    a, claims = a.astype(wide), (claims[0], claims[1].astype(wide))

    certificate = verified("eigh", claims, {"a": a})
    error = true_error(a, *claims)

    assert_covered(error, [certificate], estimated=range(2))
    assert (certificate.outcome == "converged") <= (error <= 50 * EPS[str(wide)])
    assert certificate.outcome in {"converged", "approximate"}
    if kind in {"right", "other signs", "an ulp off"}:
        assert certificate.outcome == "converged"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [5, 129])
def test_its_own_answers_are_accepted(order: int, dtype: str) -> None:
    """With an estimate near that of the answer."""
    a = hermitian(list(np.linspace(-1, 1, order)), dtype)
    found = answer("eigh", {"a": a})

    w, v = found.outputs
    certificate = verified("eigh", (w.reshape(order), v.reshape(order, order)), {"a": a})

    assert certificate.outcome == "converged"
    assert certificate.condition == 1
    estimates = [one.error_estimate for one in (certificate, *found.certificates)]
    assert estimates[0] is not None
    assert estimates[1] is not None
    assert estimates[0] <= 2 * estimates[1]


@pytest.mark.parametrize("order", [130, 300])
def test_one_wrong_pair_of_many_is_found(order: int) -> None:
    """An error of rank 1, which random columns would miss now and then, is measured in full."""
    w, v = by_numpy(a := hermitian(list(np.linspace(-1, 1, order)), "float64"))
    size = 1e-4 * np.linalg.norm(w)

    for place in range(0, order, order // 10):
        certificate = verified("eigh", (_with(w, place, w[place] + size), v), {"a": a})
        assert certificate.outcome == "approximate"
        assert certificate.error_estimate is None or certificate.error_estimate >= 1e-4


def test_zero_has_the_value_zero() -> None:
    """Of the zero matrix any orthonormal vectors are right, and no other value is."""
    zero, one = np.zeros((3, 3)), np.eye(3)

    found = [verified("eigh", (w, one), {"a": zero}) for w in (np.zeros(3), np.array([0, 0, 1e-300]))]
    skewed = verified("eigh", (np.zeros(3), 2 * one), {"a": zero})

    assert [one.outcome for one in (*found, skewed)] == ["converged", "approximate", "approximate"]
    assert found[1].error_estimate is None


@pytest.mark.parametrize("scale", [2.0**1000, 2.0**-1000])
def test_no_size_matters(scale: float) -> None:
    """The certificate is that of the matrix near 1; values out of all range are rejected."""
    w, v = by_numpy(a := hermitian(SPECTRA["simple"], "float64"))

    usual, scaled = (verified("eigh", (w * size, v), {"a": a * size}) for size in (1.0, scale))
    beyond = [verified("eigh", (w / scale, v), {"a": a * scale}), verified("eigh", (w, v / scale), {"a": a})]

    assert scaled == usual
    assert [one.outcome for one in beyond] == ["approximate", "approximate"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("precision", ["auto", "fp32", "fp64"])
def test_the_tolerance_is_that_of_eigh(dtype: str, precision: str) -> None:
    """By dtype and named precision."""
    w, v = by_numpy(a := hermitian(SPECTRA["simple"], dtype))
    off = 100 * EPS["float32"] if dtype == "float32" or precision != "auto" else 0.1

    right = verified("eigh", (w, v), {"a": a}, precision=precision, tol=1e-2 if dtype == "float16" else None)
    wrong = verified("eigh", (w * (1 + off), v.astype("float64")), {"a": a}, precision=precision)

    assert right.outcome == "converged" or precision == "fp64"
    assert wrong.outcome == "approximate"


def test_a_missed_tolerance_is_no_error() -> None:
    """A verdict is what was asked for."""
    w, v = by_numpy(a := hermitian(SPECTRA["simple"], "float64"))

    certificate = verified("eigh", (w * 1.01, v), {"a": a}, tol=1e-10)

    assert (certificate.outcome, certificate.code) == ("approximate", "not_converged")
    assert certificate.fallback is None


def test_asymmetry_is_remarked_on() -> None:
    """Claims are compared with the Hermitian part."""
    a = np.diag([1.0, 2.0, 3.0]) + 1e-9 * np.triu(np.ones((3, 3)), 1)

    certificate = verified("eigh", by_numpy((a + a.T) / 2), {"a": a})

    assert (certificate.outcome, certificate.code) == ("approximate", None)
    assert "(A + A^H) / 2" in str(certificate.hint)


def test_claim_is_proved() -> None:
    """A proof that was asked for bounds the error of a claim that is right."""
    w, v = by_numpy(a := hermitian(SPECTRA["simple"], "float64"))

    certificate = verified("eigh", (w, v), {"a": a}, certify="proved")

    assert certificate.outcome == "converged"
    assert certificate.error_bound is not None


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ((np.ones(2), np.eye(3)), "invalid_shape"),
        ((np.ones(3), np.ones((3, 2))), "invalid_shape"),
        ((np.ones((3, 1)), np.eye(3)), "invalid_shape"),
        ((np.full(3, np.nan), np.eye(3)), "not_finite"),
        ((np.ones(3), np.full((3, 3), np.inf)), "not_finite"),
        ((np.ones(3, np.int64), np.eye(3)), "unsupported_dtype"),
    ],
)
def test_unfit_claims_are_refused(claims: tuple[Array, Array], code: str) -> None:
    """Claims of another shape or dtype, or that are not finite, are refused like inputs."""
    with pytest.raises(Rejection) as refused:
        verified("eigh", claims, {"a": np.eye(3)})

    assert refused.value.code == code


@pytest.mark.parametrize("dtype", DTYPES)
def test_claims_do_not_change_with_the_batch(dtype: str) -> None:
    """Right and wrong ones have the same certificates alone and beside others."""
    a = np.stack([hermitian(list(np.linspace(-1, 1, 17)), dtype, seed) for seed in range(5)])
    pairs = [by_numpy(one) for one in a]
    w, v = np.stack([w for w, _ in pairs]), np.stack([v for _, v in pairs])
    w[3] *= np.float32(1.1)

    call = parsed("verify/eigh", {"x": w, "y": v, "a": a}, {})
    plan = make_plan(call, load_profile())
    together = evaluate(plan.program, batch_of(call), plan.backends)
    alone = tuple(verified("eigh", (w[i], v[i]), {"a": a[i]}) for i in range(5))

    assert together.outputs == ()
    assert together.certificates == alone
    assert [one.outcome == "converged" for one in alone] == [True, True, True, False, True]


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0)], ids=str)
def test_nothing_is_right(shape: tuple[int, ...]) -> None:
    """Claims without entries are the answer."""
    call = parsed("verify/eigh", {"x": np.zeros(shape[:2]), "y": np.zeros(shape), "a": np.zeros(shape)}, {})

    found = evaluate(make_plan(call, load_profile()).program, batch_of(call)).certificates

    assert [one.outcome for one in found] == ["converged"] * shape[0]


def test_measuring_is_cheaper_than_computing() -> None:
    """The price is that of a few products."""
    a, w = np.eye(512), np.ones(512)
    profile = Profile.nominal()

    claim = make_plan(parsed("verify/eigh", {"x": w, "y": a, "a": a}, {}), profile)

    assert claim.seconds < make_plan(parsed("eigh", {"a": a}, {}), profile).seconds
