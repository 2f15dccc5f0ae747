"""Divided differences of logarithms, exponentials and real powers, each to a few roundings, and bounds of second ones.

With u the larger and v the smaller of two positive arguments and d = log(v / u) no difference of nearly equal numbers
is divided by another:

    log[u, v] = -d / (u - v),    exp[x, y] = e^max(x, y) (1 - e^-|x - y|) / |x - y|,
    p[u, v] = u^p (1 - e^(p d)) / (u - v)  for p > 0,    v^p (e^(-p d) - 1) / (u - v)  for p < 0.

Second differences T_ikj = |f[w_i, w_k, w_j]| are at most weight_ij (|f[w_i, w_k]| + |f[w_j, w_k]|)
(`gradients.differences`): for e^x with the weight 1, since d f[x, y] / dx is at most f[x, y]; for powers, of which
|x d f[x, y] / dx| <= |p - 1| |f[x, y]|, with max(2, 2 |p - 1|) over the larger argument; for the logarithm as for
p = 0. Powers of numbers of either sign have |f''| / 2 at the largest argument, for p < 0 at the smallest.
Reference: Higham, Functions of Matrices (2008), sections 3.2 and 11.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.methods.gradients.differences import Differences, on_range
from matfn_kernels.methods.spectral.maps import CLOSEST, Exponential, RealPower, WholePower

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.methods.spectral.maps import Scalar

__all__ = ["of_function"]

_NEAR: Final = 1 / 2
"""Least quotient of two numbers of which log1p of their relative difference has the logarithm to an ulp."""


def of_function(function: Scalar, x: Tensor, f: Tensor, keep: Tensor | None) -> Differences:
    """Differences of a function on its arguments x (batch, n), f(x) the values.

    Args:
        function: g.
        x: its arguments.
        f: its values g(x) and a number that is the same for all.
        keep: arguments (batch, n) outside of which the function is 0, held fixed; None for all.
    """
    found = _of_all(function, x)
    if keep is None:
        return found
    size = x.abs()
    least = torch.where(keep, size, torch.inf).amin(-1)[:, None, None].nan_to_num(posinf=1.0)
    larger = torch.maximum(torch.maximum(size[:, :, None], size[:, None, :]), least)
    first = on_range(found.first, x, f, keep)
    return Differences(first, weights=_steepness(function) / larger)


def _steepness(function: Scalar) -> float:
    """Weight of a power of arguments near 1."""
    p = function.p if isinstance(function, RealPower | WholePower) else 0.0
    return max(2.0, 2 * abs(p - 1))


def _of_all(function: Scalar, x: Tensor) -> Differences:
    rows, columns = x[:, :, None], x[:, None, :]
    if isinstance(function, Exponential):
        first = _of_exponential(rows, columns)
        return Differences(first, weights=torch.ones_like(first))
    if isinstance(function, WholePower):
        return _of_whole(function, x)
    first = _of_real(function.p, x) if isinstance(function, RealPower) else _of_logarithm(x)
    return Differences(first, weights=_steepness(function) / torch.maximum(rows, columns))


def _of_exponential(x: Tensor, y: Tensor) -> Tensor:
    gap = (x - y).abs()
    mean = torch.where(gap > 0, -invariant.expm1(-gap) / torch.where(gap > 0, gap, 1.0), 1.0)
    return invariant.exp(torch.maximum(x, y)) * mean


def _of_logarithm(x: Tensor) -> Tensor:
    """Of log x on x (batch, n) above 0."""
    u, v, gap = _pairs(x.clamp_min(torch.finfo(x.dtype).tiny))
    return torch.where(gap > 0, -_logarithm(u, v) / torch.where(gap > 0, gap, 1.0), 1 / u)


def _pairs(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The larger and the smaller of each pair of x (batch, n), and their difference, (batch, n, n) each."""
    rows, columns = x[:, :, None], x[:, None, :]
    u, v = torch.maximum(rows, columns), torch.minimum(rows, columns)
    return u, v, u - v


def _logarithm(u: Tensor, v: Tensor) -> Tensor:
    """log(v / u) of 0 <= v <= u, -infinity for v = 0 < u, and 0 for u = 0."""
    u = torch.where(u > 0, u, 1.0)
    near = invariant.log1p(((v - u) / u).clamp_min(-_NEAR))
    far = invariant.log(v.clamp_min(torch.finfo(v.dtype).tiny)) - invariant.log(u)
    return torch.where(v == 0, -torch.inf, torch.where(v > _NEAR * u, near, far))


def _of_real(p: float, x: Tensor) -> Tensor:
    """Of x^p on x (batch, n) from 0 up, for an inverse power from `CLOSEST` up; infinite where the derivative is."""
    x = x.clamp_min(CLOSEST) if p < 0 else x
    u, v, gap = _pairs(x)
    f, d = invariant.power(x, p), _logarithm(u, v)
    rest = -invariant.expm1(p * d) if p > 0 else invariant.expm1(-p * d)
    across = torch.maximum(f[:, :, None], f[:, None, :]) * rest / torch.where(gap > 0, gap, 1.0)
    slope = p * invariant.power(u.clamp_min(torch.finfo(x.dtype).tiny), p - 1)
    slope = torch.where((u == 0) & (p < 1), torch.inf, slope)
    return torch.where(gap > 0, across, slope)


def _of_whole(function: WholePower, x: Tensor) -> Differences:
    """Of x^p on x (batch, n) of either sign, p a whole number."""
    p, size = function.p, x.abs()
    rows, columns = x[:, :, None], x[:, None, :]
    if p in (0, 1):
        first = torch.full_like(rows * columns, float(p))
        return Differences(first, jumps=torch.zeros_like(first))
    f, gap = function.plain(x), rows - columns
    across = (f[:, :, None] - f[:, None, :]) / torch.where(gap == 0, 1.0, gap)
    sign = torch.where(rows < 0, -1.0, 1.0) if p % 2 == 0 else torch.ones_like(rows)
    first = torch.where(rows * columns > 0, sign * _of_real(float(p), size), across)
    extreme = size.amax(-1) if p > 0 else size.amin(-1).clamp_min(CLOSEST)
    second = abs(p * (p - 1)) / 2 * invariant.power(extreme, float(p - 2))
    return Differences(first, jumps=second[:, None, None].expand_as(first))
