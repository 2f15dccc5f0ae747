"""T = diag(l) + tril(Q K^T, -1): its inverse and solutions with it, T itself never formed.

T^-1 B runs down the rows in chunks with a state S = sum of K_I^T Y_I over the chunks done (d x m):
Y_I = T_II^-1 (B_I - Q_I S). That is O(n (c + d) m) instead of O(n^2 m), and as stable as substitution. T^T is the same
backwards with Q and K exchanged. The generators of T^-1 are never used: their products of (I - k q^T / l) vanish or
overflow with n although T^-1 is harmless.
Reference: kexue.fm/archives/11072.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels import probes
from matfn_kernels.findings import Findings
from matfn_kernels.precision import Precision, spacing, working
from matfn_kernels.scaling import normalise, rescale
from matfn_kernels.triangular import Problem, corrected, lacking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.calibration import Profile
    from matfn_kernels.signature import Signature

__all__ = ["LowRank", "LowRankProgram", "candidates"]

CHUNK: Final = 64
_NORM_ROUNDS: Final = 2


@dataclass(frozen=True, slots=True)
class LowRankProgram:
    """What a batch of diagonal-plus-low-rank problems must have in common to be computed together.

    Attributes:
        order: n.
        rank: d.
        columns: of the right-hand sides, or None for the inverse.
        transpose: whether the transpose is solved with.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    order: int
    rank: int
    columns: int | None
    transpose: bool
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "chunked"

    @property
    def is_recordable(self) -> bool:
        """Products and substitution."""
        return True

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs diag (batch, n), q and k (batch, n, d) and, with columns, b (batch, n, m)."""
        wide, exponent = self._scaled(inputs)
        dtype = working(self.precision, self.dtype)
        narrow = LowRank(wide.diag.to(dtype), wide.q.to(dtype), wide.k.to(dtype), self.transpose)
        if self.columns is None:
            eye = torch.eye(self.order, dtype=torch.float64, device=wide.diag.device)
            right, right_exponent = eye.expand(len(wide.diag), -1, -1), None
        else:
            b = inputs["b"].to(torch.float64)
            right, right_exponent = (b, None) if exponent is None else normalise(b)
        value = narrow.solve(right.to(dtype))
        magnitude = LowRank(wide.diag.abs(), wide.q.abs(), wide.k.abs(), self.transpose)
        residual, error = corrected(
            value, right, Problem(wide.multiply, wide.solve, magnitude.multiply), self.precision
        )
        return Findings(
            outputs=(value,),
            exponents=(lacking(exponent, right_exponent),),
            residual_name="T X - I" if self.columns is None else "T X - B",
            residual=residual,
            error=error + spacing(self.precision),
            condition=_condition(wide.scaled()[0]),
        )

    def _scaled(self, inputs: Mapping[str, Tensor]) -> tuple[LowRank, Tensor | None]:
        """T in float64, and brought near 1 where the arithmetic has a smaller range than the dtype."""
        diag, q, k = (inputs[name].to(torch.float64) for name in ("diag", "q", "k"))
        t = LowRank(diag, q, k, self.transpose)
        return t.scaled() if self.dtype == torch.float64 and self.precision is Precision.FP32 else (t, None)

    def fallbacks(self) -> tuple[LowRankProgram, ...]:
        """The same in the precision that the call allows."""
        return (replace(self, precision=self.ceiling),) if self.precision is not self.ceiling else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix; with d = 0 the matrix is its diagonal."""
        diag = inputs["diag"]
        if diag.numel() == 0 or ("b" in inputs and inputs["b"].numel() == 0):
            shape = inputs["b"].shape if "b" in inputs else (*diag.shape, diag.shape[-1])
            return (torch.zeros(shape, dtype=self.dtype),)
        inverse = 1 / diag.to(torch.float64)
        value = inverse[..., None] * inputs["b"].to(torch.float64) if "b" in inputs else torch.diag_embed(inverse)
        return (value.to(self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: a chunk's Gram product, its solve, and two products with the state."""
        chunk = profile.cost("gemm", self.precision, CHUNK)
        columns = (self.order if self.columns is None else self.columns) / CHUNK
        rank = self.rank / CHUNK
        return chunk * (1 + self.order / CHUNK) * (rank + columns * (1 + 2 * rank))


@dataclass(frozen=True, slots=True)
class LowRank:
    """The matrices diag(l) + tril(Q K^T, -1) of a batch, or their transposes."""

    diag: Tensor
    q: Tensor
    k: Tensor
    transpose: bool = False

    def solve(self, b: Tensor) -> Tensor:
        """T^-1 B for B (batch, n, m)."""
        left, right = (self.k, self.q) if self.transpose else (self.q, self.k)
        state = b.new_zeros(b.shape[0], left.shape[-1], b.shape[-1])
        y = torch.empty_like(b)
        for chunk in self._chunks():
            block = self._block(chunk)
            target = torch.baddbmm(b[:, chunk], left[:, chunk], state, alpha=-1)
            y[:, chunk] = torch.linalg.solve_triangular(block, target, upper=self.transpose)
            state.baddbmm_(right[:, chunk].mT, y[:, chunk])
        return y

    def multiply(self, x: Tensor) -> Tensor:
        """T X for X (batch, n, m)."""
        left, right = (self.k, self.q) if self.transpose else (self.q, self.k)
        state = x.new_zeros(x.shape[0], left.shape[-1], x.shape[-1])
        y = torch.empty_like(x)
        for chunk in self._chunks():
            y[:, chunk] = self._block(chunk) @ x[:, chunk] + left[:, chunk] @ state
            state.baddbmm_(right[:, chunk].mT, x[:, chunk])
        return y

    def transposed(self) -> LowRank:
        """The transposes."""
        return LowRank(self.diag, self.q, self.k, transpose=not self.transpose)

    def scaled(self) -> tuple[LowRank, Tensor]:
        """T 2^-e with the largest diagonal entry in [1/2, 1), its generators balanced, and e (batch,)."""
        diag, exponent = normalise(self.diag)
        q, left = normalise(self.q)
        k, right = normalise(self.k)
        return LowRank(diag, rescale(q, left + right - exponent), k, self.transpose), exponent

    def _chunks(self) -> list[slice]:
        chunks = [slice(i, min(i + CHUNK, self.diag.shape[-1])) for i in range(0, self.diag.shape[-1], CHUNK)]
        return chunks[::-1] if self.transpose else chunks

    def _block(self, chunk: slice) -> Tensor:
        block = (self.q[:, chunk] @ self.k[:, chunk].mT).tril(-1) + torch.diag_embed(self.diag[:, chunk])
        return block.mT if self.transpose else block


def candidates(call: Signature) -> list[LowRankProgram]:
    """The one program that serves a call."""
    (order, rank), b = call.sizes("q"), call.shape("b")
    low, ceiling = call.direct_precisions()
    return [
        LowRankProgram(
            order=order,
            rank=rank,
            columns=None if b is None else b[-1],
            transpose=bool(call.parameter("transpose")),
            dtype=call.dtype,
            precision=low,
            ceiling=ceiling,
        )
    ]


def _condition(t: LowRank) -> Tensor:
    """||T||_2 ||T^-1||_2 by power iteration on T^T T and its inverse."""
    z = probes.gaussian(t.diag, t.diag.shape[-1])
    flipped = t.transposed()
    large = probes.growth(lambda y: flipped.multiply(t.multiply(y)), z, _NORM_ROUNDS)
    return (large * probes.growth(lambda y: t.solve(flipped.solve(y)), z, _NORM_ROUNDS)).sqrt().clamp_min(1.0)
