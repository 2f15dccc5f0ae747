"""Claimed eigenpairs of Hermitian matrices, measured: residual, orthogonality, and by them a bound of the values.

For W = diag(w) and a square V, R = A V - V W and D = V^H V - I, in the arithmetic of float64, on the numbers that are
returned. If ||D|| < 1 then the values, sorted, satisfy |w_i - lambda_i| <= ||R||_2 / sigma_min(V) <= ||R||_2 / sqrt(1 -
||D||). Small R and D are formed, and ||R||_2^4 <= ||(R^H R)^2||_F; large ones are applied to random columns, which give
the Frobenius norms, and ||R||_2 by block power iteration. The rounding of the measurement is added.
References: Kahan, Inclusion theorems (1967); Cao, Xie and Li, Linear Algebra Appl. 239 (1996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.programs.profile import Profile

__all__ = ["Measured", "double", "forming_seconds", "measuring_seconds", "skew_of", "turned"]

_EPS: Final = torch.finfo(torch.float64).eps
_FORMED: Final = 128
"""Largest order at which R and D are formed, in a tenth of the time of eigh; from 512 on it would be half of it."""
_COLUMNS: Final = 16
"""Random columns beyond it. A matrix of rank 1 seems less than half of what it is once in 1000 times; errors by
rounding have a rank of the order."""
_MARGIN: Final = 1.5
"""How often a norm counts that was found on random columns. The norms of R and D of 384 answers of orders 129 to 1024
were found to 0.93 and more."""
_ROUNDS: Final = 3
"""Of power iteration on four columns; the norms of R of orders 256 to 1024 were found to 0.70 and more."""
_ROUNDING: Final = 0.5
"""Rounding of products of order n in float64, in eps n^(1/2) times the norms of their factors.

A V and V^H V of orders 8 to 600, of four spectra, were off by 0.14 to 0.27 of these units."""
_PRODUCTS: Final = 4.0
"""Products that form R and D and bound the norm of R."""
_APPLIED: Final = 300.0
"""Columns of products beyond that order: 16 times 5, and 4 times 18, at twice the time of those of a whole product."""
_POWER: Final = 1.01
"""||(R^H R)^2||_F^(1/4) of R in single precision is within a hundredth."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Errors of eigenpairs, (batch,) float64.

    Attributes:
        residual: ||A V - V W||_F / ||A||_F.
        skew: ||V^H V - I||_F / n^(1/2).
        values: a bound of max |w_i - lambda_i| / ||A||_2; infinite where V may be singular.
    """

    residual: Tensor
    skew: Tensor
    values: Tensor

    @classmethod
    def of(cls, a: Tensor, w: Tensor, v: Tensor) -> Self:
        """The errors of w (batch, n) and V (batch, n, n) for Hermitian A (batch, n, n), in double precision."""
        return cls._by_norms(a, w, skew_of(v), _formed(a, w, v) if a.shape[-1] <= _FORMED else _sampled(a, w, v))

    @classmethod
    def wholly(cls, a: Tensor, w: Tensor, v: Tensor) -> Self:
        """`of` with R and D formed at any order: where one pair alone is wrong, random columns may miss it."""
        return cls._by_norms(a, w, _formed_skew(v), _formed(a, w, v))

    @classmethod
    def _by_norms(cls, a: Tensor, w: Tensor, skew: Tensor, norms: tuple[Tensor, Tensor]) -> Self:
        """The errors by the norms of D and of R, Frobenius norm and 2-norm."""
        order, (left, largest) = a.shape[-1], norms
        unit = _ROUNDING * _EPS * math.sqrt(order)
        size, top = norm(a), w.abs().amax(-1)
        defect = skew * math.sqrt(order)
        bound = torch.where(defect < 1, (largest + unit * top) / (1 - defect).clamp_min(_EPS).sqrt(), math.inf)
        bound = bound / (top - bound).clamp_min(0)  # ||A||_2 is at least this
        return cls(
            residual=torch.where(size > 0, left / size, 0.0) + unit,
            skew=skew,
            values=torch.where(size > 0, bound, 0.0).nan_to_num(math.inf, math.inf),
        )

    @property
    def error(self) -> Tensor:
        """The largest of the three, (batch,)."""
        return torch.maximum(torch.maximum(self.residual, self.values), self.skew)


def _formed(a: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Frobenius norm of R and a bound of its 2-norm, (batch,) each."""
    missing = torch.sub(invariant.product(a, v), v * w[:, None, :].to(v.dtype))
    length = norm(missing)
    single = torch.complex64 if missing.dtype.is_complex else torch.float32
    unit = invariant.divided(missing, torch.where(length > 0, length, 1.0)[:, None, None]).to(single)
    gram = invariant.product(unit.mH, unit)
    fourth = invariant.matrix_norm(invariant.product(gram, gram), torch.float64)
    return length, length * (_POWER * fourth.sqrt().sqrt()).clamp_max(1.0)


