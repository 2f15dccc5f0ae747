"""Gradients of solutions with T = diag(l) + tril(Q K^T, -1), T itself never formed.

For T X = B and the cotangent C of X: Z solves T^H Z = C, and with L = -tril(Z X^H)

    Bb = Z,    lb_i = -sum_j Z_ij conj(X_ij),    Qb = tril(L, -1) conj(K),    Kb = tril(L, -1)^T conj(Q).

Products with tril(Z X^H, -1) run down the rows in chunks with a state of m x d numbers, as the solution does. For T^T
the factors of L are exchanged. The error is that of both solutions, to first order, and of the products by norms.
Reference: kexue.fm/archives/11072.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import norm
from matfn_kernels.linalg.triangles import Problem, corrected
from matfn_kernels.methods.gradients.products import Factor, multiplied_out, of_factor
from matfn_kernels.methods.gradients.program import EPS, GradientProgram, joined
from matfn_kernels.methods.triangular.low_rank import CHUNK, LowRank, LowRankProgram, Parts
from matfn_kernels.numbers.blocks import blocks
from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.signature import Signature

__all__ = ["LowRankGradient", "candidates"]


@dataclass(frozen=True, slots=True)
class LowRankGradient(GradientProgram):
    """Gradients of solutions with diagonal-plus-low-rank matrices.

    Attributes:
        program: computes the solution.
    """

    program: LowRankProgram

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: diag (batch, n), q and k (batch, n, d), b and x (batch, n, m)."""
        own = self.program.run(inputs)
        diag, q, k, right = (inputs[name].to(self.wide) for name in ("diag", "q", "k", "x"))
        parts = Parts(diag, q, k)
        turned, parts = LowRank(parts, self.program.transpose).adjoint(), parts.conj()
        z = turned.solve(right)
        magnified = LowRank(parts.abs(), turned.transpose)
        residual, error = corrected(
            z, right, Problem(turned.multiply, turned.solve, magnified.multiply), Precision.FP64
        )
        solution = Factor(own.outputs[0].to(self.wide).conj().resolve_conj(), own.error, own.condition)
        adjoint = Factor(z, error + EPS, own.condition)
        pair = (solution, adjoint) if self.program.transpose else (adjoint, solution)
        left, other = (factor.value for factor in pair)
        flipped = (x.flip(1).contiguous() for x in (other, left, parts.q))
        gradients = [
            multiplied_out(invariant.negative(_dots(left, other)), pair),
            multiplied_out(invariant.negative(_below(left, other, parts.k)), pair, norm(k)),
            multiplied_out(invariant.negative(_below(*flipped)).flip(1), pair, norm(q)),
            of_factor(adjoint),
        ]
        return replace(joined(own, gradients, self, inputs), residual_name="T^H Z - C", residual=residual)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices; with d = 0 the matrix is its diagonal, and only its generators have empty gradients."""
        if inputs["diag"].numel() == 0 or inputs["b"].numel() == 0:
            return GradientProgram.empty(self, inputs)
        one = torch.zeros(*inputs["diag"].shape, 1, dtype=self.dtype, device=inputs["diag"].device)
        x, diag, q, k, b = self.run({**inputs, "q": one, "k": one}).outputs
        return tuple(found.to(self.dtype) for found in (x, diag, q[..., :0], k[..., :0], b))


def _dots(x: Tensor, y: Tensor) -> Tensor:
    """Sums over the last dimension of X Y elementwise."""
    if not x.dtype.is_complex:
        return invariant.sums(x * y)
    a, b, c, d = x.real, x.imag, y.real, y.imag
    return torch.complex(invariant.sums(a * c - b * d), invariant.sums(a * d + b * c))


def _below(left: Tensor, right: Tensor, x: Tensor) -> Tensor:
    """tril(left right^T, -1) X of left and right (batch, n, m) and X (batch, n, d)."""
    state = x.new_zeros(len(x), left.shape[-1], x.shape[-1])
    out = torch.empty_like(x)
    for rows in blocks(x.shape[1], CHUNK):
        mine, others, columns = left[:, rows], right[:, rows], x[:, rows]
        inner = product(mine, others.mT).tril_(-1)
        out[:, rows] = product(inner, columns) + product(mine, state)
        state = state + product(others.mT, columns)
    return out


def candidates(call: Signature) -> list[LowRankGradient]:
    """The one program that serves a call."""
    call.require_double()
    (order, rank), columns, transpose = call.sizes("q"), call.sizes("b")[-1], bool(call.parameter("transpose"))
    program = LowRankProgram(order, rank, columns, transpose, call.dtype, Precision.FP64, Precision.FP64)
    return [LowRankGradient(program, min(order, CHUNK), call.names, call.cotangents)]
