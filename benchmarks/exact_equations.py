"""Exact matrix signs and solutions of Sylvester, Lyapunov and Riccati equations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import scipy.linalg

import long_double
from long_double import adjoint
from matfn_kernels import reference
from matrix_distances import distance, norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from certificate_truth import Truth
    from exact_value import Found

__all__ = ["continuous_riccati", "discrete_riccati", "linear", "sign"]

Array: TypeAlias = "NDArray[Any]"

_SCALED: Final = 1e-2
"""Newton's iteration for the sign is scaled by no factor that is nearer to 1."""
_SAME: Final = 1e-3
"""Signs that are nearer agree on which side of the axis each eigenvalue is."""
_REFINEMENTS: Final = 10
"""Refinements of a solution, of which each gains two digits at least where certificates promise any."""
_DOUBLINGS: Final = 30
"""Steps of doubling: a closed loop as slow as 1 - 1e-7 has converged after them."""
_NEWTON_STEPS: Final = 3
"""Steps from a solution that has half its digits: its subspace may have lost those of the Hamiltonian's scaling."""
_SQUARED: Final = 1e-13
"""A step of Newton's iteration that is no larger leaves its square."""


def _signs(a: Array) -> Array:
    """The sign of each A by Newton's iteration, scaled until it converges; items without one are not finite."""
    x = a.copy()
    active = np.ones(len(a), dtype=bool)
    for _ in range(60):
        if not active.any():
            break
        now = x[active]
        y = long_double.inverse(now)
        factor = np.sqrt(norm(y) / norm(now))[:, None, None]
        factor = np.where(np.abs(factor - 1) < _SCALED, 1, factor)
        following = (factor * now + y / factor) / 2
        x[active] = following
        active[active] = norm(following - now) > _SQUARED * norm(following)  # not so where it is no number
    return x


def _sign_by_subspaces(a: Array) -> Array:
    """The sign of A (n, n), from its invariant subspaces in both half planes."""
    basis, right = _subspaces(a)
    sign = (basis * np.where(np.arange(len(a)) < right, 1, -1)) @ long_double.inverse(basis[None])[0]
    return sign if np.iscomplexobj(a) else np.asarray(sign.real)


def _subspaces(a: Array) -> tuple[Array, int]:
    """Bases of the invariant subspaces of A (n, n) in the right and the left half plane, and the first one's dimension.

    float64 tells the dimensions.
    """
    t, q, right = scipy.linalg.schur(long_double.plain(a), output="complex", sort="rhp")
    w, v = np.eye(len(a), dtype=complex), np.eye(len(a), dtype=np.clongdouble)
    if right in {0, len(a)}:
        return v, right
    halves = slice(0, right), slice(right, len(a))
    w[halves] = scipy.linalg.solve_sylvester(t[:right, :right], -t[right:, right:], -t[halves])
    w = long_double.extended(q @ w)
    b = long_double.inverse(w[None])[0] @ a @ w
    for mine, other in (halves, halves[::-1]):
        v[other, mine] = _graph(b[other, other], b[mine, mine], b[other, mine], b[mine, other])
    return w @ v, right


def _graph(d: Array, a: Array, c: Array, b: Array) -> Array:
    """X of C + D X - X A - X B X = 0 for a small C, by Newton's method with D X - X A in float64."""
    x = np.zeros_like(c)
    for _ in range(5):
        residual = c + d @ x - x @ a - x @ b @ x
        x = x - scipy.linalg.solve_sylvester(*(long_double.plain(part) for part in (d, -a, residual)))
    return x


def sign(truth: Truth, chosen: dict[str, Any]) -> Found:
    """The sign or a spectral projector of A, where two methods agree; NaN elsewhere."""
    a = truth.wide["a"]
    sign, other = np.stack([_sign_by_subspaces(matrix) for matrix in a]), _signs(a)
    sign[~(distance(sign, other) < _SAME)] = np.nan
    if "half" not in chosen:
        return (sign,), None
    side = 1 if chosen["half"] == "right" else -1
    return ((np.eye(sign.shape[-1]) + side * sign) / 2,), None


def linear(truth: Truth, _chosen: dict[str, Any]) -> Found:
    """X of P X S + ... = Q by refinement, with residuals of twice the digits and solutions of the definition."""
    x = np.zeros_like(truth.wide["q"])
    for _ in range(_REFINEMENTS):
        x = x + _lapack(truth, _missing(truth, x))
    return (x,), None


def _missing(truth: Truth, x: Array) -> Array:
    """What X leaves of the right side."""
    a, q = truth.wide["a"], truth.wide["q"]
    e = truth.wide.get("e", np.broadcast_to(np.eye(a.shape[-1]), a.shape))
    if truth.function == "solve_discrete_lyapunov":
        return long_double.added(q, [*_multiplied(a, x, adjoint(a)), *_multiplied(-e, x, adjoint(e))])
    if truth.function == "solve_lyapunov":
        return long_double.added(q, [*_multiplied(-a, x, adjoint(e)), *_multiplied(-e, x, adjoint(a))])
    return long_double.added(q, [(-a, x), (-x, truth.wide["b"])])


