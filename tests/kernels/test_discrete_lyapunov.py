"""Discrete and generalised Lyapunov equations against 50-digit truth, and where they are singular."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from evaluating import EPS, Array, answer
from honesty import assert_covered
from matfn_kernels.methods.equations.shared_eigenvalue import has_opposite_eigenvalues, has_reciprocal_eigenvalues
from spectra import orthogonal

RNG = np.random.default_rng(31)
N = 4
I = np.eye(N)


def _gauss(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def _complex(*shape: int) -> Array:
    return _gauss(*shape) + 1j * _gauss(*shape)


def _stable(a: Array, radius: float) -> Array:
    """A with that spectral radius."""
    scaled: Array = a * (radius / np.abs(np.linalg.eigvals(a)).max())
    return scaled


def _with(*values: float) -> Array:
    """A matrix with these eigenvalues and a condition near 10."""
    basis = np.eye(len(values)) + _gauss(len(values), len(values)) / 4
    found: Array = basis @ np.diag(values) @ np.linalg.inv(basis)
    return found


SINGULAR_LAST = orthogonal(RNG, N, N) @ np.diag([1.0, 1, 1, 1e-7]) @ orthogonal(RNG, N, N)
COEFFICIENTS: dict[str, tuple[Array, Array | None]] = {
    "stable": (_stable(_gauss(N, N), 0.9), None),
    "nearly unstable": (_stable(_gauss(N, N), 1 - 1e-8), None),
    "at the edge": (_stable(_gauss(N, N), 1 - 1e-14), None),
    "unstable": (10 * _gauss(N, N), None),
    "nearly inverse": (_with(0.5, 2 + 1e-7, -3, 0.1), None),
    "1 and -1, nearly": (_with(1 + 1e-6, -1 + 1e-7, 0.3, 5), None),
    "jordan": (0.9 * I + 3 * np.eye(N, k=1), None),
    "nilpotent": (np.eye(N, k=1), None),
    "rows of other sizes": (10.0 ** np.array([[-6], [0], [3], [6]]) * _gauss(N, N), None),
    "states in other units": (np.diag(d := 10.0 ** np.arange(N)) @ _gauss(N, N) @ np.diag(1 / d), None),
    "symmetric": ((S := _gauss(N, N)) + S.T, None),
    "zero": (np.zeros((N, N)), None),
    "one": (np.array([[0.25]]), None),
    "rotation": (0.99 * orthogonal(RNG, N, N), None),
    "complex": (_stable(_complex(N, N), 0.8), None),
    "hermitian": ((H := _complex(N, N)) + H.conj().T, None),
    "unit circle, nearly": (np.diag(np.exp(1j * np.arange(N)) * (1 - 1e-5)) @ orthogonal(RNG, N, N), None),
    "descriptor": (_gauss(N, N), _gauss(N, N)),
    "complex descriptor": (_complex(N, N), _complex(N, N)),
    "nearly singular descriptor": (_gauss(N, N), SINGULAR_LAST),
    "large descriptor": (1e3 * _gauss(N, N), 1e9 * _gauss(N, N)),
}


def _truth(function: str, a: Array, q: Array, e: Array) -> Array:
    """The solution of the Kronecker system in 50 digits, rounded to double precision."""
    n, sign = len(q), -1 if "discrete" in function else 1
    left, right = ((a, e), (a, e)) if sign < 0 else ((a, e), (e, a))
    with mpmath.workdps(50):
        system = mpmath.matrix(n * n, n * n)
        for factor, p, s in zip((1, sign), left, right, strict=True):
            for i, k, j, m in np.ndindex(n, n, n, n):
                term = mpmath.mpmathify(complex(p[i, k])) * mpmath.mpmathify(complex(s[j, m].conjugate()))
                system[i * n + j, k * n + m] += factor * term
        solution = mpmath.lu_solve(system, mpmath.matrix((sign * q).astype(complex).flatten().tolist()))
        return np.array([complex(value) for value in solution]).reshape(n, n)


def _inputs(name: str, dtype: str) -> dict[str, Array]:
    a, e = COEFFICIENTS[name]
    q = np.random.default_rng(len(name)).standard_normal(a.shape)
    q = q + q.T if len(name) % 2 else q
    full = {"a": a, "q": q} if e is None else {"a": a, "q": q, "e": e}
    is_complex = any(np.iscomplexobj(x) for x in full.values())
    kept = {"float64": "complex128", "float32": "complex64"}[dtype] if is_complex else dtype
    return {key: x.astype(kept) for key, x in full.items()}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("function", ["solve_discrete_lyapunov", "solve_lyapunov"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_solution_is_within_its_estimate(name: str, dtype: str, function: str) -> None:
    """The error is within its estimate and 50 eps kappa; without an estimate the condition says why."""
    inputs = _inputs(name, dtype)
    if function == "solve_lyapunov":
        inputs["a"] = inputs["a"] + 3 * (inputs["e"] if "e" in inputs else np.eye(len(inputs["a"]), dtype=np.float32))
    double = {key: x.astype(complex) for key, x in inputs.items()}
    e = double.get("e", np.eye(len(inputs["a"])))
    truth = _truth(function, double["a"], double["q"], e)

    found = answer(function, {key: x[None] for key, x in inputs.items()})

    (certificate,) = found.certificates
    error = np.linalg.norm(found.outputs[0][0].astype(complex) - truth) / float(np.linalg.norm(truth))
    assert found.outputs[0].dtype == inputs["a"].dtype
    assert certificate.condition is not None
    hopeless = certificate.condition * EPS["float64"] > 1e-2
    assert_covered(error, found.certificates, estimated=range(2) if hopeless else 1, slack=EPS["float64"])
    if certificate.error_estimate is None:
        assert certificate.outcome == "approximate"
    else:
        assert error <= 50 * EPS[dtype] * certificate.condition


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_both_methods_agree_within_their_estimates(name: str) -> None:
    """Doubling answers where all eigenvalues are small; what it leaves to the other method is said."""
    inputs = _inputs(name, "float64")
    if "e" in inputs:
        return

    doubled, other = (
        answer("solve_discrete_lyapunov", inputs, method=method, on_failure="nan")
        for method in ("doubling", "bilinear")
    )

    (first,), (second,) = doubled.certificates, other.certificates
    assert (first.method == "doubling") == (first.fallback is None)
    if np.linalg.norm(inputs["a"], 2) < 0.95:
        assert first.method == "doubling"
    if first.error_estimate is not None and second.error_estimate is not None:
        apart = np.linalg.norm(doubled.outputs[0] - other.outputs[0]) / np.linalg.norm(other.outputs[0])
        assert apart <= first.error_estimate + 2 * second.error_estimate


SINGULAR: dict[str, tuple[str, dict[str, Array]]] = {
    "one": ("solve_discrete_lyapunov", {"a": np.eye(2)}),
    "inverse": ("solve_discrete_lyapunov", {"a": np.array([[2.0, 1], [0, 0.5]])}),
    "rotation": ("solve_discrete_lyapunov", {"a": np.array([[0.0, 1], [-1, 0]])}),
    "1 and -1": ("solve_discrete_lyapunov", {"a": np.diag([1.0, -1])}),
    "complex, on the circle": ("solve_discrete_lyapunov", {"a": np.diag([0.5, 1j])}),
    "complex, inverse": ("solve_discrete_lyapunov", {"a": np.diag([2j, 0.5j])}),
    "no right side": ("solve_discrete_lyapunov", {"a": np.eye(2), "q": np.zeros((2, 2))}),
    "pencil": ("solve_discrete_lyapunov", {"a": np.array([[1.0, 2], [3, 4]]), "e": np.array([[1.0, 2], [3, 5]])}),
    "no inverse of e": ("solve_discrete_lyapunov", {"a": np.eye(2) / 2, "e": np.ones((2, 2))}),
    "large": ("solve_discrete_lyapunov", {"a": np.diag(2.0 ** np.arange(-150, 151))}),
    "lyapunov, complex": ("solve_lyapunov", {"a": np.diag([1.0, 1j])}),
    "lyapunov, pencil": ("solve_lyapunov", {"a": np.diag([2.0, -3]), "e": np.diag([4.0, 6])}),
    "lyapunov, no inverse of e": ("solve_lyapunov", {"a": np.eye(2), "e": np.ones((2, 2))}),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_equations_fail_alone(name: str) -> None:
    """Products that are 1, sums that are 0 and descriptors without an inverse are found, for their own item only."""
    function, inputs = SINGULAR[name]
    order = len(inputs["a"])
    regular = {"a": 2 * np.eye(order), "e": np.eye(order), "q": np.eye(order)}
    batch = {key: np.stack([regular[key], inputs.get(key, regular[key])]) for key in {"q", *inputs}}

    found = answer(function, batch, on_failure="nan")

    assert [c.code for c in found.certificates] == [None, "singular"]
    assert found.certificates[1].hint is not None
    assert np.isnan(found.outputs[0][1]).all()


def test_nearly_singular_is_not_singular() -> None:
    """One unit in the last place makes a product other than 1; what rounds to a common eigenvalue is told apart."""
    nearly = np.diag([np.nextafter(2, 3), 0.5])
    apart = np.diag([1.0, -np.nextafter(1, 2)])

    assert has_reciprocal_eigenvalues(np.diag([2.0, 0.5]))
    assert not has_reciprocal_eigenvalues(nearly)
    assert not has_reciprocal_eigenvalues(np.zeros((3, 3)))
    assert has_opposite_eigenvalues(np.diag([1.0, 2]), np.diag([1.0, -2]))
    assert not has_opposite_eigenvalues(apart, np.eye(2))
    assert answer("solve_discrete_lyapunov", {"a": nearly, "q": np.eye(2)}).certificates[0].error_estimate is None


@pytest.mark.parametrize("order", [40, 120])
def test_large_equations_leave_no_residual(order: int) -> None:
    """Gaussian matrices have eigenvalues inside and outside the unit circle."""
    a, q = 0.2 * _gauss(2, order, order), _gauss(2, order, order)

    found = answer("solve_discrete_lyapunov", {"a": a, "q": q})

    x = found.outputs[0]
    missing = a @ x @ np.swapaxes(a, 1, 2) - x + q
    assert np.linalg.norm(missing) < 1e-12 * np.linalg.norm(x) * np.linalg.norm(a[0]) ** 2
    assert [c.outcome for c in found.certificates] == ["converged", "converged"]


@pytest.mark.parametrize(("of_a", "of_q"), [(1e-300, 1e300), (1e160, 1e200), (1.0, 1e-300)])
def test_scale_does_not_matter(of_a: float, of_q: float) -> None:
    """Coefficients whose squares overflow or vanish have an answer that is right to the last digits."""
    a, q = np.array([[of_a]]), np.array([[of_q / 3]])

    found = answer("solve_discrete_lyapunov", {"a": a / 2, "q": q})

    with mpmath.workdps(50):
        truth = float(mpmath.mpf(q[0, 0]) / (1 - mpmath.mpf(a[0, 0] / 2) ** 2))
    np.testing.assert_allclose(found.outputs[0].item(), truth, rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_pencils_may_be_of_any_size(scale: float) -> None:
    """A and E times a number have the solution over its square, whether or not that is representable."""
    a, e, q = _gauss(3, 3), _gauss(3, 3), _gauss(3, 3)

    plain = answer("solve_discrete_lyapunov", {"a": a, "e": e, "q": q}).outputs[0]
    scaled = answer("solve_discrete_lyapunov", {"a": a * scale, "e": e * scale, "q": q * scale}).outputs[0]

    np.testing.assert_allclose(scaled * scale, plain, rtol=1e-9)


@pytest.mark.parametrize("function", ["solve_discrete_lyapunov", "solve_lyapunov"])
@pytest.mark.parametrize("with_e", [False, True])
def test_hermitian_right_side_gives_a_hermitian_solution(function: str, with_e: bool) -> None:
    """Both equations keep symmetry, to the last bit."""
    q = _complex(5, 5)
    inputs = {"a": _complex(5, 5), "q": q + q.conj().T} | ({"e": _complex(5, 5)} if with_e else {})

    x = answer(function, inputs).outputs[0]

    np.testing.assert_array_equal(x, x.conj().T)


@pytest.mark.parametrize("function", ["solve_discrete_lyapunov", "solve_lyapunov"])
def test_identity_as_descriptor_changes_nothing_but_rounding(function: str) -> None:
    """E = I is the equation without E."""
    inputs: dict[str, Any] = {"a": _stable(_gauss(6, 6), 0.7) - 0.1 * np.eye(6), "q": _gauss(6, 6)}

    plain, general = answer(function, inputs), answer(function, {**inputs, "e": np.eye(6)})

    np.testing.assert_allclose(plain.outputs[0], general.outputs[0], rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(
    ("function", "names"), [("solve_lyapunov", "aq"), ("solve_lyapunov", "aqe"), ("solve_sylvester", "abq")]
)
def test_gradients_are_those_of_the_kronecker_system(function: str, names: str, dtype: torch.dtype) -> None:
    """Gradients of real and complex equations, with a descriptor too, are those of torch through a linear system."""
    draws = torch.from_numpy(_complex(len(names) + 1, N, N))
    draws = draws if dtype.is_complex else draws.real.clone()
    given = {name: draw.clone().requires_grad_() for name, draw in zip(names, draws, strict=False)}
    one = torch.eye(N, dtype=dtype)
    a, e = given["a"], given.get("e", one)
    right, second = (e.conj(), (e, a.conj())) if "b" not in names else (one, (one, given["b"].mT))
    system = sum(torch.kron(*(x.resolve_conj().contiguous() for x in pair)) for pair in ((a, right), second))
    truth = torch.linalg.solve(system, given["q"].flatten()).reshape(N, N)
    torch.autograd.backward([truth], [draws[-1]])

    found = answer(f"vjp/{function}", {"x": draws[-1].numpy(), **{k: x.detach().numpy() for k, x in given.items()}})

    (certificate,) = found.certificates
    assert certificate.outcome == "converged"
    assert certificate.error_estimate is not None
    for x, gradient in zip(given.values(), found.outputs[1:], strict=True):
        assert x.grad is not None
        error = np.linalg.norm(gradient - x.grad.numpy()) / np.linalg.norm(x.grad.numpy())
        assert error < 1e-10
