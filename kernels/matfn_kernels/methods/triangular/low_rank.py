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

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import normalise, rescale
from matfn_kernels.linalg.triangles import Problem, corrected, lacking
from matfn_kernels.methods.triangular.room import with_room
from matfn_kernels.numbers.precision import Precision, double, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["LowRank", "LowRankProgram", "Parts", "candidates"]

CHUNK: Final = 64
"""Rows that torch takes at once: operations grow as n (c + d) m, so c is of the size of usual ranks d."""
_NORM_ROUNDS: Final = 2
"""Rounds of power iteration for ||T||, on four columns; the norm enters the condition alone."""


@dataclass(frozen=True, slots=True)
class LowRankProgram:
    """Inverses of diagonal-plus-low-rank matrices of one shape, or solutions with them, by chunks of rows.

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
        parts, exponent = self._scaled(inputs)
        if self.columns is None:
            right, right_exponent = None, None
        else:
            b = inputs["b"].to(double(self.dtype))
            right, right_exponent = (b, None) if exponent is None else normalise(b)
        found = self._solved(parts, right, lacking(exponent, right_exponent))
        return found if self.precision is not Precision.FP64 else self._with_room(parts, right, found)

    def _solved(self, parts: Parts, right: Tensor | None, exponent: Tensor | None) -> Findings:
        """Findings of T X = B in double precision, of T X = I without B; X to be multiplied by 2^exponent."""
        dtype, exact = working(self.precision, self.dtype), double(self.dtype)
        wide, narrow = LowRank(parts, self.transpose), LowRank(parts.to(dtype), self.transpose)
        if right is None:
            right = torch.eye(self.order, dtype=exact, device=parts.diag.device).expand(len(parts.diag), -1, -1)
        value = narrow.solve(right.to(dtype))
        problem = Problem(wide.multiply, wide.solve, lambda x: LowRank(parts.abs(), self.transpose).multiply(x))
        residual, error = corrected(value, right, problem, self.precision)
        return Findings(
            outputs=(value,),
            exponents=(exponent,),
            residual_name="T X - I" if self.columns is None else "T X - B",
            residual=residual,
            error=error + spacing(self.precision),
            condition=_condition(parts.scaled()[0]),
        )

    def _with_room(self, parts: Parts, right: Tensor | None, found: Findings) -> Findings:
        """The findings in float64 with room for answers that leave its range."""
        sent = {"diag": parts.diag, "q": parts.q, "k": parts.k} | ({} if right is None else {"b": right})

        def again(scaled: dict[str, Tensor]) -> Findings:
            return self._solved(Parts(scaled["diag"], scaled["q"], scaled["k"]), scaled.get("b"), None)

        return with_room(found, sent, again, self.dtype)

    def _scaled(self, inputs: Mapping[str, Tensor]) -> tuple[Parts, Tensor | None]:
        """T in double precision, and brought near 1 where the arithmetic has a smaller range than the dtype."""
        wide = double(self.dtype)
        t = Parts(inputs["diag"], inputs["q"], inputs["k"]).to(wide)
        return t.scaled() if self.dtype == wide and self.precision is Precision.FP32 else (t, None)

    def fallbacks(self) -> tuple[LowRankProgram, ...]:
        """The method in the precision that the call allows."""
        return (replace(self, precision=self.ceiling),) if self.precision is not self.ceiling else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix; with d = 0 the matrix is its diagonal."""
        diag = inputs["diag"]
        if diag.numel() == 0 or ("b" in inputs and inputs["b"].numel() == 0):
            shape = inputs["b"].shape if "b" in inputs else (*diag.shape, diag.shape[-1])
            return (torch.zeros(shape, dtype=self.dtype),)
        if self.dtype.is_complex:  # whose quotients torch rounds in two ways
            one = torch.zeros(*diag.shape, 1, dtype=self.dtype, device=diag.device)
            found = replace(self, precision=Precision.FP64).run({**inputs, "q": one, "k": one})
            return (found.outputs[0].to(self.dtype),)
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
class Parts:
    """Diagonals and factors of matrices diag(l) + tril(Q K^T, -1): l (batch, n), Q and K (batch, n, d)."""

    diag: Tensor
    q: Tensor
    k: Tensor

    def to(self, dtype: torch.dtype) -> Parts:
        """The parts in another dtype."""
        return Parts(self.diag.to(dtype), self.q.to(dtype), self.k.to(dtype))

    def abs(self) -> Parts:
        """The matrices of a bound of T's entries."""
        return Parts(*map(invariant.magnitude, (self.diag, self.q, self.k)))

    def conj(self) -> Parts:
        """The matrices of T's conjugate."""
        return Parts(*(part.conj().resolve_conj() for part in (self.diag, self.q, self.k)))

    def scaled(self) -> tuple[Parts, Tensor]:
        """T 2^-e with the largest diagonal entry in [1/2, 1), its generators balanced, and e (batch,)."""
        diag, exponent = normalise(self.diag)
        q, left = normalise(self.q)
        k, right = normalise(self.k)
        return Parts(diag, rescale(q, left + right - exponent), k), exponent


