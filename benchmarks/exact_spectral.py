"""Exact values of f(A) = V f(W) V^-1, functions of a matrix by its eigenvalues."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

import long_double
from exact_value import Exact
from long_double import adjoint
from matrix_distances import norm, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from certificate_truth import Truth

__all__ = ["ORDINARY", "analytic", "powers"]

Array: TypeAlias = "NDArray[Any]"
Scalar: TypeAlias = "Callable[[Array], Array]"

ORDINARY: Final = 4.5e7
"""Largest condition of an input of which an answer is expected to converge: its product with eps is 1e-8."""


def powers(truth: Truth, chosen: dict[str, Any], shift: Array, cut: float) -> Exact:
    """Powers, of the eigenvalues above `cut` of the largest."""
    if truth.function == "sqrt_pair":
        exponents = [0.5, -0.5]
    else:
        exponents = [(1 if truth.function == "root" else -1) * chosen["s"] / chosen["r"]]
    if len(truth.sample.factors) > 0:
        parts = [_similar(truth, partial(_power_of, exponent), shift) for exponent in exponents]
    else:
        least = -np.inf if chosen["structure"] == "general" else 0.0
        parts = [_power(truth, exponent, cut, shift, least) for exponent in exponents]
    worst = max(exponents, key=lambda x: abs(min(x, 0)))
    return Exact(
        tuple(value for value, _ in parts),
        np.max([error for _, error in parts], axis=0),
        _ordinary_power(truth, worst, chosen["damping"], shift),
    )


def analytic(truth: Truth, chosen: dict[str, Any], shift: Array, cut: float) -> Exact:
    """A logarithm, an exponential or a real power."""
    function = _scalar(truth.function, chosen)
    if len(truth.sample.factors) > 0:
        value, error = _similar(truth, function, shift)
    else:
        whole = truth.function == "power" and float(chosen["p"]).is_integer()
        is_clipped = chosen["structure"] == "symmetric" and truth.function != "exp" and not whole
        value, error = _function(truth, function, cut, shift, 0.0 if is_clipped else -np.inf)
    if truth.function == "exp":
        return Exact((value,), error)
    ordinary = _ordinary_power(truth, chosen.get("p", 1.0), chosen["damping"], shift)
    return Exact((value,), error, ordinary & _far_from_zero(truth, value))


def _far_from_zero(truth: Truth, value: Array) -> Array:
    """Whether a logarithm is not so small that its condition is large: that of numbers near 1 is 1 / |log|."""
    far: Array = norm(value) > 1 / 64 if truth.function == "log" else np.ones(len(value), dtype=bool)
    return far


def _power(truth: Truth, exponent: float, cut: float, shift: Array, least: float) -> tuple[Array, Array]:
    """A power, and its own error; eigenvalues below `least` count as that."""
    return _function(truth, partial(_power_of, exponent), cut, shift, least)


def _function(truth: Truth, function: Scalar, cut: float, shift: Array, least: float) -> tuple[Array, Array]:
    """A function, and the error that a backward error of its decomposition leaves in it.

    Eigenvalues below `least` count as that.
    """
    w, v = truth.eigen
    noise = 4 * w.shape[-1] * long_double.EPS * np.abs(w).max(-1, keepdims=True)
    moved = w + shift[:, None]
    keep = (w > cut * w[:, -1:]) | (cut < 0)
    f = _kept(function, np.maximum(moved, least), keep)
    sides = [_kept(function, np.maximum(moved + side, least), keep) for side in (noise, -noise)]
    change = np.max([np.abs(side - f) for side in sides], axis=0).max(-1)
    change = np.nan_to_num(change, nan=np.inf)
    near = (np.abs(w - cut * w[:, -1:]) <= noise).any(-1)
    change = np.where(near, np.inf, change)
    left = truth.wide.get("g", np.broadcast_to(np.eye(w.shape[-1]), v.shape))
    value = ((left @ v) * f[:, None, :]) @ adjoint(v)
    size = norm(value)
    weight = norm(left) if "g" in truth.wide else np.sqrt(w.shape[-1])
    spread = change + 4 * w.shape[-1] * long_double.EPS * np.abs(f).max(-1)
    # a power of a 0 that is negative in its last digit is unknown
    return value, np.nan_to_num(ratio(weight * spread, size), nan=np.inf)


def _similar(truth: Truth, function: Scalar, shift: Array) -> tuple[Array, Array]:
    """A function of P diag(d) P^-1, and its own error."""
    p, inverse, d = (long_double.extended(factor) for factor in truth.sample.factors)
    f = _kept(function, d + shift[:, None], np.ones_like(d, dtype=bool))
    left = truth.wide["g"] @ p if "g" in truth.wide else p
    value = (left * f[:, None, :]) @ inverse
    spread = 4 * d.shape[-1] * long_double.EPS * np.abs(f).max(-1) * norm(left) * norm(inverse)
    return value, ratio(spread, norm(value))


def _ordinary_power(truth: Truth, exponent: float, damping: object, shift: Array) -> Array:
    """Whether no damping is added by default, no eigenvalue is near a threshold, and the condition is moderate."""
    w = truth.sample.factors[2] if truth.sample.factors else long_double.plain(truth.eigen[0])
    if truth.sample.factors and exponent != 0:
        size = norm(truth.sample.factors[0]) * norm(truth.sample.factors[1])
    else:
        size = np.ones(len(w))
    low, top = w.min(-1), w.max(-1)
    moved = low + shift
    clear = low > 64 * truth.eps * top if not isinstance(damping, float) or damping == 0 else moved > 0
    with np.errstate(all="ignore"):
        condition = (top + shift) / moved * max(1, abs(exponent)) * size
    return np.asarray(clear & (condition < ORDINARY))


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
