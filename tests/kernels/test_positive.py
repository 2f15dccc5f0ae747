"""Functions of symmetric matrices beside roots: the Fréchet distance, clipped eigenvalues and the geometric mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import mpmath as mp
import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from evaluating import EPS, answer
from honesty import assert_covered, assert_honest, estimate_of, reference_errors
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.reference import relative_error
from spectra import positive

Array: TypeAlias = NDArray[Any]
DEMO = Path(__file__).parents[2] / "demo" / "matrices.npz"
FID = 25.135952666797134
"""The distance of the centred fid_cov_a and fid_cov_b by mpmath's eigsy with 50 digits."""


def _gaussians(**parts: Array) -> dict[str, Array]:
    order = parts["s1"].shape[-1]
    return {"mu1": np.zeros(order), "mu2": np.zeros(order), **parts}


def _precise_power(s: Any, power: float) -> Any:
    """V w^power V^T, negative eigenvalues counted as 0."""
    w, v = mp.eigsy(s)
    return v * mp.diag([max(x, mp.mpf(0)) ** power for x in w]) * v.T


def _precise_distance(inputs: dict[str, Array]) -> tuple[float, float]:
    """The distance with 50 digits, and the scale that its error is measured against."""
    with mp.workdps(50):
        s1, s2 = (mp.matrix(inputs[name].astype(float).tolist()) for name in ("s1", "s2"))
        root, other = (_precise_power(s, power) for s, power in ((s1, 0.5), (s2, 1)))
        inner = root * other * root
        nuclear = mp.fsum(mp.sqrt(max(x, 0)) for x in mp.eigsy((inner + inner.T) / 2, eigvals_only=True))
        means = mp.fsum(
            (mp.mpf(float(x)) - mp.mpf(float(y))) ** 2 for x, y in zip(inputs["mu1"], inputs["mu2"], strict=True)
        )
        traces = means + mp.fsum(s1[i, i] + s2[i, i] for i in range(s1.rows))
        return float(traces - 2 * nuclear), float(traces)


def test_distance_of_real_covariances() -> None:
    """Rank 95 of 192: real, and right to 1e-12 where formulas through sqrtm reach 1e-7."""
    with np.load(DEMO, allow_pickle=False) as data:
        inputs = _gaussians(s1=data["fid_cov_a"], s2=data["fid_cov_b"])

    found = answer("frechet_distance", inputs)

    assert found.outputs[0].shape == ()
    assert abs(float(found.outputs[0]) - FID) < 1e-12 * FID
    assert estimate_of(found) < 1e-11
    assert found.certificates[0].outcome == "converged"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ranks", [(6, 6), (6, 3), (2, 4), (1, 0)])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_distance_meets_its_estimate(ranks: tuple[int, int], scale: float, dtype: str) -> None:
    """Full and deficient ranks whose null spaces differ, at any scale, against 50 digits."""
    rng = np.random.default_rng(sum(ranks))
    factors = [rng.standard_normal((6, rank)) for rank in ranks]
    covariances = [(f @ f.T * scale).astype(dtype) for f in factors]
    means = (rng.standard_normal((2, 6)) * scale**0.5).astype(dtype)
    inputs = {"mu1": means[0], "s1": covariances[0], "mu2": means[1], "s2": covariances[1]}

    found = answer("frechet_distance", inputs)

    truth, size = _precise_distance(inputs)
    assert_covered(abs(float(found.outputs[0]) - truth) / size, found.certificates)
    assert estimate_of(found) < max(EPS[dtype], 1e-6)


def test_distance_to_itself_is_zero_and_never_negative() -> None:
    """Equal Gaussians have the distance 0 to rounding; so do two points."""
    s = positive(20, condition=1e8)[0]

    assert 0 <= float(answer("frechet_distance", _gaussians(s1=s, s2=s)).outputs[0]) < 1e-13
    assert float(answer("frechet_distance", _gaussians(s1=0 * s, s2=0 * s)).outputs[0]) == 0


