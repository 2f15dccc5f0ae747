"""The exact values of the study's answers, in extended precision, and what these values may be off by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import scipy.linalg

import long_double
from certificate_inputs import numbers
from long_double import adjoint
from matfn_kernels import FUNCTIONS, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from certificate_inputs import Sample

__all__ = ["SPECTRAL", "Exact", "Truth"]

Array: TypeAlias = "NDArray[Any]"
Scalar: TypeAlias = "Callable[[Array], Array]"

SPECTRAL: Final = frozenset({"root", "inv_root", "sqrt_pair", "log", "exp", "power"})
"""Functions f(A) = V f(W) V^-1 of the eigenvalues of A."""
_ORDINARY: Final = 4.5e7
"""Largest condition of an input of which an answer is expected to converge: its product with eps is 1e-8."""
_SHARE: Final = 1 / 20
"""Of the distance between a value in extended precision and one in float64, what the former may be off by: its unit is
2048 times smaller."""


_SCALED: Final = 1e-2
"""Newton's iteration for the sign is scaled by no factor that is nearer to 1."""
_SINGLE: Final = 2.0**-23
"""The spacing of float32, in whose units half precision's small singular values are judged too."""
_SPACINGS: Final = {"bf16": 2.0**-7, "fp32": _SINGLE, "fp64": 2.0**-52}
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


@dataclass(frozen=True, slots=True)
class Exact:
    """True values of a batch.

    Attributes:
        outputs: (batch, ...) each.
        error: relative error of these values, (batch,).
        ordinary: items that no answer need flag, (batch,); None where the certificate's condition tells.
        scale: what errors are relative to, (batch,); None for the norm of the value.
    """

    outputs: tuple[Array, ...]
    error: Array
    ordinary: Array | None = None
    scale: Array | None = None


