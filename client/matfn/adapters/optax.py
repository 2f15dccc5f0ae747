"""Shampoo as an optax GradientTransformation, its inverse roots computed by any client.

    optimizer = optax.chain(
        matfn.adapters.optax.scale_by_shampoo(grafting=optax.scale_by_adam()),
        optax.scale_by_learning_rate(1e-3),
    )

An array is a matrix of all its dimensions but the last, which is JAX's order of weights, against the last. Under jit
a refresh is one callback to the host, and so one request, for which the step waits. An exception in a callback would
be undefined: a refresh that fails keeps the roots that there are and counts in the state, where `check` looks.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from matfn import call
from matfn.answers import Answer
from matfn.shared_client import shared_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn.client import Client
    from matfn.local import LocalClient

__all__ = ["ScaleByShampooState", "check", "scale_by_shampoo"]

_Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_logger: Final = logging.getLogger("matfn")


class ScaleByShampooState(NamedTuple):
    """State of `scale_by_shampoo`.

    Attributes:
        count: updates so far.
        factors: for each array its factors, an empty tuple for vectors.
        roots: their inverse roots, the identity before the first refresh.
        failures: refreshes in a row in which a root failed.
        grafting: the grafted transformation's state.
    """

    count: Any
    factors: Any
    roots: Any
    failures: Any
    grafting: Any


def scale_by_shampoo(
    client: Client | LocalClient | None = None,
    *,
    refresh_every: int = 10,
    damping: float = 1e-6,
    decay: float = 0.999,
    max_preconditioner_dim: int = 1024,
    grafting: Any = None,
) -> Any:
    """Updates multiplied by inverse roots of moving averages of G G^T and G^T G.

    Args:
        client: who computes the roots; None takes a LocalClient that all share.
        refresh_every: updates between two refreshes; the first one has the first.
        damping: number added to a factor's diagonal, relative to its largest eigenvalue.
        decay: of the factors' averages.
        max_preconditioner_dim: a side of a matrix that is longer has no factor.
        grafting: a GradientTransformation whose update gives each array its length, and vectors their update; None
            takes Shampoo's own length.

    Returns:
        An optax.GradientTransformation.
    """
    import jax
    import jax.numpy as jnp
    import optax

    graft = optax.identity() if grafting is None else grafting
    computed = partial(_roots, shared_client() if client is None else client, damping)

    def init(params: Any) -> ScaleByShampooState:
        leaves = jax.tree.leaves(params)
        factors = [
            tuple(jnp.zeros((n, n), _dtype(leaf)) for n in _orders(leaf, max_preconditioner_dim)) for leaf in leaves
        ]
        roots = jax.tree.map(lambda factor: jnp.eye(len(factor), dtype=factor.dtype), factors)
        zero = jnp.zeros((), jnp.int32)
        return ScaleByShampooState(zero, factors, roots, zero, graft.init(params))

    def update(updates: Any, state: ScaleByShampooState, params: Any = None) -> tuple[Any, ScaleByShampooState]:
        leaves, tree = jax.tree.flatten(updates)
        count = state.count + 1
        factors = [_averaged(*pair, decay, max_preconditioner_dim) for pair in zip(state.factors, leaves, strict=True)]

        def refreshed(_: Any) -> tuple[Any, Any]:
            corrected = jax.tree.map(lambda factor: factor / (1 - decay**count), factors)
            shapes = jax.tree.map(lambda root: jax.ShapeDtypeStruct(root.shape, root.dtype), state.roots)
            flags = jax.tree.map(lambda _: jax.ShapeDtypeStruct((), jnp.bool_), state.roots)
            answered = (shapes, flags, jax.ShapeDtypeStruct((), jnp.bool_))
            found, good, failed = jax.pure_callback(computed, answered, corrected, vmap_method="sequential")
            return jax.tree.map(jnp.where, good, found, state.roots), jnp.where(failed, state.failures + 1, 0)

        is_due = (count - 1) % refresh_every == 0
        roots, failures = jax.lax.cond(is_due, refreshed, lambda _: (state.roots, state.failures), None)
        grafts, grafted = graft.update(updates, state.grafting, params)
        lengths = jax.tree.leaves(grafts)
        steps = [
            _preconditioned(leaf, own, max_preconditioner_dim, None if grafting is None else length)
            for leaf, own, length in zip(leaves, roots, lengths, strict=True)
        ]
        return tree.unflatten(steps), ScaleByShampooState(count, factors, roots, failures, grafted)

    return optax.GradientTransformation(init, update)


def check(state: Any, tolerated: int = 3) -> None:
    """Raises where more refreshes in a row have failed than are tolerated; call it outside jit.

    Args:
        state: of `scale_by_shampoo`, or one that holds it, as that of `optax.chain` does.
        tolerated: failures in a row that are no error.

    Raises:
        RuntimeError: the logger "matfn" has the errors.
        TypeError: there is no state of `scale_by_shampoo`.
    """
    import jax

    inner = jax.tree_util.tree_leaves(state, is_leaf=lambda node: isinstance(node, ScaleByShampooState))
    states = [node for node in inner if isinstance(node, ScaleByShampooState)]
    if not states:
        raise TypeError("this state holds none of scale_by_shampoo")
    failures = max(int(one.failures) for one in states)
    if failures > tolerated:
        raise RuntimeError(f"{failures} refreshes in a row failed; the logger 'matfn' has their errors")


def _dtype(leaf: Any) -> Any:
    import jax.numpy as jnp

    return jnp.promote_types(leaf.dtype, jnp.float32)


def _sides(leaf: Any) -> tuple[int, int]:
    return (leaf.size // max(leaf.shape[-1], 1), leaf.shape[-1]) if leaf.ndim > 1 else (1, leaf.size)


def _orders(leaf: Any, limit: int) -> list[int]:
    """Orders of an array's factors: none for vectors, one for each side up to the limit."""
    sides = _sides(leaf)
    return [side for side in sides if side <= limit] if min(sides) > 1 else []


