"""Gradients of the polar decomposition M = U H.

That for the cotangent of U is msign's. For M = W diag(sigma) V^H and S = V^H Hb V, Hb the Hermitian part of the
cotangent of H = V diag(sigma) V^H,

    Mb = W (S o (1 + P)) V^H,    P_ij = (sigma_i - sigma_j) / (sigma_i + sigma_j),

with 2 (I - V V^H) Hb V as well, in the place of the columns of M^H, where M has more columns than rows. The error is
that of the Hermitian [[0, M], [M^H, 0]], of whose modulus H is a block: the slope of |x| jumps by 2 at 0. H has no
derivative at a singular value 0, where P counts as 0 and there is no error estimate.
Reference: Higham, Functions of Matrices (2008), chapter 8; Kenney and Laub, SIAM J. Matrix Anal. Appl. 12 (1991).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.decompositions import Singular
from matfn_kernels.linalg.invariant import multiplied
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.methods.gradients.differences import Differences
from matfn_kernels.methods.gradients.eigenbasis import spectral
from matfn_kernels.methods.gradients.products import added
from matfn_kernels.methods.gradients.program import EPS, GradientProgram, joined
from matfn_kernels.methods.gradients.sensitivity import moved
from matfn_kernels.methods.gradients.singular_values import LOST, ROUNDING, noise_of, of_odd_function
from matfn_kernels.methods.polar.decomposition import SvdDecomposition
from matfn_kernels.methods.polar.question import Polar
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.shared_decomposition import SharedSingular

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.methods.gradients.program import Gradient
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.signature import Signature

__all__ = ["PolarGradient", "candidates"]


@dataclass(frozen=True, slots=True)
class PolarGradient(GradientProgram):
    """Gradients of both polar factors.

    Attributes:
        program: computes them.
    """

    program: SvdDecomposition

    @property
    def shared(self) -> SharedSingular:
        """The singular value decomposition, which serves any function of the singular values."""
        return SharedSingular(self.program.question.large, self.program.question.small, self.wide)

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """M (batch, m, n), or M^H where that is taller."""
        return self.program.question.tall(inputs)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: m and x (batch, m, n), y (batch, n, n); one of x and y may be left out."""
        return self.finish(self.shared.of([self.matrices(inputs)]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """The factors of matrices that have been decomposed, and the gradient."""
        assert isinstance(decomposition, Singular)
        own, question = self.program.finish(decomposition, inputs), self.program.question
        parts, remarks = [], own.remarks
        if "x" in inputs:
            parts.append(of_odd_function(question, decomposition, inputs["x"].to(self.wide))[0])
        if "y" in inputs:
            turns = question.rows < question.columns
            part, lost = _of_modulus(decomposition, inputs["y"].to(self.wide), turns=turns)
            parts.append(part.without_estimate(lost))
            remarks = {**remarks, "no_full_rank": lost}
        return replace(joined(own, [added(parts)], self, inputs), remarks=remarks)


def _of_modulus(decomposition: Singular, cotangent: Tensor, *, turns: bool) -> tuple[Gradient, Tensor]:
    """The gradient of M for a cotangent of H (batch, n, n), and where a singular value is 0 to rounding, (batch,).

    Args:
        decomposition: of M, or of M^H if that `turns`.
        cotangent: of H.
        turns: whether M has more columns than rows.
    """
    c, exponent = normalise(symmetrise(cotangent))
    basis = decomposition.u if turns else decomposition.vh.mH
    turned = product(c, basis)
    s = symmetrise(product(basis.mH, turned))
    sigma, noise = decomposition.sigma.to(torch.float64), noise_of(decomposition)
    ratio = _ratio(sigma)
    inside = multiplied(1 - ratio if turns else 1 + ratio, s)
    tall, beside = product(decomposition.u, inside), None
    if turns:
        beside = turned - product(basis, s)
        tall = tall + 2 * beside
    value = product(tall, decomposition.vh)
    size, dilation = norm(value), _Dilation.of(decomposition, ratio, noise)
    change = dilation.change(invariant.magnitude(s), norm(c), beside) + orthogonality(sigma.shape[-1]) * EPS * size
    lost = (noise > LOST * sigma[:, -1]) & (change > 0)
    return spectral(value.mH.resolve_conj() if turns else value, change, size, 2 * norm(c), exponent), lost


def _ratio(sigma: Tensor) -> Tensor:
    """P of singular values (batch, n)."""
    total = sigma[:, :, None] + sigma[:, None, :]
    return (sigma[:, :, None] - sigma[:, None, :]) / torch.where(total > 0, total, 1.0)


@dataclass(frozen=True, slots=True)
class _Dilation:
    """The Hermitian [[0, M], [M^H, 0]]: eigenvalues sigma, -sigma, and 0, as one, where M is not square.

    Attributes:
        differences: of |x|.
        noise: norms of the rows of the backward error.
        is_square: whether M is.
    """

    differences: Differences
    noise: Tensor
    is_square: bool

    @classmethod
    def of(cls, decomposition: Singular, ratio: Tensor, noise: Tensor) -> _Dilation:
        """That of M = U diag(sigma) V^H."""
        sigma, n = decomposition.sigma.to(torch.float64), ratio.shape[-1]
        is_square = decomposition.u.shape[-2] == n
        same, other = torch.ones_like(ratio), ratio.abs()
        zero = torch.zeros_like(sigma[:, :1])
        first = _blocks(same, other, None if is_square else (torch.ones_like(sigma), zero))
        size = torch.cat((sigma, sigma) if is_square else (sigma, sigma, zero), -1)
        larger = torch.maximum(size[:, :, None], size[:, None, :])
        smallest = torch.maximum(sigma[:, -1], noise).clamp_min(torch.finfo(torch.float64).tiny)
        signs = torch.cat((torch.ones(n), -torch.ones(n), torch.zeros(0 if is_square else 1)))
        piece = signs.to(sigma.device, torch.int8).expand_as(size)
        rows = noise[:, None].expand(-1, 2 * n)
        rows = rows if is_square else torch.cat((rows, noise[:, None] * n**0.5), -1)
        jumps = 2 / torch.maximum(larger, smallest[:, None, None])
        return cls(Differences(first, jumps=jumps, piece=piece), rows, is_square)

    def change(self, s: Tensor, size: Tensor, beside: Tensor | None) -> Tensor:
        """Error of the gradient of M by the backward error and rounding, (batch,).

        Args:
            s: |S|.
            size: norm of the cotangent.
            beside: (I - V V^H) Hb V of wide M.
        """
        border = None
        if not self.is_square:
            column = torch.zeros_like(s[:, 0]) if beside is None else invariant.row_norm(beside.mT) * math.sqrt(2)
            border = column, (torch.zeros_like(size) if beside is None else 2 * size)[:, None]
        magnitudes = _blocks(s, s, border)
        rounding = ROUNDING * EPS * size[:, None, None] * self.differences.first.abs()
        return norm(moved(self.differences, magnitudes, self.noise) + rounding) / math.sqrt(2)


def _blocks(same: Tensor, other: Tensor, border: tuple[Tensor, Tensor] | None) -> Tensor:
    """[[same, other], [other, same]], with a column (batch, n) twice and a corner (batch, 1) around it if given."""
    rows = [torch.cat((same, other), -1), torch.cat((other, same), -1)]
    whole = torch.cat(rows, -2)
    if border is None:
        return whole
    column, corner = torch.cat((border[0], border[0]), -1)[:, :, None], border[1][:, :, None]
    return torch.cat((torch.cat((whole, column), -1), torch.cat((column.mT, corner), -1)), -2)


def candidates(call: Signature) -> list[PolarGradient]:
    """The one program that serves a call."""
    call.require_double()
    rows, columns = call.sizes("m")
    program = SvdDecomposition(Polar(rows, columns, None, call.dtype), Precision.FP64, pinned=call.is_pinned)
    return [PolarGradient(program, program.question.small, call.names, call.cotangents)]
