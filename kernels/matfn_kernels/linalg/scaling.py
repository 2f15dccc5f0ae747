"""Powers of two: matrices brought near 1 exactly before anything is computed, and back at the very end.

All inputs of a method are scaled, so that 1e300 and 1e-300 cost no digit and no square overflows. The way back is taken
in one place, `release`, which also measures its error: an answer that becomes subnormal or zero in the output's dtype
has that in its certificate.

On a CPU the rare matrices that need more care are looked for and treated alone. On a GPU, where such a question waits
for the device and cannot be recorded, all matrices are treated so.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from matfn_kernels.linalg import invariant

__all__ = [
    "distance",
    "narrowed",
    "norm",
    "norm_bound",
    "normalise",
    "overflows",
    "power_of_two",
    "real_dtype",
    "release",
    "rescale",
]

_LEAST: Final = 1e-140
"""Norms above it, and below its inverse, need no scaling: squares of entries 1e-13 times as large are still normal."""
_MARGIN_BITS: Final = 10
"""Distance from the subnormal numbers: an entry that is rounded once more there is below 2^-10 eps of the largest."""
_EXPONENTS: Final = {torch.float16: 14, torch.bfloat16: 100, torch.float32: 100, torch.float64: 1000}
"""Powers of two with these exponents and their inverses are normal numbers of the dtype."""


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The real dtype of the same precision."""
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def normalise(a: Tensor) -> tuple[Tensor, Tensor]:
    """A 2^-e with the largest entry in [1/2, 1), and e (batch,); exact, e = 0 for a zero matrix."""
    exponent = torch.frexp(invariant.peak(a).to(torch.float64)).exponent.to(torch.int64)
    return rescale(a, -exponent), exponent


def narrowed(a: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`normalise`, then the cast to a dtype that may have a smaller range."""
    scaled, exponent = normalise(a.to(torch.promote_types(a.dtype, dtype)))
    return scaled.to(dtype), exponent


def rescale(a: Tensor, exponent: Tensor) -> Tensor:
    """A 2^exponent with an integer exponent per matrix, in steps of which no factor overflows."""
    shape = (-1, *[1] * (a.dim() - 1))
    limit = _EXPONENTS[real_dtype(a.dtype)]
    left = exponent
    for _ in range(3):
        part = left.clamp(-limit, limit)
        a = a * invariant.two_to(part).to(real_dtype(a.dtype)).reshape(shape)
        left = left - part
        if a.device.type == "cpu" and not bool(left.any()):
            break
    return a


def power_of_two(value: Tensor, exponent: Tensor, numerator: int, denominator: int) -> tuple[Tensor, Tensor]:
    """Value 2^(exponent numerator / denominator) as a value and its missing exponent, a whole number."""
    product = exponent * numerator
    whole = torch.div(product, denominator, rounding_mode="floor")
    fraction = invariant.exp2((product - whole * denominator).to(torch.float64) / denominator)
    return value * fraction.to(real_dtype(value.dtype)).reshape(-1, *[1] * (value.dim() - 1)), whole


def norm(x: Tensor) -> Tensor:
    """Frobenius norm over all but the first dimension, (batch,) float64; no square under- or overflows."""
    flat = x.reshape(len(x), -1)
    if flat.device.type != "cpu":
        return _scaled_norm(flat)
    length = invariant.row_norm(flat, torch.float64)
    doubtful = ~((length > _LEAST) & (length < 1 / _LEAST))
    if bool(doubtful.any()):
        length[doubtful] = _scaled_norm(flat[doubtful])
    return length


def _scaled_norm(flat: Tensor) -> Tensor:
    """`norm` of rows (batch, n) whose squares might leave float64's range."""
    size = invariant.magnitude(flat).to(torch.float64)
    peak = size.amax(-1)
    safe = torch.where((peak > 0) & torch.isfinite(peak), peak, torch.ones_like(peak))
    return safe * invariant.row_norm(size / safe[:, None])


def norm_bound(a: Tensor, frobenius: Tensor) -> Tensor:
    """||A^H A||_F^(1/2) of A (batch, m, n) near 1 in size: above the 2-norm, below the Frobenius norm; 1 for zero.

    For one more product it is nearer to the 2-norm, by up to the fourth root of the rank: 2.6 times above it where the
    Frobenius norm is 9.8 times (Wishart matrices of order 512). What an iteration resolves is relative to this bound.
    """
    one = torch.ones_like(frobenius)
    unit = invariant.divided(a, torch.where(frobenius > 0, frobenius, one)[:, None, None])
    bound = frobenius * invariant.matrix_norm(invariant.product(unit.mH, unit)).sqrt()
    return torch.where(bound > 0, bound, one)


def release(value: Tensor, exponent: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Value 2^exponent in the output's dtype, and the relative error of the conversion, (batch,)."""
    wide = value.to(torch.promote_types(value.dtype, dtype))
    if exponent is None:
        if wide.dtype == dtype:
            return wide, torch.zeros(len(value), dtype=torch.float64, device=value.device)
        exponent = torch.zeros(len(wide), dtype=torch.int64, device=wide.device)
    if wide.device.type != "cpu":
        return _released(wide, exponent, dtype)
    rounded = wide.to(dtype)
    out, error = rescale(rounded, exponent), distance(rounded, wide)
    small = ~_is_far_from_subnormal(wide, exponent, dtype)
    if bool(small.any()):
        out[small], error[small] = _released(wide[small], exponent[small], dtype)
    return out, error


def _is_far_from_subnormal(wide: Tensor, exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether scaling by a power of two may come after rounding, (batch,).

    The numbers must fit into the dtype before they are scaled, and what is subnormal before or after be negligible.
    """
    if not wide.numel():
        return torch.ones(len(wide), dtype=torch.bool, device=wide.device)
    kind = torch.finfo(dtype)
    peak = invariant.peak(wide).to(torch.float64)
    bits, least = torch.frexp(peak).exponent, math.log2(kind.tiny) - math.log2(kind.eps) + _MARGIN_BITS
    fits = (bits > least) & (bits < math.frexp(kind.max)[1])
    return (peak > 0) & fits & (bits + exponent > least)


def _released(wide: Tensor, exponent: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`release` where numbers may become subnormal: scaled first, then rounded once."""
    out = rescale(wide, exponent).to(dtype)
    return out, distance(rescale(out.to(wide.dtype), -exponent), wide)


def overflows(value: Tensor, exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """Which matrices value 2^exponent have an entry that is infinite in the dtype, (batch,)."""
    bits = torch.frexp(invariant.peak(value).to(torch.float64)).exponent + exponent
    near = bits >= math.frexp(torch.finfo(dtype).max)[1]
    if value.is_cpu and not bool(near.any()):
        return near
    parts = release(value, exponent, dtype)[0]
    parts = torch.view_as_real(parts) if parts.dtype.is_complex else parts
    return near & torch.isinf(parts).flatten(1).any(-1)


def distance(rounded: Tensor, exact: Tensor) -> Tensor:
    """||rounded - exact|| / ||exact||, (batch,); 0 where both are zero."""
    if rounded is exact:
        return torch.zeros(len(exact), dtype=torch.float64, device=exact.device)
    size = norm(exact)
    error = norm(rounded - exact) / size
    return torch.where(size > 0, error, torch.zeros_like(error))