def _multiplied(a: Array, x: Array, b: Array) -> list[tuple[Array, Array]]:
    """The products whose sum is A X B: A X as a long double and as what that has lost."""
    lead = a @ x
    return [(lead, b), (long_double.added(-lead, [(a, x)]), b)]


def _lapack(truth: Truth, q: Array) -> Array:
    """The definition's solution for a right side, to float64's precision."""
    plain = {**truth.plain, "q": long_double.plain(q)}
    try:
        return long_double.extended(reference.value(truth.function, plain, {})[0])
    except (np.linalg.LinAlgError, ValueError):
        return np.full_like(q, np.nan)


def continuous_riccati(truth: Truth, _chosen: dict[str, Any]) -> Found:
    """By the stable subspace of the Hamiltonian, and steps of Newton's iteration for the digits that it has lost."""
    a, g, q = _plain(truth)
    hamiltonians = np.concatenate([np.concatenate([a, -g], -1), np.concatenate([-q, -adjoint(a)], -1)], -2)
    x = np.stack([_stable_graph(one) for one in hamiltonians])
    for _ in range(_NEWTON_STEPS):
        missing = long_double.added(q, [(adjoint(a), x), (x, a), *_quadratic(truth, x)])
        parts = zip(long_double.plain(adjoint(a - g @ x)), long_double.plain(missing), x, strict=True)
        x = np.stack([_corrected(*part) for part in parts])
    return (x,), None


def _quadratic(truth: Truth, x: Array) -> list[tuple[Array, Array]]:
    """The products whose sum is -X B R^-1 B^H X: rounding of G = B R^-1 B^H itself would count where X is large."""
    b, r = truth.wide["b"], truth.wide["r"]
    weight, y = long_double.inverse((r + adjoint(r)) / 2), adjoint(b) @ x
    lost = long_double.added(-y, [(adjoint(b), x)])
    left = adjoint(y) @ weight
    return [*_multiplied(-adjoint(y), weight, y), (-left, lost), (-adjoint(lost), adjoint(left))]


def _corrected(closed: Array, rest: Array, x: Array) -> Array:
    """X (n, n) after a Newton step from what its equation lacks; as it is where that is not finite."""
    if not np.isfinite(rest).all():
        return x
    following = x + scipy.linalg.solve_continuous_lyapunov(closed, -rest)
    return np.asarray((following + np.conj(following.T)) / 2)


def _plain(truth: Truth) -> tuple[Array, Array, Array]:
    """A, G = B R^-1 B^H and Q of the Riccati equation without descriptor and cross term."""
    a, b, q, r = (truth.wide[name] for name in ("a", "b", "q", "r"))
    q, r = ((x + adjoint(x)) / 2 for x in (q, r))
    of_r = long_double.inverse(r)
    if "s" in truth.wide:
        cross = of_r @ adjoint(truth.wide["s"])
        a, q = a - b @ cross, q - truth.wide["s"] @ cross
    if "e" in truth.wide:
        of_e = long_double.inverse(truth.wide["e"])
        a, q = a @ of_e, adjoint(of_e) @ q @ of_e
    return a, b @ of_r @ adjoint(b), q


def discrete_riccati(truth: Truth, _chosen: dict[str, Any]) -> Found:
    """By doubling, which converges quadratically, and steps of Newton's iteration for the digits that it has lost."""
    a, g, q = _plain(truth)
    x, one, e, of_b = q, np.eye(a.shape[-1]), a, g
    for _ in range(_DOUBLINGS):
        w = long_double.inverse(one + g @ x)
        x, g, e = x + adjoint(e) @ x @ w @ e, g + e @ w @ g @ adjoint(e), e @ w @ e
        x, g = (x + adjoint(x)) / 2, (g + adjoint(g)) / 2
    for _ in range(_NEWTON_STEPS):
        closed = long_double.inverse(one + of_b @ x) @ a
        missing = long_double.plain(q - x + adjoint(a) @ x @ closed)
        x = np.stack([_stepped(*part) for part in zip(long_double.plain(closed), missing, x, strict=True)])
    return (x,), None


def _stepped(closed: Array, missing: Array, x: Array) -> Array:
    """X (n, n) after a Newton step from what its discrete equation lacks; as it is where that is not finite."""
    if not (np.isfinite(missing).all() and np.isfinite(closed).all()):
        return x
    following = x + scipy.linalg.solve_discrete_lyapunov(np.conj(closed.T), missing)
    return np.asarray((following + np.conj(following.T)) / 2)


def _stable_graph(hamiltonian: Array) -> Array:
    """X of the left half plane's invariant subspace, spanned by [I; X]."""
    basis, right = _subspaces(hamiltonian)
    order = len(hamiltonian) // 2
    if right != order:
        return np.full((order, order), np.nan)
    x = basis[order:, order:] @ long_double.inverse(basis[None, :order, order:])[0]
    return x if np.iscomplexobj(hamiltonian) else np.asarray(x.real)