def _sampled(a: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates of the Frobenius norm of R and of its 2-norm, (batch,) each."""
    order, values = a.shape[-1], w[..., None].to(v.dtype)

    def applied(x: Tensor) -> Tensor:
        return probes.times(a, probes.times(v, x)) - probes.times(v, values * x)

    def squared(x: Tensor) -> Tensor:
        image = applied(x)
        return probes.times(v.mH, probes.times(a, image)) - values * probes.times(v.mH, image)

    z = probes.gaussian(v, order, _COLUMNS)
    length = _MARGIN * norm(applied(z)) / math.sqrt(_COLUMNS)
    scale = torch.where(length > 0, length, 1.0)
    square = probes.growth(lambda x: invariant.divided(squared(x), scale[:, None, None].square()), z[..., :4], _ROUNDS)
    return length, torch.minimum(length, _MARGIN * scale * square.sqrt())


def skew_of(v: Tensor) -> Tensor:
    """||V^H V - I||_F / n^(1/2) of V (batch, n, n) in double precision, its rounding added, (batch,)."""
    order = v.shape[-1]
    if order <= _FORMED:
        return _formed_skew(v)
    rounding = _ROUNDING * _EPS * math.sqrt(order)
    z = probes.gaussian(v, order, _COLUMNS)
    return _MARGIN * norm(probes.times(v.mH, probes.times(v, z)) - z) / math.sqrt(_COLUMNS * order) + rounding


def _formed_skew(v: Tensor) -> Tensor:
    """`skew_of` with V^H V formed."""
    order = v.shape[-1]
    gram = invariant.product(v.mH, v)
    gram.diagonal(dim1=-2, dim2=-1).sub_(1)
    return norm(gram) / math.sqrt(order) + _ROUNDING * _EPS * math.sqrt(order)


def measuring_seconds(profile: Profile, order: int) -> float:
    """Predicted device seconds to measure the eigenpairs of a matrix."""
    products = _PRODUCTS if order <= _FORMED else _APPLIED / order
    return products * profile.cost("gemm", Precision.FP64, order)


def forming_seconds(profile: Profile, order: int) -> float:
    """Predicted device seconds to measure them with R and D formed."""
    return _PRODUCTS * profile.cost("gemm", Precision.FP64, order)


def double(dtype: torch.dtype) -> torch.dtype:
    """Float64, or complex128 for complex matrices."""
    return torch.complex128 if dtype.is_complex else torch.float64


def turned(v: Tensor, phase: Tensor) -> Tensor:
    """The columns of V (batch, m, n) times numbers (batch, n), by products of real numbers, which have one rounding."""
    if not v.dtype.is_complex:
        return v * phase[:, None, :]
    (x, y), (c, s) = (torch.view_as_real(z.resolve_conj().contiguous()).unbind(-1) for z in (v, phase[:, None, :]))
    return torch.complex(x * c - y * s, x * s + y * c)
