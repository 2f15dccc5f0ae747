"""Gradients of eigenvalues and eigenvectors of Hermitian matrices.

For A V = V diag(w) and the cotangents wb and Vb,

    Ab = V (diag(wb) + F o skew(V^H C)) V^H,    F_ij = 1 / (w_j - w_i),    F_ii = 0,

the gradient of the eigenpairs as they are returned, the entry p of column j of V of largest modulus real and positive:
C is Vb less i g_j / V_pj at the place (p, j), g_j = Im(V^H Vb)_jj. Where no phase of a column changes the loss g is 0,
and this is the gradient that torch.linalg.eigh has.

Equal eigenvalues: vectors have no derivative where they turn among each other. Pairs that rounding does not tell apart
count as 0 in F, which is right for losses that no basis of their space changes; there is no error estimate then, unless
the vectors' cotangent is 0 and that of the values the same for both.
The error is that of first order by a backward error E of the decomposition, which turns V by F o (V^H E V).
References: Magnus, Econometric Theory 1 (1985); Giles, in Advances in Automatic Differentiation (2008).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.invariant import multiplied
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm, normalise
from matfn_kernels.methods.gradients.eigenbasis import noise_of, spectral
from matfn_kernels.methods.gradients.products import added
from matfn_kernels.methods.gradients.program import EPS, GradientProgram, joined
from matfn_kernels.methods.hermitian.eigenpairs import turned
from matfn_kernels.methods.hermitian.eigh import EighProgram, largest_rows, phase
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.methods.gradients.program import Gradient
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.signature import Signature

__all__ = ["EighGradient", "candidates"]

_LOST: Final = 0.1
"""Largest part of a gap that the noise of eigenvalues may be where the error to first order is trusted."""
_ROUNDING: Final = 4.0
"""Error of a column of V^H C in units of eps ||C||_F, as in `eigenbasis`."""


@dataclass(frozen=True, slots=True)
class EighGradient(GradientProgram):
    """Gradients of eigenpairs.

    Attributes:
        program: computes the eigenpairs.
    """

    program: EighProgram

    @property
    def output_dtypes(self) -> tuple[torch.dtype, ...]:
        """Real eigenvalues, vectors and the gradient."""
        return (*self.program.output_dtypes, self.dtype)

    @property
    def shared(self) -> SharedEigen:
        """The eigendecomposition, which serves any function of the matrix."""
        return SharedEigen(self.order, self.wide)

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n)."""
        return inputs["a"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a and y (batch, n, n), x (batch, n); one of x and y may be left out."""
        return self.finish(self.shared.of([inputs["a"]]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Eigenpairs of matrices that have been diagonalised, and the gradient."""
        assert isinstance(decomposition, Eigen)
        own = self.program.finish(decomposition, inputs)
        v = turned(decomposition.v, phase(decomposition.v))
        pairs = _Pairs.of(decomposition)
        parts = []
        if "x" in inputs:
            parts.append(pairs.of_values(v, inputs["x"].to(self.wide).real))
        if "y" in inputs:
            parts.append(pairs.of_vectors(v, inputs["y"].to(self.wide)))
        close = torch.stack([doubtful for _, doubtful in parts]).any(0)
        gradient = added([part for part, _ in parts])
        found = joined(own, [gradient.without_estimate(close)], self, inputs)
        return replace(found, remarks={**found.remarks, "close_eigenvalues": close})


def _turned_back(v: Tensor, inside: Tensor, change: Tensor, most: Tensor, exponent: Tensor) -> Gradient:
    """V Y V^H of a Hermitian Y that is known to within `change`, (batch,)."""
    size = norm(inside)
    value = symmetrise(product(product(v, inside), v.mH))
    return spectral(value, change + orthogonality(v.shape[-1]) * EPS * size, size, most, exponent)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Differences of scaled eigenvalues.

    Attributes:
        inverse: F (batch, n, n), 0 for pairs that are not told apart.
        gap: |w_j - w_i|, the noise at least, (batch, n, n).
        noise: norm of a row of the backward error, (batch,).
        doubtful: pairs i != j that the noise may have moved by much of their gap, (batch, n, n).
        exponent: of the scaling of A, (batch,).
    """

    inverse: Tensor
    gap: Tensor
    noise: Tensor
    doubtful: Tensor
    exponent: Tensor

    @classmethod
    def of(cls, eigen: Eigen) -> Self:
        """Those of diagonalised matrices."""
        w, noise = eigen.w.to(torch.float64), noise_of(eigen)
        apart = w[:, None, :] - w[:, :, None]
        limit = noise[:, None, None]
        told = apart.abs() > limit
        inverse = torch.where(told, 1 / torch.where(told, apart, 1.0), 0.0)
        others = ~torch.eye(w.shape[-1], dtype=torch.bool, device=w.device)
        doubtful = others & (limit >= _LOST * apart.abs())
        tiny = torch.finfo(torch.float64).tiny
        return cls(inverse, torch.maximum(apart.abs(), limit).clamp_min(tiny), noise, doubtful, eigen.exponent)

    def of_values(self, v: Tensor, sent: Tensor) -> tuple[Gradient, Tensor]:
        """The gradient for wb (batch, n), and where pairs that are not told apart matter, (batch,)."""
        wb, exponent = normalise(sent)
        apart = (wb[:, :, None] - wb[:, None, :]).abs()
        steepest = (apart / self.gap).amax(-1)
        change = self.noise * invariant.row_norm(steepest)
        close = (self.doubtful & (apart > 0)).flatten(1).any(-1)
        inside = torch.diag_embed(wb).to(v.dtype)
        return _turned_back(v, inside, change, invariant.row_norm(wb), exponent), close

    def of_vectors(self, v: Tensor, sent: Tensor) -> tuple[Gradient, Tensor]:
        """The gradient for Vb (batch, n, n) of the vectors as they are returned, and where pairs matter."""
        scaled, exponent = normalise(sent)
        turned_back = product(v.mH, scaled)
        length, steep = invariant.row_norm(scaled.mT), self.inverse.abs()
        rounding = _ROUNDING * EPS * (2 * length[:, None, :] + norm(scaled)[:, None, None]).expand_as(steep)
        if v.dtype.is_complex:
            fixed, moved = self._phases_fixed(v, turned_back, length)
            turned_back, rounding = turned_back - fixed, rounding + moved
        skew = (turned_back - turned_back.mH) * 0.5
        inside = multiplied(self.inverse, skew)
        change = self._moved(turned_back, skew, inside) + steep * (rounding + rounding.mT)
        close = self.doubtful.flatten(1).any(-1) & (norm(scaled) > 0)
        most = steep.amax((-2, -1)) * norm(scaled)
        return _turned_back(v, inside, norm(change), most, exponent - self.exponent), close

    def _moved(self, g: Tensor, skew: Tensor, inside: Tensor) -> Tensor:
        """Bound of the change of F o skew(G), entry by entry, where E turns V and moves w, (batch, n, n)."""
        steep, noise = self.inverse.abs(), self.noise[:, None, None]
        squares = steep.square()
        turned_g, turned_inside = (
            invariant.product(squares, invariant.magnitude(x).square()).sqrt() for x in (g, inside)
        )
        first = steep * (turned_g + turned_g.mT) / 2 + turned_inside + turned_inside.mT
        return noise * (first + 2 * squares * invariant.magnitude(skew))

    def _phases_fixed(self, v: Tensor, turned_back: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """V^H times what the phases of the columns take from Vb, and a bound of its change, (batch, n, n) each."""
        rows = largest_rows(v)
        at = v.gather(-2, rows[:, None, :])[:, 0].real
        g = turned_back.diagonal(dim1=-2, dim2=-1).imag
        weights = g / at
        picked = v.gather(-2, rows[:, :, None].expand(-1, -1, v.shape[-1]))  # row p(j) of V, for each j
        part = multiplied(weights[:, None, :], picked.mH.resolve_conj())
        fixed = torch.complex(-part.imag, part.real)  # i times the part
        turns = self.noise[:, None] * self.inverse.abs().amax(-2)
        moved = turns * (length / at + g.abs() / at.square())
        return fixed, moved[:, None, :] * invariant.magnitude(picked.mT.contiguous())


def candidates(call: Signature) -> list[EighGradient]:
    """The one program that serves a call."""
    call.require_double()
    order = call.sizes("a")[-1]
    program = EighProgram(order, call.dtype, Precision.FP64, Precision.FP64)
    return [EighGradient(program, order, call.names, call.cotangents)]
