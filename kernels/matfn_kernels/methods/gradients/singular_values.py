"""Gradients of the polar factor and of clipped singular values.

For M = U diag(sigma) V^H with at least as many rows as columns, f the function of the singular values (1 on the
numerical range for the polar factor), C the cotangent and G = U^H C V,

    Mb = U (sym(G) o F- + skew(G) o F+) V^H + (I - U U^H) C V diag(f / sigma) V^H,

F-_ij = (f_i - f_j) / (sigma_i - sigma_j) and F+_ij = (f_i + f_j) / (sigma_i + sigma_j). For the polar factor F- is 0
and F+ = 2 / (sigma_i + sigma_j): the smallest singular values make its condition, the two smallest of a real square M.
The numerical range is held constant. A wide M is transposed. The error is that of the Hermitian [[0, M], [M^H, 0]],
whose eigenvalues are sigma, -sigma and 0, and of which Mb is F o S for the odd function f.
Reference: kexue.fm/archives/11006; Higham, Functions of Matrices (2008), chapter 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.decompositions import Singular
from matfn_kernels.linalg.measured import MARGIN
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.methods.gradients.differences import Differences, odd_clip
from matfn_kernels.methods.gradients.eigenbasis import NOISE, spectral
from matfn_kernels.methods.gradients.program import EPS, GradientProgram, joined
from matfn_kernels.methods.gradients.sensitivity import moved, multiplied
from matfn_kernels.methods.polar.candidates import question_of
from matfn_kernels.methods.polar.singular_values import Multiplier
from matfn_kernels.methods.polar.svd import SvdPolar
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.shared_decomposition import SharedSingular

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.methods.gradients.program import Gradient
    from matfn_kernels.methods.polar.question import Polar
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.signature import Signature

__all__ = ["LOST", "ROUNDING", "SingularGradient", "candidates", "noise_of", "of_odd_function"]

ROUNDING: Final = 8.0
"""Error of an entry of U^H C V in units of eps ||C||_F: of two products, and of the vectors."""
LOST: Final = 0.1
"""Largest part of a singular value of the range that its noise may be where the error to first order is trusted."""


@dataclass(frozen=True, slots=True)
class SingularGradient(GradientProgram):
    """Gradients of the polar factor, or of a clip of the singular values.

    Attributes:
        program: the function itself.
    """

    program: SvdPolar

    @property
    def shared(self) -> SharedSingular:
        """The singular value decomposition, which serves any function of the singular values."""
        return SharedSingular(self.program.question.large, self.program.question.small, self.wide)

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """M (batch, m, n), or M^H where that is taller."""
        return self.program.question.tall(inputs)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: m and x (batch, m, n)."""
        return self.finish(self.shared.of([self.matrices(inputs)]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """The function of matrices that have been decomposed, and its gradients."""
        assert isinstance(decomposition, Singular)
        own = self.program.finish(decomposition, inputs)
        gradient, near = of_odd_function(self.program.question, decomposition, inputs["x"].to(self.wide))
        found = joined(own, [gradient.without_estimate(near)], self, inputs)
        return replace(found, remarks={**found.remarks, "on_a_bound": near})


def of_odd_function(question: Polar, decomposition: Singular, cotangent: Tensor) -> tuple[Gradient, Tensor]:
    """The gradient of M for a cotangent of U f(Sigma) V^H (batch, m, n), and where a value lies on a bound."""
    turns = question.rows < question.columns
    c, exponent = normalise(cotangent.mH.resolve_conj() if turns else cotangent)
    values = _Values.of(question, decomposition)
    part = _Part.of(decomposition, c)
    inside, beside = part.weighed(values)
    tall = product(product(decomposition.u, inside) + beside, decomposition.vh)
    lacking = exponent - decomposition.exponent if question.bounds is None else exponent
    return spectral(tall.mH if turns else tall, *part.judged(values), lacking), values.near


@dataclass(frozen=True, slots=True)
class _Values:
    """A function of singular values, its differences, and what bounds their changes, (batch, n) unless stated.

    Attributes:
        sigma: singular values, descending.
        keep: the numerical range.
        f: the function.
        quotient: f / sigma, its derivative where sigma is 0.
        minus: F- (batch, n, n).
        plus: F+ (batch, n, n).
        lo: lower bound of a clip (batch, 1), 0 for none.
        hi: upper bound (batch, 1), infinity for none.
        noise: norm of a row of the backward error, (batch,).
        near: where a value lies on a bound of a clip, (batch,).
        is_sign: whether it is the polar factor.
    """

    sigma: Tensor
    keep: Tensor
    f: Tensor
    quotient: Tensor
    minus: Tensor
    plus: Tensor
    lo: Tensor
    hi: Tensor
    noise: Tensor
    near: Tensor
    is_sign: bool

    @classmethod
    def of(cls, question: Polar, decomposition: Singular) -> _Values:
        """The polar factor's or the clip's values on decomposed matrices."""
        sigma = decomposition.sigma.to(torch.float64)
        multiplier = Multiplier.of(question, Precision.FP64, sigma, decomposition.exponent)
        noise, keep = noise_of(decomposition), multiplier.keep
        none = torch.zeros_like(noise)
        lo, hi = (none[:, None], none[:, None] + math.inf) if multiplier.bounds is None else multiplier.bounds
        h = multiplier(sigma)
        on_hi, on_lo = (sigma - hi).abs() <= noise[:, None], keep & (lo > 0) & ((sigma - lo).abs() <= noise[:, None])
        if question.bounds is None:
            f, slope = keep.to(sigma.dtype), torch.zeros_like(sigma)
        else:
            near = on_hi | on_lo
            f = torch.where(near, sigma, h * sigma)
            slope = torch.where(near, 1.0, (f == sigma).to(sigma.dtype))
            h = torch.where(near, 1.0, h)
        minus, plus = odd_clip(sigma, f, slope)
        return cls(sigma, keep, f, h, minus, plus, lo, hi, noise, (on_hi | on_lo).any(-1), question.bounds is None)


def noise_of(decomposition: Singular) -> Tensor:
    """Norm of a row of the backward error, (batch,): measured, since bidiagonal QR may drop more than its law."""
    m, sigma = decomposition.m, decomposition.sigma
    u, v = decomposition.u, decomposition.vh.mH
    z = probes.gaussian(m, m.shape[-1]).to(m.dtype)
    right = probes.times(m, probes.times(v, z)) - probes.times(u, multiplied(sigma[..., None], z))
    left = probes.times(m.mH, probes.times(u, z)) - probes.times(v, multiplied(sigma[..., None], z))
    missed = MARGIN * norm(torch.cat((right, left), dim=-2)) / probes.COUNT**0.5
    law = NOISE * EPS * sigma[:, 0] + decomposition.skew * sigma[:, 0]
    return torch.maximum(law, torch.where(missed > law * m.shape[-1] ** 0.5, missed, law))


@dataclass(frozen=True, slots=True)
class _Part:
    """The cotangent C of tall M in the bases of its singular vectors, scaled by itself.

    Attributes:
        sym: of U^H C V, (batch, n, n).
        skew: of U^H C V, (batch, n, n).
        beside: (I - U U^H) C V, (batch, m, n); 0 for square M.
        size: ||C||_F, (batch,).
        is_square: whether nothing lies beside the range of U.
    """

    sym: Tensor
    skew: Tensor
    beside: Tensor
    size: Tensor
    is_square: bool

    @classmethod
    def of(cls, decomposition: Singular, c: Tensor) -> _Part:
        """The parts of a cotangent (batch, m, n)."""
        u, turned = decomposition.u, product(c, decomposition.vh.mH)
        inner = product(u.mH, turned)
        sym = symmetrise(inner)
        square = u.shape[-2] == u.shape[-1]
        beside = torch.zeros_like(turned) if square else turned - product(u, inner)
        return cls(sym, (inner - inner.mH) * 0.5, beside, norm(c), square)

    def weighed(self, values: _Values) -> tuple[Tensor, Tensor]:
        """The gradient in the bases, and what lies beside the range of U (batch, m, n)."""
        inside = multiplied(values.minus, self.sym) + multiplied(values.plus, self.skew)
        return inside, multiplied(values.quotient[:, None, :], self.beside)

    def judged(self, values: _Values) -> tuple[Tensor, Tensor, Tensor]:
        """Error of the gradient by the backward error and rounding, its norm, and bound of its norm, (batch,) each."""
        s, differences, noise = self._dilated(values)
        size = norm(multiplied(differences.first, s)) / math.sqrt(2)
        rounding = ROUNDING * EPS * self.size[:, None, None] * differences.first.abs()
        change = moved(differences, s, noise) + rounding
        n = values.sigma.shape[-1]
        if not self.sym.dtype.is_complex:
            _without_partners(change)
        error = norm(change) / math.sqrt(2) + orthogonality(n) * EPS * size
        least = torch.where(values.keep, values.sigma, math.inf).amin(-1)
        lost = (values.noise > LOST * least) & (values.is_sign | (values.lo[:, 0] > 0))
        most = differences.first.abs().amax((-2, -1)) * self.size
        return torch.where(lost & (error > 0), math.inf, error), size, most

    def _dilated(self, values: _Values) -> tuple[Tensor, Differences, Tensor]:
        """Magnitudes of S, F and its bounds, and norms of rows of the backward error, of [[0, M], [M^H, 0]].

        The eigenvalues are sigma, -sigma, and 0 for all that lies beside the range of U, as one.
        """
        sym, skew = invariant.magnitude(self.sym), invariant.magnitude(self.skew)
        beside = invariant.row_norm(self.beside.mT) / math.sqrt(2)
        s = _bordered(sym, skew, beside)
        edge = torch.zeros_like(values.quotient) if self.is_square else values.quotient
        first = _bordered(values.minus, values.plus, edge)
        if not self.sym.dtype.is_complex:
            _without_partners(first)
        sigma = values.sigma
        zero = torch.zeros_like(sigma[:, :1])
        size = torch.cat((sigma, sigma, zero), -1)
        noise = values.noise[:, None]
        rows = torch.cat((noise.expand_as(sigma), noise.expand_as(sigma), noise * sigma.shape[-1] ** 0.5), -1)
        return s, Differences(first, _weights(values, size), *_jumps(values, size)), rows


def _without_partners(x: Tensor) -> None:
    """Sets to 0 what ties sigma_i and -sigma_i: diagonals of skew parts, which are 0 for real S and real errors."""
    n = x.shape[-1] // 2
    for block in (x[:, :n, n : 2 * n], x[:, n : 2 * n, :n]):
        block.diagonal(dim1=-2, dim2=-1).zero_()


def _bordered(same: Tensor, other: Tensor, border: Tensor) -> Tensor:
    """[[same, other, border], [other, same, border], [border^T, border^T, 0]] of (batch, n, n) and (batch, n)."""
    column = border[:, :, None]
    corner = torch.zeros_like(column[:, :1])
    blocks = (same, other, column), (other, same, column), (column.mT, column.mT, corner)
    return torch.cat([torch.cat(row, -1) for row in blocks], -2)


def _weights(values: _Values, size: Tensor) -> Tensor | None:
    """Weights of the jump at 0, which the polar factor has, and a clip with a lower bound."""
    least = torch.where(values.keep, values.sigma, math.inf).amin(-1).nan_to_num(posinf=1.0)
    larger = torch.maximum(size[:, :, None], size[:, None, :])
    jumps = torch.ones_like(values.lo[:, 0], dtype=torch.bool) if values.is_sign else values.lo[:, 0] > 0
    return jumps[:, None, None].to(size.dtype) / torch.maximum(larger, least[:, None, None])


def _jumps(values: _Values, size: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Bounds of second differences where the slope of a clip jumps, and the number of each value's linear piece."""
    if values.is_sign:
        return None, None
    lo, hi, noise = values.lo, values.hi, values.noise[:, None]
    distance = torch.minimum((size - hi).abs(), torch.where(lo > 0, (size - lo).abs(), math.inf))
    piece = (size > hi + noise).to(torch.int8) + ((lo > 0) & (size > lo)).to(torch.int8)
    n = values.sigma.shape[-1]
    sign = torch.cat((torch.ones(n), -torch.ones(n), torch.ones(1))).to(size.device, torch.int8)
    jumps = 1 / torch.maximum(distance[:, :, None], distance[:, None, :]).clamp_min(noise[:, :, None])
    return jumps, piece * sign


def candidates(call: Signature) -> list[SingularGradient]:
    """The one program that serves a call."""
    call.require_double()
    question = question_of(call)
    program = SvdPolar(question, Precision.FP64, pinned=call.is_pinned)
    return [SingularGradient(program, question.small, call.names, call.cotangents)]
