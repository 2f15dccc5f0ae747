"""scale_by_shampoo with optax and JAX: its steps, under jit, in one request, and over failures."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from matfn.adapters.optax import check, scale_by_shampoo
from refreshing import CountingClient, DownClient

PARAMS = {"matrix": jnp.zeros((6, 4)), "kernel": jnp.zeros((3, 2, 5)), "wide": jnp.zeros((2, 9)), "bias": jnp.zeros(4)}


@pytest.fixture
def client() -> CountingClient:
    """A client on the CPU that counts requests."""
    return CountingClient()


def gradients(steps: int, params: Any = PARAMS) -> list[Any]:
    """Random gradients, the same in every run."""
    generator = np.random.default_rng(7)
    return [
        jax.tree.map(lambda one: jnp.asarray(generator.standard_normal(one.shape), one.dtype), params)
        for _ in range(steps)
    ]


def ran(transform: Any, given: list[Any], *, jit: bool = True) -> tuple[list[Any], Any]:
    """The transformed updates and the last state."""
    update = jax.jit(transform.update) if jit else transform.update
    state, found = transform.init(given[0]), []
    for updates in given:
        out, state = update(updates, state)
        found.append(out)
    return found, state


def inverse_root(a: np.ndarray, r: int) -> np.ndarray:
    """(A + 1e-3 lambda_max I)^(-1/r) by eigh."""
    w, v = np.linalg.eigh(a)
    root: np.ndarray = (v * (w.clip(0) + 1e-3 * w[-1]) ** (-1 / r)) @ v.T
    return root


def expected(given: list[np.ndarray], limit: int) -> list[np.ndarray]:
    """Shampoo of one array, written out, with roots every third step from the first."""
    columns = given[0].shape[-1]
    l: Any = 0.0
    r: Any = 0.0
    roots, out = list[Any](), list[Any]()
    for t, g in enumerate(np.asarray(one, np.float64).reshape(-1, columns) for one in given):
        l, r = 0.9 * l + 0.1 * g @ g.T, 0.9 * r + 0.1 * g.T @ g
        if t % 3 == 0:
            sides = [len(side) <= limit for side in (l, r)]
            order = 2 * sum(sides)
            roots = [
                inverse_root(f / (1 - 0.9 ** (t + 1)), order) if has else np.eye(len(f))
                for f, has in zip((l, r), sides, strict=True)
            ]
        out.append((roots[0] @ g @ roots[1]).reshape(given[0].shape))
    return out


def shampoo(client: Any, **options: Any) -> Any:
    """A transformation of the test's rates."""
    return scale_by_shampoo(client, refresh_every=3, damping=1e-3, decay=0.9, **options)


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("limit", [1024, 4])
def test_steps_are_those_of_the_definition(client: CountingClient, limit: int, jit: bool) -> None:
    """Matrices, kernels and sides without a factor take the definition's steps, and vectors pass."""
    given = gradients(8)

    found, _ = ran(shampoo(client, max_preconditioner_dim=limit), given, jit=jit)

    for name in ("matrix", "kernel", "wide"):
        right = expected([one[name] for one in given], limit)
        for step, exact in zip(found, right, strict=True):
            np.testing.assert_allclose(step[name], exact, rtol=2e-3, atol=2e-3 * np.abs(exact).max())
    assert all(jnp.array_equal(step["bias"], one["bias"]) for step, one in zip(found, given, strict=True))


def test_one_request_a_refresh(client: CountingClient) -> None:
    """All factors of all arrays go out together, every third step from the first."""
    jax.block_until_ready(ran(shampoo(client), gradients(7))[1])

    assert [len(request) for request in client.requests] == [6, 6, 6]


def test_grafting_gives_the_length(client: CountingClient) -> None:
    """With a grafted transformation each array's update has that one's length, and vectors are that one's."""
    given = gradients(5)

    found, _ = ran(shampoo(client, grafting=optax.scale_by_adam()), given)
    adam, _ = ran(optax.scale_by_adam(), given)

    for step, length in zip(found, adam, strict=True):
        for name in PARAMS:
            norms = [float(jnp.linalg.norm(part[name])) for part in (step, length)]
            assert norms[0] == pytest.approx(norms[1], rel=1e-5)
        np.testing.assert_allclose(step["bias"], length["bias"], rtol=1e-6)


def test_chain_descends(client: CountingClient) -> None:
    """In a chain with a rate it minimises a least squares loss better than the plain gradient."""
    a = jnp.asarray(np.random.default_rng(1).standard_normal((20, 6)) * 10.0 ** -np.arange(6))

    def loss(x: Any) -> Any:
        return jnp.square(a @ x - 1).mean()

    def reached(optimizer: Any) -> float:
        @jax.jit  # type: ignore[untyped-decorator,unused-ignore]
        def step(x: Any, state: Any) -> Any:
            updates, state = optimizer.update(jax.grad(loss)(x), state, x)
            return optax.apply_updates(x, updates), state

        x = jnp.zeros((6, 3))
        state = optimizer.init(x)
        for _ in range(40):
            x, state = step(x, state)
        return float(loss(x))

    assert reached(optax.chain(shampoo(client), optax.scale_by_learning_rate(0.3))) < reached(optax.sgd(0.3))


def test_failed_refresh_keeps_the_roots(caplog: pytest.LogCaptureFixture) -> None:
    """A server that is down costs no step: the roots stay, the failures count, and `check` raises after the third."""
    client = DownClient()
    client.down = False
    transform, given = shampoo(client), gradients(16)
    update = jax.jit(transform.update)
    _, state = update(given[0], transform.init(given[0]))
    good = jax.block_until_ready(state.roots)
    client.down = True

    for updates in given[1:12]:
        _, state = update(updates, state)
    check(state)
    for updates in given[12:]:
        _, state = update(updates, state)

    assert jax.tree.all(jax.tree.map(jnp.array_equal, good, state.roots))
    assert int(state.failures) == 5
    assert "connection refused" in caplog.text
    with pytest.raises(RuntimeError, match="5 refreshes"):
        check(state)
    with pytest.raises(RuntimeError, match="5 refreshes"):
        check((state, ()))  # as optax.chain holds it
    with pytest.raises(TypeError, match="scale_by_shampoo"):
        check(())


def test_zero_gradients_fail_nothing(client: CountingClient) -> None:
    """Factors of zeros have no roots, and need none."""
    found, state = ran(shampoo(client), [jax.tree.map(jnp.zeros_like, PARAMS)] * 2)

    assert int(state.failures) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found))
