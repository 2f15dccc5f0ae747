"""eigh and eigenbasis: errors within the estimates, signs and order as stated, clusters, and a basis that is kept."""

from __future__ import annotations

from itertools import permutations

import mpmath
import numpy as np
import pytest

from evaluating import EPS, Array, answer
from honesty import assert_covered
from matfn_kernels import Rejection
from matfn_kernels.reference import eigenpair_errors
from spectra import orthogonal

DTYPES = ["float32", "float64", "complex64", "complex128"]
SPECTRA = {
    "simple": [-2.0, -0.5, 0.25, 1.0, 3.0, 3.5],
    "clustered": [1.0, 1.0, 1.0, 2.0, 2.0, 5.0],
    "within rounding": [1.0, 1.0 + 1e-15, 1.0 + 1e-7, 1.0 + 1e-6, -1.0, -1.0 + 1e-12],
    "graded": [1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3],
    "of low rank": [0.0, 0.0, 0.0, 0.0, 1.0, 1e-3],
    "zero": [0.0] * 6,
}


def hermitian(values: list[float], dtype: str, seed: int = 0) -> tuple[Array, Array]:
    """A matrix (1, n, n) with these eigenvalues to rounding, and its vectors."""
    rng = np.random.default_rng(seed)
    q = orthogonal(rng, len(values), len(values), is_complex=dtype.startswith("complex"))
    a = (q * values) @ q.conj().T
    return ((a + a.conj().T) / 2).astype(dtype)[None], q


def exact_values(a: Array) -> Array:
    """The eigenvalues of the Hermitian part, ascending, by 50 digits."""
    with mpmath.workdps(50):
        m = mpmath.matrix(a.tolist())
        w = mpmath.mp.eighe((m + m.H) / 2, eigvals_only=True)
        return np.sort(np.array([mpmath.nstr(mpmath.re(x), 30) for x in w], dtype=np.longdouble))


def errors(a: Array, w: Array, v: Array) -> Array:
    """Errors of eigenpairs of a (1, n, n), in extended precision."""
    m, values, vectors = (x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble) for x in (a, w, v))
    found: Array = eigenpair_errors(m, values, vectors, exact_values(a[0])[None])
    return found.astype(float)