@dataclass(frozen=True, slots=True)
class LowRank:
    """A batch of such matrices T, or of their transposes.

    Attributes:
        parts: what they are made of.
        transpose: whether it is T^T that acts.
    """

    parts: Parts
    transpose: bool

    def solve(self, b: Tensor) -> Tensor:
        """T^-1 B for B (batch, n, m)."""
        return self._natively(b, inverse=True) if _is_native(b) else _Chunks.of(self.parts, self.transpose).solve(b)

    def multiply(self, x: Tensor) -> Tensor:
        """T X for few columns X (batch, n, m)."""
        return self._natively(x, inverse=False) if _is_native(x) else _Chunks.of(self.parts, self.transpose).multiply(x)

    def _natively(self, b: Tensor, *, inverse: bool) -> Tensor:
        parts = self.parts
        return native.apply_low_rank(parts.diag, parts.q, parts.k, b, transpose=self.transpose, inverse=inverse)

    def adjoint(self) -> LowRank:
        """The conjugate transposes."""
        return LowRank(self.parts.conj(), not self.transpose)


def _is_native(x: Tensor) -> bool:
    """Whether the kernels in C serve; which depends on nothing that a neighbour could change."""
    return x.device.type == "cpu" and not x.dtype.is_complex and native.is_built()


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Such matrices in chunks of rows for torch; the last is made up by rows of I.

    Attributes:
        order: n.
        left: Q, or of transposes K, (batch, chunks, c, d).
        right: the other one.
        blocks: the diagonal blocks of what acts (batch, chunks, c, c).
        transpose: whether it is T^T that acts.
    """

    order: int
    left: Tensor
    right: Tensor
    blocks: Tensor
    transpose: bool

    @classmethod
    def of(cls, parts: Parts, transpose: bool) -> _Chunks:
        """T from its parts; all its diagonal blocks by one product."""
        q, k = _chunked(parts.q), _chunked(parts.k)
        blocks = product(q, k.mT).tril_(-1)
        blocks.diagonal(dim1=-2, dim2=-1).copy_(_chunked(parts.diag[..., None], fill=1)[..., 0])
        left, right, blocks = (k, q, blocks.mT) if transpose else (q, k, blocks)
        return cls(parts.diag.shape[-1], left, right, blocks, transpose)

    def solve(self, b: Tensor) -> Tensor:
        """T^-1 B for B (batch, n, m)."""
        b = _chunked(b)
        state = b.new_zeros(len(b), self.left.shape[-1], b.shape[-1])
        y = torch.empty_like(b)
        chunks = range(b.shape[1])
        for i in reversed(chunks) if self.transpose else chunks:
            target = b[:, i] - product(self.left[:, i], state)
            y[:, i] = invariant.solve_triangular(self.blocks[:, i], target, upper=self.transpose)
            state += product(self.right[:, i].mT, y[:, i])
        return y.flatten(1, 2)[:, : self.order]

    def multiply(self, x: Tensor) -> Tensor:
        """T X for few columns X (batch, n, m); the states of all chunks are kept at once."""
        x = _chunked(x)
        states = product(self.right.mT, x)
        if self.transpose:
            before = states.flip(1).cumsum(1).flip(1).roll(-1, 1)
            before[:, -1] = 0
        else:
            before = states.cumsum(1).roll(1, 1)
            before[:, 0] = 0
        return (product(self.blocks, x) + product(self.left, before)).flatten(1, 2)[:, : self.order]


def _chunked(x: Tensor, fill: float = 0.0) -> Tensor:
    """Rows of x (batch, n, m) in chunks (batch, chunks, c, m), the last one filled up."""
    order = x.shape[1]
    size = min(CHUNK, order)
    missing = -order % size
    if missing:
        x = torch.nn.functional.pad(x, (0, 0, 0, missing), value=fill)
    return x.reshape(len(x), -1, size, x.shape[-1])


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


def _condition(parts: Parts) -> Tensor:
    """||T||_2 ||T^-1||_2 by power iteration on T^H T and, once, its inverse."""
    z = probes.gaussian(parts.diag, parts.diag.shape[-1])
    t = LowRank(parts, transpose=False)
    flipped = t.adjoint()
    large = probes.growth(lambda y: flipped.multiply(t.multiply(y)), z, _NORM_ROUNDS)
    return (large * probes.growth(lambda y: t.solve(flipped.solve(y)), z, 1)).sqrt().clamp_min(1.0)