class Truth:
    """The exact functions of a sample; its decompositions are computed once for all of its calls."""

    def __init__(self, function: str, sample: Sample) -> None:
        """Keeps what is sent, whatever the options."""
        self.function = function
        self.sample = sample
        self.inputs = dict(sample.inputs)
        self.plain = {name: numbers(tensor) for name, tensor in sample.inputs.items()}
        self.wide = {name: long_double.extended(array) for name, array in self.plain.items()}
        first = next(iter(sample.inputs.values()))
        self.eps = _eps(first)

    def of(self, parameters: dict[str, Any], shift: Array, precision: str = "auto") -> Exact:
        """The values for some parameters and the shifts that certificates state; what has no value is not finite.

        A precision that is named counts where the definition is in units of the coarser spacing.
        """
        with np.errstate(all="ignore"):
            return self._of(parameters, shift, 8 * max(self.eps, _SPACINGS.get(precision, 0.0)))

    def _of(self, parameters: dict[str, Any], shift: Array, cut: float) -> Exact:
        chosen = {one.name: one.default for one in FUNCTIONS[self.function].parameters} | parameters
        if self.function in SPECTRAL:
            of_spectrum = self._powers if self.function in {"root", "inv_root", "sqrt_pair"} else self._analytic
            return of_spectrum(chosen, shift, cut if chosen.get("damping") == "range" else -np.inf)
        if self.function in {"msign", "mclip", "polar"}:
            return self._polar(chosen)
        if self.function == "eig_clip":
            return self._eig_clip(chosen)
        if self.function in {"eigh", "eigenbasis"}:
            return self._eigenpairs()
        if self.function in {"norm2", "cond"}:
            return self._extremes()
        return self._compared(_OTHERS[self.function](self, chosen), parameters)

    @cached_property
    def eigen(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of A."""
        return long_double.eigh(self.wide["a"])

    @cached_property
    def singular(self) -> tuple[Array, Array, Array]:
        """U, s and V^H of M."""
        return long_double.svd(self.wide["m"])

    def _powers(self, chosen: dict[str, Any], shift: Array, cut: float) -> Exact:
        """Powers, of the eigenvalues above `cut` of the largest."""
        if self.function == "sqrt_pair":
            exponents = [0.5, -0.5]
        else:
            exponents = [(1 if self.function == "root" else -1) * chosen["s"] / chosen["r"]]
        if len(self.sample.factors) > 0:
            parts = [self._similar(partial(_power_of, exponent), shift) for exponent in exponents]
        else:
            least = -np.inf if chosen["structure"] == "general" else 0.0
            parts = [self._power(exponent, cut, shift, least) for exponent in exponents]
        worst = max(exponents, key=lambda x: abs(min(x, 0)))
        return Exact(
            tuple(value for value, _ in parts),
            np.max([error for _, error in parts], axis=0),
            self._ordinary_power(worst, chosen["damping"], shift),
        )

    def _analytic(self, chosen: dict[str, Any], shift: Array, cut: float) -> Exact:
        """A logarithm, an exponential or a real power."""
        function = _scalar(self.function, chosen)
        if len(self.sample.factors) > 0:
            value, error = self._similar(function, shift)
        else:
            whole = self.function == "power" and float(chosen["p"]).is_integer()
            is_clipped = chosen["structure"] == "symmetric" and self.function != "exp" and not whole
            value, error = self._function(function, cut, shift, 0.0 if is_clipped else -np.inf)
        if self.function == "exp":
            return Exact((value,), error)
        ordinary = self._ordinary_power(chosen.get("p", 1.0), chosen["damping"], shift)
        return Exact((value,), error, ordinary & self._far_from_zero(value))

    def _far_from_zero(self, value: Array) -> Array:
        """Whether a logarithm is not so small that its condition is large: that of numbers near 1 is 1 / |log|."""
        far: Array = _norm(value) > 1 / 64 if self.function == "log" else np.ones(len(value), dtype=bool)
        return far

    def _power(self, exponent: float, cut: float, shift: Array, least: float) -> tuple[Array, Array]:
        """A power, and its own error; eigenvalues below `least` count as that."""
        return self._function(partial(_power_of, exponent), cut, shift, least)

    def _function(self, function: Scalar, cut: float, shift: Array, least: float) -> tuple[Array, Array]:
        """A function, and the error that a backward error of its decomposition leaves in it.

        Eigenvalues below `least` count as that.
        """
        w, v = self.eigen
        noise = 4 * w.shape[-1] * long_double.EPS * np.abs(w).max(-1, keepdims=True)
        moved = w + shift[:, None]
        keep = (w > cut * w[:, -1:]) | (cut < 0)
        f = _kept(function, np.maximum(moved, least), keep)
        sides = [_kept(function, np.maximum(moved + side, least), keep) for side in (noise, -noise)]
        change = np.max([np.abs(side - f) for side in sides], axis=0).max(-1)
        change = np.nan_to_num(change, nan=np.inf)
        near = (np.abs(w - cut * w[:, -1:]) <= noise).any(-1)
        change = np.where(near, np.inf, change)
        left = self.wide.get("g", np.broadcast_to(np.eye(w.shape[-1]), v.shape))
        value = ((left @ v) * f[:, None, :]) @ adjoint(v)
        size = _norm(value)
        weight = _norm(left) if "g" in self.wide else np.sqrt(w.shape[-1])
        spread = change + 4 * w.shape[-1] * long_double.EPS * np.abs(f).max(-1)
        # a power of a 0 that is negative in its last digit is unknown
        return value, np.nan_to_num(_ratio(weight * spread, size), nan=np.inf)

    def _similar(self, function: Scalar, shift: Array) -> tuple[Array, Array]:
        """A function of P diag(d) P^-1, and its own error."""
        p, inverse, d = (long_double.extended(factor) for factor in self.sample.factors)
        f = _kept(function, d + shift[:, None], np.ones_like(d, dtype=bool))
        left = self.wide["g"] @ p if "g" in self.wide else p
        value = (left * f[:, None, :]) @ inverse
        spread = 4 * d.shape[-1] * long_double.EPS * np.abs(f).max(-1) * _norm(left) * _norm(inverse)
        return value, _ratio(spread, _norm(value))

    def _ordinary_power(self, exponent: float, damping: object, shift: Array) -> Array:
        """Whether no damping is added by default, no eigenvalue is near a threshold, and the condition is moderate."""
        w = self.sample.factors[2] if self.sample.factors else long_double.plain(self.eigen[0])
        if self.sample.factors and exponent != 0:
            size = _norm(self.sample.factors[0]) * _norm(self.sample.factors[1])
        else:
            size = np.ones(len(w))
        low, top = w.min(-1), w.max(-1)
        moved = low + shift
        clear = low > 64 * self.eps * top if not isinstance(damping, float) or damping == 0 else moved > 0
        with np.errstate(all="ignore"):
            condition = (top + shift) / moved * max(1, abs(exponent)) * size
        return np.asarray(clear & (condition < _ORDINARY))

    def _polar(self, chosen: dict[str, Any]) -> Exact:
        u, s, vh = self.singular
        limit = 8 * min(self.eps, _SINGLE) * s[:, :1]
        keep = s > limit
        noise = 4 * max(u.shape[-2:]) * long_double.EPS * s[:, 0]
        near = (np.abs(s - limit) <= noise[:, None]).any(-1)
        least = np.where(keep, s, np.inf).min(-1)
        factor = (u * keep[:, None, :]) @ vh
        turned = np.sqrt(s.shape[-1]) * _ratio(noise, least)
        clear = (s[:, -1] > 8 * limit[:, 0]) & (s[:, 0] < _ORDINARY * s[:, -1])
        if self.function == "mclip":
            lo, hi = chosen["lo"], np.inf if chosen["hi"] is None else chosen["hi"]
            clipped = np.minimum(np.where(keep, np.maximum(s, lo), s), hi)
            value = (u * clipped[:, None, :]) @ vh
            error = _ratio(lo * turned + np.sqrt(s.shape[-1]) * noise, _norm(value))
            return Exact((value,), np.where(near & (lo > 0), np.inf, error), clear | (lo == 0))
        error = np.where(near, np.inf, _ratio(turned, np.sqrt(keep.sum(-1))))
        second = ((adjoint(vh) * s[:, None, :]) @ vh,) if self.function == "polar" else ()
        return Exact((factor, *second), error, clear)

    def _eig_clip(self, chosen: dict[str, Any]) -> Exact:
        w, v = self.eigen
        bounds = (-np.inf if chosen["lo"] is None else chosen["lo"], np.inf if chosen["hi"] is None else chosen["hi"])
        value = (v * np.clip(w, *bounds)[:, None, :]) @ adjoint(v)
        noise = 4 * w.shape[-1] * long_double.EPS * np.abs(w).max(-1)
        return Exact((value,), _ratio(np.sqrt(w.shape[-1]) * noise, _norm(value)))

    def _extremes(self) -> Exact:
        """Both ends of an interval at the norm, or at the condition number, whose error grows with it."""
        s = self.singular[1]
        value = s[:, 0] if self.function == "norm2" else s[:, 0] / s[:, -1]
        growth = 1.0 if self.function == "norm2" else value.astype(float)
        return Exact((value, value), 8.0 * s.shape[-1] * long_double.EPS * growth * np.ones(len(s)))

    def _eigenpairs(self) -> Exact:
        """Eigenvalues, and how far a basis that is given is from diagonalising A."""
        w, size = self.eigen[0], _norm(self.wide["a"])
        error = np.full(len(w), 8.0 * w.shape[-1] * long_double.EPS)
        if self.function == "eigh":
            return Exact((w,), error)
        q = self.wide["q"]
        rest = adjoint(q) @ self.wide["a"] @ q
        return Exact((w, _ratio(_norm(rest * (1 - np.eye(w.shape[-1]))), size)), error)

    def errors(self, outputs: Sequence[Any], exact: Exact) -> Array:
        """The largest relative error of each answer's outputs, (batch,)."""
        found = [long_double.extended(numbers(x)) for x in outputs]
        if self.function == "eigh":
            w, v = found
            return reference.eigenpair_errors(self.wide["a"], w, v, exact.outputs[0]).astype(float)
        if self.function == "eigenbasis":
            return self._errors_of_basis(found, exact)
        worst: Array = np.max([distance(x, y, exact.scale) for x, y in zip(found, exact.outputs, strict=True)], axis=0)
        return worst

    def _errors_of_basis(self, found: Sequence[Array], exact: Exact) -> Array:
        """Those of the eigenpairs and the drift; a basis that came back has no error of its own."""
        q, w, drift, _ = found
        pairs = reference.eigenpair_errors(self.wide["a"], w, q, exact.outputs[0])
        kept = (q == self.wide["q"]).all((-2, -1))
        own = np.diagonal(adjoint(q) @ self.wide["a"] @ q, axis1=-2, axis2=-1).real  # of q itself, if it came back
        worst: Array = np.maximum(
            np.where(kept, np.minimum(distance(w, own), distance(np.sort(w), exact.outputs[0])), pairs),
            np.abs(drift - exact.outputs[1]),
        )
        return worst.astype(float)

    def _compared(self, found: tuple[tuple[Array, ...], Array | None], parameters: dict[str, Any]) -> Exact:
        """Values whose error is judged by their distance from the float64 definition."""
        outputs, scale = found
        other: tuple[Array, ...]
        if (
            self.function == "geometric_mean"
        ):  # is symmetric in its arguments, and the definition loses more than digits
            other, share = (_mean_of(self.wide["b"], self.wide["a"], 1 - parameters.get("t", 0.5)),), 4.0
        else:
            other, share = self.by_definition(parameters) or tuple(np.full_like(x, np.nan) for x in outputs), _SHARE
        apart = [distance(long_double.extended(x), y, scale) for x, y in zip(other, outputs, strict=True)]
        error = np.max(apart, axis=0) * share + 100 * long_double.EPS
        return Exact(outputs, np.nan_to_num(error, nan=np.inf), scale=scale)

    def by_definition(self, parameters: dict[str, Any]) -> tuple[Array, ...]:
        """The float64 definition's values, NaN of the items that it refuses; nothing where it refuses all."""
        try:
            return reference.value(self.function, self.plain, parameters)
        except (np.linalg.LinAlgError, ValueError):
            singles = [self._of_one(item, parameters) for item in range(len(self.sample.kinds))]
            good = next((one for one in singles if one), None)
            if good is None:
                return ()
            rows = [one or tuple(np.full_like(x, np.nan) for x in good) for one in singles]
            return tuple(np.concatenate(column) for column in zip(*rows, strict=True))

    def _of_one(self, item: int, parameters: dict[str, Any]) -> tuple[Array, ...]:
        one = {name: array[item : item + 1] for name, array in self.plain.items()}
        try:
            return reference.value(self.function, one, parameters)
        except (np.linalg.LinAlgError, ValueError):
            return ()


def distance(x: Array, truth: Array, scale: Array | None = None) -> Array:
    """Norm of the difference of each item, relative to the scale or to the norm of the truth where that is not 0."""
    size = _norm(truth) if scale is None else scale
    with np.errstate(all="ignore"):
        gap = _norm(x - truth)
        found: Array = np.where(size > 0, gap / np.where(size > 0, size, 1), gap).astype(float)
    return found


def _eps(tensor: Any) -> float:
    import torch

    return float(torch.finfo(tensor.dtype).eps)


def _norm(x: Array) -> Array:
    flat = x.reshape(len(x), -1)
    total: Array = np.sqrt((flat.real**2 + flat.imag**2).sum(-1))
    return total


def _ratio(x: Array, y: Array) -> Array:
    found: Array = np.where(y > 0, x / np.where(y > 0, y, 1), np.where(x > 0, np.inf, 0)).astype(float)
    return found


def _kept(function: Scalar, w: Array, keep: Array) -> Array:
    """The function of the kept values, 0 of the others."""
    with np.errstate(all="ignore"):
        found: Array = np.where(keep, function(w), 0)
    return found


def _power_of(exponent: float, w: Array) -> Array:
    found: Array = w ** np.longdouble(exponent)
    return found


def _scalar(name: str, chosen: dict[str, Any]) -> Scalar:
    """The function of numbers."""
    if name == "power":
        return partial(_power_of, chosen["p"])
    return np.log if name == "log" else lambda w: np.exp(np.longdouble(chosen["t"]) * w)


_Found: TypeAlias = "tuple[tuple[Array, ...], Array | None]"


def _triangular(truth: Truth, chosen: dict[str, Any]) -> _Found:
    lower, unit = chosen["lower"], chosen["unit_diagonal"]
    t = (np.tril if lower else np.triu)(truth.wide["t"])
    if unit:
        t = t * (1 - np.eye(t.shape[-1])) + np.eye(t.shape[-1])
    return _solution(t, truth.wide.get("b"), lower=lower, transpose=chosen.get("transpose", False))


def _low_rank(truth: Truth, chosen: dict[str, Any]) -> _Found:
    diag, q, k = (truth.wide[name] for name in ("diag", "q", "k"))
    t = np.tril(q @ np.swapaxes(k, -1, -2), -1) + diag[:, None, :] * np.eye(diag.shape[-1])
    return _solution(t, truth.wide.get("b"), lower=True, transpose=chosen.get("transpose", False))


def _solution(t: Array, b: Array | None, *, lower: bool, transpose: bool) -> _Found:
    right = np.broadcast_to(np.eye(t.shape[-1]), t.shape) if b is None else b
    turned = np.swapaxes(t, -1, -2) if transpose else t
    return (long_double.substituted(turned, right, lower=lower != transpose),), None


def _signs(a: Array) -> Array:
    """The sign of each A by Newton's iteration, scaled until it converges; items without one are not finite."""
    x = a.copy()
    active = np.ones(len(a), dtype=bool)
    for _ in range(60):
        if not active.any():
            break
        now = x[active]
        y = long_double.inverse(now)
        factor = np.sqrt(_norm(y) / _norm(now))[:, None, None]
        factor = np.where(np.abs(factor - 1) < _SCALED, 1, factor)
        following = (factor * now + y / factor) / 2
        x[active] = following
        active[active] = _norm(following - now) > _SQUARED * _norm(following)  # not so where it is no number
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


def _sign(truth: Truth, chosen: dict[str, Any]) -> _Found:
    a = truth.wide["a"]
    sign, other = np.stack([_sign_by_subspaces(matrix) for matrix in a]), _signs(a)
    sign[~(distance(sign, other) < _SAME)] = np.nan
    if "half" not in chosen:
        return (sign,), None
    side = 1 if chosen["half"] == "right" else -1
    return ((np.eye(sign.shape[-1]) + side * sign) / 2,), None


def _linear(truth: Truth, _chosen: dict[str, Any]) -> _Found:
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


def _care(truth: Truth, _chosen: dict[str, Any]) -> _Found:
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


def _dare(truth: Truth, _chosen: dict[str, Any]) -> _Found:
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


def _mean(truth: Truth, chosen: dict[str, Any]) -> _Found:
    return (_mean_of(truth.wide["a"], truth.wide["b"], chosen["t"]),), None


def _mean_of(a: Array, b: Array, t: float) -> Array:
    """F U S^(2t-1) V^H G^H with A = F F^H, B = G G^H and F^-1 G = U S V^H; NaN where A or B is not positive."""
    (w, v), (other, basis) = long_double.eigh(a), long_double.eigh(b)
    definite = (w[:, 0] > 0) & (other[:, 0] > 0)
    w = np.where(definite[:, None], w, 1)
    first, second = (np.sqrt(np.maximum(x, 0))[:, None, :] for x in (w, other))
    u, s, vh = long_double.svd(adjoint(v / first) @ (basis * second))
    middle = (u * s[:, None, :] ** (2 * np.longdouble(t) - 1)) @ vh
    value: Array = (v * first) @ middle @ adjoint(basis * second)
    return np.where(definite[:, None, None], value, np.nan)


def _distance_of_gaussians(truth: Truth, _: dict[str, Any]) -> _Found:
    """By the factors of the covariances; those of a rounded covariance are its own."""
    mu1, mu2, s1, s2 = (truth.wide[name] for name in ("mu1", "mu2", "s1", "s2"))
    factors = [long_double.extended(factor) for factor in truth.sample.factors]
    if truth.eps > 1e-4:  # noqa: PLR2004 - half precision rounds the covariances
        eigens = [long_double.eigh(s) for s in (s1, s2)]
        factors = [v * np.sqrt(np.maximum(w, 0))[:, None, :] for w, v in eigens]
    nuclear = long_double.svd(adjoint(factors[0]) @ factors[1])[1].sum(-1)
    squares = (np.abs(mu1 - mu2) ** 2).sum(-1)
    terms = squares + np.trace(s1 + s2, axis1=-2, axis2=-1).real
    return (np.maximum(terms - 2 * nuclear, 0),), terms


def _logits(truth: Truth, chosen: dict[str, Any]) -> _Found:
    q, k = truth.wide["q"], truth.wide["k"]
    logits = np.abs(q @ np.swapaxes(np.repeat(k, q.shape[1] // k.shape[1], axis=1), -1, -2))
    t, s = logits.shape[-2:]
    if chosen["causal"]:
        logits = np.where(np.arange(s) <= np.arange(t)[:, None] + s - t, logits, 0)
    scale = 1 / np.sqrt(np.longdouble(q.shape[-1])) if chosen["scale"] is None else chosen["scale"]
    return (logits.max((-2, -1)) * scale,), None


def _clipped(truth: Truth, chosen: dict[str, Any]) -> _Found:
    w_q, w_k, largest = (truth.wide[name] for name in ("w_q", "w_k", "max_logit"))
    gamma = np.minimum(1, np.longdouble(chosen["tau"]) / largest)
    root = np.sqrt(gamma)[..., None, None]
    return (w_q * root, w_k * root, gamma), None


def _delta_rule(truth: Truth, _: dict[str, Any]) -> _Found:
    q, k, v, beta, log_gate = (truth.wide[name] for name in ("q", "k", "v", "beta", "log_gate"))
    state = np.zeros((len(q), k.shape[-1], v.shape[-1]), dtype=np.longdouble)
    outputs = np.zeros_like(v)
    for t in range(k.shape[1]):
        key, written = k[:, t, :, None], (beta[:, t, None] * k[:, t])[:, :, None]
        kept = state - written @ (np.swapaxes(key, -1, -2) @ state)
        state = np.exp(log_gate[:, t])[:, None, None] * kept + written @ v[:, t, None, :]
        outputs[:, t] = (q[:, t, None, :] @ state)[:, 0]
    return (outputs, state), None


_OTHERS: Final[dict[str, Callable[[Truth, dict[str, Any]], _Found]]] = {
    "mcsgn": _sign,
    "spectral_projector": _sign,
    "solve_sylvester": _linear,
    "solve_lyapunov": _linear,
    "solve_discrete_lyapunov": _linear,
    "solve_care": _care,
    "solve_dare": _dare,
    "tri_inv": _triangular,
    "tri_solve": _triangular,
    "dplr_inv": _low_rank,
    "dplr_solve": _low_rank,
    "frechet_distance": _distance_of_gaussians,
    "geometric_mean": _mean,
    "max_logit": _logits,
    "qk_clip": _clipped,
    "delta_rule": _delta_rule,
}