def _averaged(factors: Sequence[Any], leaf: Any, decay: float, limit: int) -> tuple[Any, ...]:
    """The factors after an update."""
    if not factors:
        return ()
    matrix = leaf.reshape(_sides(leaf)).astype(factors[0].dtype)
    products = [side @ side.T for side in (matrix, matrix.T) if len(side) <= limit]
    return tuple(decay * factor + (1 - decay) * product for factor, product in zip(factors, products, strict=True))


def _preconditioned(leaf: Any, roots: Sequence[Any], limit: int, length: Any) -> Any:
    """The update of an array, of the length of `length` if that is given."""
    import jax.numpy as jnp

    if not roots:
        return leaf if length is None else length
    matrix, remaining = leaf.reshape(_sides(leaf)).astype(roots[0].dtype), list(roots)
    rows, columns = matrix.shape
    matrix = remaining.pop(0) @ matrix if rows <= limit else matrix
    matrix = matrix @ remaining.pop(0) if columns <= limit else matrix
    if length is not None:
        matrix = matrix * (jnp.linalg.norm(length) / jnp.maximum(jnp.linalg.norm(matrix), jnp.finfo(matrix.dtype).tiny))
    return matrix.reshape(leaf.shape).astype(leaf.dtype)


def _roots(client: Any, damping: float, factors: list[tuple[Any, ...]]) -> tuple[Any, Any, Any]:
    """Inverse roots of all factors in one request, which of them are there, and whether any failed; raises nothing.

    The powers of a matrix's factors have the sum -1/2: -1/4 for two, -1/2 for one. A factor of zeros has no root, and
    needs none yet.
    """
    given = [[np.asarray(factor) for factor in some] for some in factors]
    flat = [one for some in given for one in some]
    calls = [call.inv_root((one + one.T) / 2, 2 * len(some), damping=damping) for some in given for one in some]
    try:
        answers = client.with_info.map(calls, on_error="return")
    except Exception as error:  # noqa: BLE001 - in a callback every exception is undefined behaviour
        answers = [error] * len(calls)
    failed = [answer for answer, one in zip(answers, flat, strict=True) if not isinstance(answer, Answer) and one.any()]
    if failed:
        _logger.warning("%d inverse roots of scale_by_shampoo failed: %s", len(failed), failed[0])
    results = iter(zip(answers, flat, strict=True))
    pairs = [tuple(_root(*next(results)) for _ in some) for some in given]
    roots, good = ([tuple(pair[place] for pair in some) for some in pairs] for place in (0, 1))
    return roots, good, np.bool_(bool(failed))


def _root(answer: Any, factor: _Array) -> tuple[_Array, np.bool_]:
    """A root and whether it is one."""
    if isinstance(answer, Answer):
        return answer.value, np.bool_(True)  # noqa: FBT003 - a value
    return np.zeros_like(factor), np.bool_(False)  # noqa: FBT003 - a value