def test_distance_refuses_indefinite_covariances() -> None:
    """A covariance with a negative eigenvalue, or an asymmetric one, is refused by name."""
    with pytest.raises(Rejection) as caught:
        answer("frechet_distance", _gaussians(s1=np.eye(3), s2=np.diag([1, 1, -1e-3])))
    assert caught.value.code == "not_positive"
    with pytest.raises(Rejection, match="of s2"):
        answer("frechet_distance", _gaussians(s1=np.eye(2), s2=np.array([[1, 2], [0, 1.0]])))


def _symmetric(order: int, dtype: str, scale: float = 1.0) -> Array:
    rng = np.random.default_rng(order)
    a = rng.standard_normal((3, order, order))
    if dtype.startswith("complex"):
        a = a + 1j * rng.standard_normal(a.shape)
    symmetric: Array = ((a + a.conj().swapaxes(1, 2)) * scale).astype(dtype)
    return symmetric


BOUNDS = [(0.0, None), (None, None), (-1.0, 1.0), (2.0, 2.0), (None, -100.0), (-1e-5, 1e-5), (0.5, None)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_clipped_eigenvalues_meet_their_estimate(
    scale: float, bounds: tuple[float | None, float | None], dtype: str
) -> None:
    """Either bound, both, none, and bounds far below the norm, at any scale."""
    a = _symmetric(20, dtype, scale)
    lo, hi = (None if x is None else x * scale for x in bounds)

    found = answer("eig_clip", {"a": a}, lo=lo, hi=hi)

    wide = "complex128" if dtype.startswith("c") else "float64"
    w, v = np.linalg.eigh(a.astype(wide))
    clipped = np.clip(w, -np.inf if lo is None else lo, np.inf if hi is None else hi)
    truth = (v * clipped[:, None, :]) @ v.conj().swapaxes(1, 2)
    errors = relative_error(found.outputs[0].astype(wide) / scale, truth / scale)
    assert_covered(errors, found.certificates, slack=reference_errors(found.certificates))
    assert {certificate.outcome for certificate in found.certificates} == {"converged"}


@pytest.mark.parametrize("order", [20, 128])
@pytest.mark.parametrize("name", ["hilbert", "rank one"])
def test_clipping_of_few_large_eigenvalues_converges(name: str, order: int) -> None:
    """Many eigenvalues that are 0 to rounding do not add up to an uncertain answer."""
    v = np.random.default_rng(order).standard_normal((order, 1))
    a = scipy.linalg.hilbert(order) if name == "hilbert" else v @ v.T

    found = answer("eig_clip", {"a": a}, lo=0)

    assert found.certificates[0].outcome == "converged"
    assert_honest(found, a)


def test_vanishing_part_is_not_certified() -> None:
    """Where rounding may have taken all that is positive there is no estimate."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    a = (basis * [-1, -1, -1, -1e-18]) @ basis.T

    found = answer("eig_clip", {"a": (a + a.T) / 2}, lo=0)

    assert found.certificates[0].outcome == "approximate"


def test_matrix_with_nothing_to_clip_keeps_its_bits() -> None:
    """Eigenvalues inside the bounds leave a symmetric matrix as it is; an equal pair of bounds gives its multiple."""
    a = _symmetric(12, "float64")

    np.testing.assert_array_equal(answer("eig_clip", {"a": a}, lo=-1e3).outputs[0], a)
    np.testing.assert_allclose(
        answer("eig_clip", {"a": a}, lo=2, hi=2).outputs[0], 2 * np.stack([np.eye(12)] * 3), atol=1e-14
    )


def test_nearest_semidefinite_matrix_of_a_negative_one_is_zero() -> None:
    """Nothing positive is left, exactly; and of a zero matrix nothing is."""
    a = -positive(8, condition=10.0)

    for matrix in (a, 0 * a):
        found = answer("eig_clip", {"a": matrix}, lo=0)
        assert not found.outputs[0].any()
        assert found.certificates[0].outcome == "converged"


def test_bounds_in_the_wrong_order_are_refused() -> None:
    """A lower bound above the upper one is a mistake."""
    with pytest.raises(Rejection) as caught:
        answer("eig_clip", {"a": np.eye(2)}, lo=1, hi=0)
    assert caught.value.code == "invalid_parameter"


def _gallery(order: int) -> dict[str, Array]:
    """Positive definite matrices of the textbooks."""
    i = np.arange(1, order + 1, dtype=np.float64)
    smaller, larger = np.minimum.outer(i, i), np.maximum.outer(i, i)
    pascal = np.eye(order)
    for row in range(order):
        for column in range(order):
            pascal[row, column] = mp.binomial(row + column, row)
    lehmer, steps = smaller / larger, 10.0 ** -np.arange(order)
    return {
        "hilbert": 1 / (np.add.outer(i, i) - 1),
        "pascal": pascal,
        "moler": smaller - 2 + 2 * np.eye(order),
        "lehmer": lehmer,
        "graded": steps[:, None] * lehmer * steps,
        "random": positive(order, condition=1e9)[0],
    }


def _precise_mean(a: Array, b: Array) -> Array:
    """A # B with 80 digits."""
    with mp.workdps(80):
        x, y = (mp.matrix(m.astype(np.float64).tolist()) for m in (a, b))
        factor = mp.cholesky(x)
        inverse = factor**-1
        inner = inverse * y * inverse.T
        w, v = mp.eigsy((inner + inner.T) / 2)
        left = factor * v
        mean = left * mp.diag([mp.sqrt(value) for value in w]) * left.T
        return np.array([[float(mean[i, j]) for j in range(mean.cols)] for i in range(mean.rows)])


NAMES = sorted(_gallery(2))


@pytest.mark.parametrize("order", [2, 6])
@pytest.mark.parametrize("second", NAMES)
@pytest.mark.parametrize("first", NAMES)
def test_geometric_mean_of_textbook_matrices(first: str, second: str, order: int) -> None:
    """The error grows with the worse condition number, not with the product of both."""
    a, b = _gallery(order)[first], _gallery(order)[second]

    found = answer("geometric_mean", {"a": a, "b": b})

    certificate = found.certificates[0]
    error = relative_error(found.outputs[0], _precise_mean(a, b))
    assert_covered(error, found.certificates)
    assert error <= 2 * EPS["float64"] * (certificate.condition or 0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_geometric_mean_is_symmetric_and_solves_its_equation(scale: float, dtype: str) -> None:
    """A # B = B # A, X A^-1 X = B, and scaling A scales X by its square root."""
    is_complex = dtype.startswith("complex")
    a = (positive(16, condition=1e3, items=2, is_complex=is_complex) * scale).astype(dtype)
    b = positive(16, condition=1e2, items=2, seed=1, is_complex=is_complex).astype(dtype)

    found = answer("geometric_mean", {"a": a, "b": b})

    x = found.outputs[0].astype("complex128") / scale**0.5
    assert relative_error(x @ np.linalg.solve(a.astype("complex128") / scale, x), b).max() < 2e3 * EPS[dtype]
    swapped = answer("geometric_mean", {"a": b, "b": a}).outputs[0]
    assert relative_error(swapped / scale**0.5, x).max() < 50 * EPS[dtype]
    assert {c.outcome for c in found.certificates} == {"converged"}


PAIRS = ["free", "common eigenvectors", "graded"]


def _pair(kind: str, order: int, seed: int) -> tuple[Array, Array]:
    """Two positive definite float32 matrices of condition numbers 10 to 1e4."""
    condition = 10.0 ** (1 + seed % 4)
    if kind == "graded":
        steps, inner = np.geomspace(1, condition**-0.5, order), np.eye(order) + 0.3
        a, b = steps[:, None] * inner * steps, steps[::-1, None] * inner * steps[::-1]
    else:
        a = positive(order, condition=condition, seed=seed)[0]
        b = positive(order, condition=1e3, seed=seed + (kind == "free"))[0]
    return a.astype("float32"), b.astype("float32")


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("order", [1, 2, 4, 8, 16, 32, 64])
def test_estimated_error_of_a_mean_is_covered_and_sharp(kind: str, order: int) -> None:
    """In single precision every error is within its estimate, mostly a few dozen times and not thousands of times."""
    ratios = []
    for seed in range(8):
        a, b = _pair(kind, order, seed)
        exact = answer("geometric_mean", {"a": a.astype(float), "b": b.astype(float)}).outputs[0]

        found = answer("geometric_mean", {"a": a, "b": b}, precision="fp32")

        ratios.append(relative_error(found.outputs[0], exact) / estimate_of(found))
    assert max(ratios) <= 1
    assert order == 1 or np.median(ratios) > 1e-3


@pytest.mark.parametrize("a", [np.ones((3, 3)), np.outer([1, 2, 3], [1, 2, 3]), np.array([[2, 1j], [-1j, 0.5]])])
def test_singular_mean_is_refused_whatever_rounding_makes_of_it(a: Array) -> None:
    """Matrices that are singular in exact arithmetic are not positive definite."""
    with pytest.raises(Rejection) as caught:
        answer("geometric_mean", {"a": np.eye(len(a), dtype=a.dtype) + 0.0, "b": a * 1.0})
    assert caught.value.code == "not_positive"


@pytest.mark.parametrize("b", [-np.eye(2), np.diag([1.0, 0.0]), np.diag([1.0, -1e-9]), np.zeros((2, 2))])
def test_geometric_mean_refuses_what_is_not_positive(b: Array) -> None:
    """Indefinite, singular and zero matrices have no geometric mean here."""
    with pytest.raises(Rejection) as caught:
        answer("geometric_mean", {"a": np.eye(2), "b": b})
    assert caught.value.code == "not_positive"


@pytest.mark.parametrize("digits", [0, 2, 5, 10, 14])
@pytest.mark.parametrize("opposed", [False, True])
def test_graded_means_are_honest(digits: int, *, opposed: bool) -> None:
    """Matrices D C D whose diagonals fall by many digits, both the same way or against each other."""
    order, inner = 6, np.eye(6) + 0.3
    steps = 10.0 ** (-digits * np.arange(order) / order)
    other = steps[::-1] if opposed else steps
    a, b = steps[:, None] * inner * steps, other[:, None] * (inner + np.diag(np.arange(order))) * other
    a, b = (a + a.T) / 2, (b + b.T) / 2

    found = answer("geometric_mean", {"a": a, "b": b})

    assert np.isfinite(found.outputs[0]).all()
    assert_honest(found, _precise_mean(a, b), estimated=0 if opposed and digits > 5 else 1)
    assert digits > 5 or found.certificates[0].outcome == "converged"


def test_nearly_singular_mean_says_so() -> None:
    """A matrix whose smallest eigenvalue is lost in rounding has a finite answer that is not called converged."""
    hilbert = _gallery(14)["hilbert"]

    found = answer("geometric_mean", {"a": hilbert, "b": np.eye(14)})

    certificate = found.certificates[0]
    assert np.isfinite(found.outputs[0]).all()
    assert certificate.outcome == "approximate"
    assert certificate.error_estimate is None
    assert 1e14 < (certificate.condition or 0) < np.inf


def test_half_precision_is_computed_wide() -> None:
    """float16 in, float16 out, one rounding between."""
    a = np.diag([1.0, 2.0, 3.0]).astype("float16")

    for function, inputs in (("eig_clip", {"a": a}), ("geometric_mean", {"a": a, "b": a})):
        found = answer(function, inputs)
        np.testing.assert_array_equal(found.outputs[0], a)
        assert found.outputs[0].dtype == "float16"


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_empty_matrices_have_answers(shape: tuple[int, int]) -> None:
    """No matrices, and matrices without rows: empty answers, and distances of 0."""
    a = np.zeros((*shape, shape[-1]))

    assert answer("eig_clip", {"a": a}).outputs[0].shape == a.shape
    assert answer("geometric_mean", {"a": a, "b": a}).outputs[0].shape == a.shape
    means = np.zeros(shape)
    np.testing.assert_array_equal(
        answer("frechet_distance", {"mu1": means, "s1": a, "mu2": means, "s2": a}).outputs[0], np.zeros(shape[0])
    )