def state(a: Array, q: Array) -> Array:
    """q^H A q in double precision."""
    wide = q.astype(np.complex128)
    return np.asarray(wide.conj().swapaxes(-1, -2) @ a.astype(np.complex128) @ wide)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_eigenpairs_are_within_the_estimate(spectrum: str, dtype: str) -> None:
    """Values, residual and orthogonality; clusters and zeros are no reason for a remark."""
    a, _ = hermitian(SPECTRA[spectrum], dtype)

    found = answer("eigh", {"a": a})

    assert found.certificates[0].outcome == "converged"
    assert_covered(errors(a, *found.outputs), found.certificates)
    assert np.array_equal(found.outputs[0], np.sort(found.outputs[0], -1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["previous", "ascending", "descending"])
@pytest.mark.parametrize("spectrum", [name for name in SPECTRA if name != "zero"])
def test_matched_eigenpairs_are_within_the_estimate(spectrum: str, order: str, dtype: str) -> None:
    """From a basis that has nothing to do with the matrix."""
    a, _ = hermitian(SPECTRA[spectrum], dtype)
    q = hermitian(SPECTRA[spectrum], dtype, seed=1)[1].astype(dtype)[None]

    found = answer("eigenbasis", {"a": a, "q": q}, order=order)
    new, w, drift, permutation = found.outputs

    assert found.certificates[0].outcome == "converged"
    assert drift[0] > 0
    assert_covered(errors(a, w, new), found.certificates)
    if order != "previous":
        assert np.array_equal(w, np.sort(w) if order == "ascending" else np.sort(w)[:, ::-1])
    assert sorted(permutation[0].tolist()) == list(range(6))


@pytest.mark.parametrize("dtype", DTYPES)
def test_largest_entry_of_each_vector_is_positive(dtype: str) -> None:
    """Also of complex vectors, where it is real to rounding."""
    a, _ = hermitian(SPECTRA["simple"], dtype)

    (v,) = answer("eigh", {"a": a}).outputs[1]

    largest = np.take_along_axis(v, np.abs(v).argmax(0)[None], 0)
    assert (largest.real > 0).all()
    assert (np.abs(largest.imag) <= 2 * EPS[dtype]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_change_of_the_matrix_keeps_order_and_signs(dtype: str) -> None:
    """The basis of a matrix that has hardly changed is that of before, to the change; so are its signs and places."""
    a, v = hermitian(SPECTRA["simple"], dtype)
    rng = np.random.default_rng(2)
    places = rng.permutation(6)
    phases = np.exp(2j * np.pi * rng.random(6)) if dtype.startswith("complex") else rng.choice([-1.0, 1.0], 6)
    q = ((v * phases)[:, places]).astype(dtype)[None]
    change = 1e-3 * hermitian(SPECTRA["simple"], dtype, seed=3)[0]

    new, w, drift, permutation = answer("eigenbasis", {"a": a + change, "q": q}).outputs

    assert np.linalg.norm(new - q) < 0.05
    assert np.allclose(w[0], np.array(SPECTRA["simple"])[places], atol=1e-2)
    assert 0 < drift[0] < 1e-3
    assert np.array_equal(permutation[0], np.arange(6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["previous", "ascending", "descending"])
def test_products_with_the_own_columns_are_positive(order: str, dtype: str) -> None:
    """For simple eigenvalues q_j^H v is real and not negative, and the assignment is the best of all."""
    a, _ = hermitian(SPECTRA["simple"], dtype)
    q = hermitian(SPECTRA["simple"], dtype, seed=1)[1].astype(dtype)[None]

    new, _, _, permutation = answer("eigenbasis", {"a": a, "q": q}, order=order).outputs

    own = q[0][:, permutation[0].astype(int)]
    products = (own.conj() * new[0]).sum(0)
    assert (products.real >= 0).all()
    assert (np.abs(products.imag) <= 8 * EPS[dtype]).all()
    squares = np.abs(new[0].conj().T @ q[0]) ** 2
    best = max(sum(squares[i, j] for i, j in enumerate(p)) for p in permutations(range(6)))
    assert (np.abs(products) ** 2).sum() >= best - 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cluster_keeps_its_columns(dtype: str) -> None:
    """Of a space with equal eigenvalues the columns of before are kept, however they lie in it; others are not free."""
    a, v = hermitian(SPECTRA["clustered"], dtype)
    rng = np.random.default_rng(4)
    turned = v.copy()
    turned[:, :3] = v[:, :3] @ orthogonal(rng, 3, 3, is_complex=dtype.startswith("complex"))
    q = turned[:, [0, 4, 1, 5, 3, 2]].astype(dtype)[None]

    found = answer("eigenbasis", {"a": a, "q": q})
    new, w, _, _ = found.outputs

    assert (found.certificates[0].outcome, found.certificates[0].fallback) == ("converged", None)
    assert np.linalg.norm(new - q) <= 100 * EPS[dtype]
    assert np.allclose(w[0], [1, 2, 1, 5, 2, 1], atol=50 * EPS[dtype])


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
@pytest.mark.parametrize("order", ["previous", "descending"])
def test_a_basis_within_the_drift_comes_back(order: str, dtype: str) -> None:
    """Bit for bit and in its own order, with the Rayleigh quotients as values; without the tolerance it is computed."""
    a, v = hermitian(SPECTRA["simple"], dtype)
    noise = np.random.default_rng(5).standard_normal((6, 6)) * 0.01
    q = np.linalg.qr(v @ (np.eye(6) + noise - noise.T))[0].astype(dtype)[None]
    exact = state(a, q)[0]
    drift = np.linalg.norm(exact - np.diag(np.diag(exact))) / np.linalg.norm(a.astype(np.complex128))

    found = answer("eigenbasis", {"a": a, "q": q}, order=order, tol_drift=1.01 * drift)
    kept, w, stated, permutation = found.outputs
    other = answer("eigenbasis", {"a": a, "q": q}, order=order, tol_drift=0.99 * drift).outputs[0]

    assert np.array_equal(kept, q)
    assert not np.array_equal(other, q)
    eps = float(np.finfo(dtype).eps)
    assert np.linalg.norm(w[0] - np.diag(exact).real) <= 2 * eps * np.linalg.norm(w)
    assert abs(stated[0] - drift) <= 2 * eps
    assert np.array_equal(permutation[0], np.arange(6))
    assert found.certificates[0].outcome == "converged"
    assert found.certificates[0].residual is not None
    assert found.certificates[0].residual.value >= drift / 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_zero_matrix_has_no_drift(dtype: str) -> None:
    """Any basis is its own, and comes back."""
    _, v = hermitian(SPECTRA["simple"], dtype)
    q = v.astype(dtype)[None]

    new, w, drift, _ = answer("eigenbasis", {"a": np.zeros_like(q), "q": q}).outputs

    assert np.array_equal(new, q)
    assert not w.any()
    assert not drift.any()


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_real_outputs_are_real(dtype: str) -> None:
    """Values and drift have the real dtype of the matrix, and permutations one that holds every index."""
    a, v = hermitian(SPECTRA["simple"], dtype)
    real = np.empty(0, dtype).real.dtype

    w, vectors = answer("eigh", {"a": a}).outputs
    basis = answer("eigenbasis", {"a": a, "q": v.astype(dtype)[None]}).outputs

    assert (w.dtype, vectors.dtype) == (real, np.dtype(dtype))
    assert [x.dtype for x in basis] == [np.dtype(dtype), real, real, np.promote_types(real, np.float32)]


@pytest.mark.parametrize("scale", [2.0**900, 2.0**-900])
def test_no_size_costs_a_digit(scale: float) -> None:
    """Vectors are the same to the bit for a matrix times a power of two, and values scale with it."""
    a, _ = hermitian(SPECTRA["simple"], "float64")
    q = hermitian(SPECTRA["simple"], "float64", seed=1)[1][None]

    w, v = answer("eigh", {"a": a}).outputs
    scaled_w, scaled_v = answer("eigh", {"a": a * scale}).outputs
    basis, scaled = (answer("eigenbasis", {"a": x, "q": q}).outputs for x in (a, a * scale))

    assert np.array_equal(scaled_v, v)
    assert np.array_equal(scaled_w, w * scale)
    assert np.array_equal(scaled[0], basis[0])
    assert np.array_equal(scaled[1], basis[1] * scale)
    assert np.array_equal(scaled[2], basis[2])


@pytest.mark.parametrize("function", ["eigh", "eigenbasis"])
def test_more_digits_are_computed_where_they_are_asked_for(function: str) -> None:
    """A float32 matrix whose tolerance float32's arithmetic misses is computed in float64."""
    a, _ = hermitian(list(np.linspace(-1, 1, 40)), "float32")
    inputs = {"a": a} if function == "eigh" else {"a": a, "q": np.eye(40, dtype="float32")[None]}

    (certificate,) = answer(function, inputs, tol=1.5e-7).certificates

    assert (certificate.outcome, certificate.precision, certificate.fallback) == ("converged", "fp64", "eigh")


def test_a_skewed_basis_is_refused_alone() -> None:
    """Columns that are not orthonormal are an error of that matrix, which says what to send."""
    a = np.stack([np.diag([1.0, 2.0]), np.ones((2, 2))])
    q = np.stack([np.array([[1.0, 1e-3], [0.0, 1.0]]), np.eye(2)])

    with pytest.raises(Rejection, match="matrix 0") as refused:
        answer("eigenbasis", {"a": a, "q": q})
    found = answer("eigenbasis", {"a": a, "q": q}, on_failure="nan")

    assert refused.value.code == "invalid_parameter"
    assert "not orthonormal" in str(refused.value.hint)
    assert [certificate.code for certificate in found.certificates] == ["invalid_parameter", None]
    assert all(np.isnan(x[0]).all() for x in found.outputs)
    assert all(np.isfinite(x[1]).all() for x in found.outputs)


@pytest.mark.parametrize("function", ["eigh", "eigenbasis"])
def test_asymmetry_beyond_rounding_is_remarked_on(function: str) -> None:
    """The answer is that of the Hermitian part."""
    a = np.diag([1.0, 2.0, 3.0]) + 1e-9 * np.triu(np.ones((3, 3)), 1)

    (certificate,) = answer(function, {"a": a} if function == "eigh" else {"a": a, "q": np.eye(3)}).certificates

    assert certificate.outcome == "approximate"
    assert "(A + A^H) / 2" in str(certificate.hint)


@pytest.mark.parametrize("function", ["eigh", "eigenbasis"])
@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0)], ids=str)
def test_nothing_has_nothing(function: str, shape: tuple[int, ...]) -> None:
    """Of no matrices, and of matrices of order 0."""
    empty = np.zeros(shape)

    found = answer(function, {"a": empty} if function == "eigh" else {"a": empty, "q": empty})

    assert [x.shape for x in found.outputs if x.ndim == 3] == [shape]
    assert [x.shape for x in found.outputs if x.ndim == 2] == [shape[:2]] * (1 if function == "eigh" else 2)


@pytest.mark.parametrize("function", ["eigh", "eigenbasis"])
def test_bf16_is_refused(function: str) -> None:
    """There is no eigendecomposition in bf16, and the message says what to ask for."""
    one = np.eye(2, dtype="float32")
    with pytest.raises(Rejection, match="no bf16 arithmetic"):
        answer(function, {"a": one} if function == "eigh" else {"a": one, "q": one}, precision="bf16")
