"""`matfn.jax`: gradients against finite differences, one request under vmap, and problems that wait for `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import matfn
import matfn.jax as mj
from matfn.catalogue import FUNCTIONS
from matfn.handles import Handled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Numbers of 64 bits, as finite differences need."""
    with jax.enable_x64(True):  # noqa: FBT003 - JAX's signature
        yield


def gaussian(*shape: int, seed: int = 0) -> Any:
    """Gaussian numbers of a seed."""
    return np.random.default_rng(seed).standard_normal(shape)


def spd(a: Any) -> Any:
    """Positive definite, smooth in `a`."""
    return a @ a.swapaxes(-1, -2) / a.shape[-1] + jnp.eye(a.shape[-1])


def lower(a: Any) -> Any:
    """Lower triangular with a diagonal away from 0."""
    return jnp.tril(a, -1) / a.shape[-1] + jnp.vectorize(jnp.diag, signature="(n)->(n,n)")(
        jnp.tanh(jnp.diagonal(a, axis1=-2, axis2=-1)) + 2
    )


CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "root": (lambda a: mj.root(spd(a), 3, 2), (gaussian(2, 4, 4),)),
    "inv_root": (lambda a, g: mj.inv_root(spd(a), 4, g=g), (gaussian(2, 4, 4), gaussian(3, 4))),
    "sqrt_pair": (lambda a: mj.sqrt_pair(spd(a)), (gaussian(4, 4),)),
    "log": (lambda a: mj.log(spd(a)), (gaussian(2, 4, 4),)),
    "exp": (lambda a: mj.exp(a + a.T), (gaussian(4, 4),)),
    "power": (lambda a, g: mj.power(spd(a), 0.7, g=g), (gaussian(2, 4, 4), gaussian(3, 4))),
    "msign": (mj.msign, (gaussian(5, 3),)),
    "mclip": (lambda m: mj.mclip(m, hi=1.0), (gaussian(5, 3),)),
    "eig_clip": (lambda a: mj.eig_clip(a + a.T, lo=-0.5, hi=0.5), (gaussian(4, 4),)),
    "tri_inv": (lambda a: mj.tri_inv(lower(a)), (gaussian(4, 4),)),
    "tri_solve": (lambda a, b: mj.tri_solve(lower(a), b), (gaussian(4, 4), gaussian(4, 2))),
    "dplr_solve": (
        lambda d, q, k, b: mj.dplr_solve(jnp.tanh(d) + 2, q, k, b),
        (gaussian(5), gaussian(5, 2, seed=1), gaussian(5, 2, seed=2), gaussian(5, 3, seed=3)),
    ),
    "geometric_mean": (lambda a, b: mj.geometric_mean(spd(a), spd(b)), (gaussian(4, 4), gaussian(4, 4, seed=1))),
    "frechet_distance": (
        lambda m, a, n, b: mj.frechet_distance(m, spd(a), n, spd(b)),
        (gaussian(4), gaussian(4, 4, seed=1), gaussian(4, seed=2), gaussian(4, 4, seed=3)),
    ),
    "solve_sylvester": (
        lambda a, b, q: mj.solve_sylvester(spd(a), spd(b), q),
        (gaussian(4, 4), gaussian(3, 3, seed=1), gaussian(4, 3, seed=2)),
    ),
    "solve_lyapunov": (lambda a, q: mj.solve_lyapunov(-spd(a), q + q.T), (gaussian(4, 4), gaussian(4, 4, seed=1))),
    "solve_discrete_lyapunov": (
        lambda a, q: mj.solve_discrete_lyapunov(a / 4, q),
        (gaussian(4, 4), gaussian(4, 4, seed=1)),
    ),
    "solve_care": (
        lambda a, b, q, r: mj.solve_care(a, b, spd(q), spd(r)),
        (gaussian(3, 3), gaussian(3, 2, seed=1), gaussian(3, 3, seed=2), gaussian(2, 2, seed=3)),
    ),
    "solve_dare": (
        lambda a, b, q, r: mj.solve_dare(a, b, spd(q), spd(r)),
        (gaussian(3, 3), gaussian(3, 2, seed=1), gaussian(3, 3, seed=2), gaussian(2, 2, seed=3)),
    ),
    "eigh": (lambda a: mj.eigh(a + a.T), (gaussian(4, 4),)),
    "polar": (mj.polar, (gaussian(5, 3),)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """Reverse mode agrees with central differences, under jit."""
    function, inputs = CASES[name]

    check_grads(jax.jit(function), inputs, order=1, modes=["rev"], rtol=1e-5)
    mj.check()


def test_every_differentiable_function_has_a_case() -> None:
    """No function of the catalogue that has a gradient is left out of the cases above."""
    assert set(CASES) == {name for name, entry in FUNCTIONS.items() if entry.differentiable}
    assert set(mj.__all__) == {*CASES, "check"}


class Counting(Handled):
    """A client that counts the calls of msign."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.with_info = self
        self._client = matfn.LocalClient()

    def msign(self, m: Any, **options: Any) -> Any:
        """The answer, after noting the shape."""
        self.shapes.append(m.shape)
        return self._client.with_info.msign(m, **options)


def test_vmap_is_one_request() -> None:
    """All matrices of a vmap, nested or not, go out together."""
    client: Any = Counting()
    m = jnp.asarray(gaussian(2, 3, 5, 4))

    mapped = jax.vmap(jax.vmap(lambda one: mj.msign(one, client=client)))(m)

    assert client.shapes == [(2, 3, 5, 4)]
    np.testing.assert_allclose(mapped, matfn.LocalClient().msign(np.asarray(m)), atol=1e-14)


def test_a_refused_matrix_is_nan_and_told_later() -> None:
    """The others are answered; `check` raises the problem once."""
    a = jnp.stack([jnp.eye(3), -jnp.eye(3)])

    x = jax.block_until_ready(jax.jit(lambda one: mj.inv_root(one, 2))(a))

    np.testing.assert_allclose(x[0], np.eye(3), atol=1e-14)
    assert np.isnan(x[1]).all()
    with pytest.raises(matfn.NotPositive) as raised:
        mj.check()
    assert raised.value.index == 1
    mj.check()


def test_a_refused_call_is_nan_and_told_later() -> None:
    """A client that cannot answer at all breaks no computation."""
    with matfn.Client("http://127.0.0.1:1", max_retries=0) as client:
        x = jax.block_until_ready(mj.msign(jnp.eye(3), client=client))

    assert np.isnan(x).all()
    with pytest.raises(matfn.TransportError):
        mj.check()


def test_a_refused_gradient_is_nan_and_told_later() -> None:
    """A root of a singular matrix has a value and no gradient."""
    a = jnp.diag(jnp.array([1.0, 0.0]))

    gradient = jax.block_until_ready(jax.grad(lambda one: mj.root(one, 2).sum())(a))

    assert np.isnan(gradient).all()
    with pytest.raises(matfn.Singular):
        mj.check()


def test_vectors_are_right_hand_sides() -> None:
    """A vector as b gives a vector, beside a stack of triangles too."""
    t, b = jnp.stack([lower(gaussian(4, 4, seed=seed)) for seed in range(4)]), jnp.asarray(gaussian(4))

    x = mj.tri_solve(t, b)

    np.testing.assert_allclose(x, np.linalg.solve(t, np.broadcast_to(b[:, None], (4, 4, 1)))[..., 0], atol=1e-13)
    assert jax.grad(lambda one: mj.tri_solve(t[0], one).sum())(b).shape == (4,)
    mj.check()


def test_numbers_of_numpy_are_parameters() -> None:
    """Parameters may be numpy's integers."""
    r: Any = np.int64(4)

    np.testing.assert_allclose(np.asarray(mj.root(jnp.eye(2) * 16, r)), 2 * np.eye(2), atol=1e-14)


def test_parameters_may_be_arrays() -> None:
    """Under vmap and grad too: the mapped dimension comes before those of the array."""
    a, p = jnp.stack([spd(gaussian(3, 3, seed=s)) for s in range(2)]), np.array([0.5, -1.0, 2.0])

    found = jax.jit(jax.vmap(lambda one: mj.power(one, p)))(a)
    gradient = jax.grad(lambda one: mj.power(one, p).sum())(a[0])

    np.testing.assert_array_equal(found[1, 2], mj.power(a[1], 2.0))
    parts = [jax.grad(lambda one, p=p: mj.power(one, p).sum())(a[0]) for p in p]
    np.testing.assert_allclose(gradient, sum(parts), rtol=1e-12)


def test_what_is_wrong_before_a_call_is_raised_at_once() -> None:
    """A client of coroutines and an input of too few dimensions are no matter of callbacks."""
    with pytest.raises(TypeError, match="client is AsyncClient"):
        mj.msign(jnp.eye(2), client=matfn.AsyncClient())  # type: ignore[arg-type]
    with pytest.raises(matfn.InvalidShape, match="2 dimensions at least"):
        mj.msign(jnp.ones(3))


def test_float32_stays_float32() -> None:
    """Values and gradients have the dtype of the input."""
    m = jnp.asarray(gaussian(4, 3), jnp.float32)

    gradient = jax.grad(lambda one: mj.msign(one)[0, 0])(m)

    assert mj.msign(m).dtype == gradient.dtype == jnp.float32


def test_distance_of_complex_gaussians_is_real() -> None:
    """Under jit, and its gradients are those of finite differences, of real means beside complex ones too."""

    def distance(mu: Any, a: Any, nu: Any, b: Any) -> Any:
        first, second = (x @ x.conj().T + jnp.eye(3) for x in (a, b))
        return mj.frechet_distance(mu, first, nu, second)

    inputs = gaussian(3), *(gaussian(*shape) + 1j * gaussian(*shape, seed=1) for shape in ((3, 3), (3,), (3, 3)))

    value = jax.jit(distance)(*inputs)

    assert value.dtype == np.float64
    check_grads(distance, inputs, order=1, modes=["rev"])


def test_complex_gradients_are_jaxs() -> None:
    """The gradient of a real loss of a complex root is that of the same loss by jax.numpy."""
    a = jnp.asarray(gaussian(4, 4) + 1j * gaussian(4, 4, seed=1))

    def loss(root: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda one: jnp.abs(root(one @ one.conj().T + jnp.eye(4))[0, 1]) ** 2

    def by_eigh(one: Any) -> Any:
        values, vectors = jnp.linalg.eigh(one)
        return (vectors * jnp.sqrt(values)) @ vectors.conj().T

    np.testing.assert_allclose(
        jax.grad(loss(lambda one: mj.root(one, 2)))(a), jax.grad(loss(by_eigh))(a), rtol=1e-8, atol=1e-10
    )


def test_second_derivatives_are_refused() -> None:
    """A gradient is not differentiable, and says so."""
    with pytest.raises(NotImplementedError, match="second order"):
        jax.jacrev(jax.grad(lambda m: mj.msign(m)[0, 0]))(jnp.asarray(gaussian(3, 2)))


def test_vector_that_does_not_fit_is_named_as_given() -> None:
    """A refusal has the shape that the caller gave, before anything is computed."""
    with pytest.raises(matfn.InvalidShape, match=r"b has shape \(4,\): n is 4, but t makes it 3"):
        mj.tri_solve(jnp.eye(3), jnp.ones(4))
