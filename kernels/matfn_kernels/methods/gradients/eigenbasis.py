"""Gradients of functions of Hermitian matrices that have been diagonalised.

For X = G f(A), A = V diag(w) V^H, and the cotangent Xb of X the gradients are, by Daleckii and Krein's theorem,

    Ab = V (F o S) V^H,   S = ((G V)^H (Xb V) + (Xb V)^H (G V)) / 2,        Gb = Xb f(A),

with G = I where there is none. Ab is Hermitian: the gradient of the function of (A + A^H) / 2. Complex gradients are
those that torch defines, with dL = Re <Ab, dA>.
Reference: Higham, Functions of Matrices (2008), section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR, orthogonality
from matfn_kernels.linalg.products import product, symmetrise
from matfn_kernels.linalg.scaling import norm, normalise, rescale
from matfn_kernels.methods.gradients.program import EPS, Gradient
from matfn_kernels.methods.gradients.sensitivity import moved, multiplied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Eigen
    from matfn_kernels.methods.gradients.differences import Differences

__all__ = ["NOISE", "Cotangent", "Term", "noise_of", "spectral", "summed"]

NOISE: Final = 2 * BACKWARD_ERROR
"""Norm of a row of eigh's backward error in units of eps times the norm: the largest that was seen is 18."""
_ROUNDING: Final = 4.0
"""Error of a column of X V in units of eps ||X||_F, twice what is known of G V (`by_eigh`): the sums of S count too."""


def noise_of(eigen: Eigen) -> Tensor:
    """Norm of a row of the backward error of a decomposition in float64, (batch,)."""
    law = NOISE * EPS * eigen.w.abs().amax(-1)
    return torch.maximum(law, eigen.w.shape[-1] ** 0.5 * eigen.backward) + eigen.skew * eigen.w.abs().amax(-1)


@dataclass(frozen=True, slots=True)
class Cotangent:
    """A cotangent in the eigenbasis, scaled by 2^-exponent.

    Attributes:
        turned: Xb V (batch, m, n).
        s: S (batch, n, n).
        rounding: bound of the error of S entry by entry, (batch, n, n).
        size: ||G||_F ||Xb||_F, or ||Xb||_F without G, which ||S||_F does not exceed, (batch,).
        exponent: (batch,).
    """

    turned: Tensor
    s: Tensor
    rounding: Tensor
    size: Tensor
    exponent: Tensor

    @classmethod
    def of(cls, sent: Tensor, left: tuple[Tensor, Tensor] | None, v: Tensor) -> Self:
        """A cotangent (batch, m, n), and G with its exponent if there is one.

        Args:
            sent: Xb, in the dtype that is computed in.
            left: G scaled by 2^-exponent, and the exponent.
            v: eigenvectors.
        """
        x, exponent = normalise(sent)
        turned = product(x, v)
        y, y_size = invariant.row_norm(turned.mT), norm(x)
        size = y_size if left is None else y_size * norm(left[0])
        if left is None:
            g, g_size, basis = torch.ones_like(y), torch.full_like(y_size, 2.0), v
        else:
            basis = product(left[0], v)
            g, g_size = invariant.row_norm(basis.mT), norm(left[0])
            exponent = exponent + left[1]
        s = symmetrise(product(basis.mH, turned))
        half = _ROUNDING * EPS * (g_size[:, None, None] * y[:, None, :] + y_size[:, None, None] * g[:, None, :])
        return cls(turned, s, half + half.mT, size, exponent)

    def in_units(self, factor: Tensor, exponent: Tensor, top: Tensor) -> Self:
        """S times a factor (batch,), in units of 2^(top - exponent) of its own."""
        shift = exponent - top
        scale = factor[:, None, None]
        s = rescale(multiplied(scale.expand_as(self.s.real), self.s), shift)
        rounding, size = rescale(self.rounding * scale, shift), rescale(self.size * factor, shift)
        return replace(self, s=s, rounding=rounding, size=size, exponent=top)


@dataclass(frozen=True, slots=True)
class Term:
    """F o S for one output of a function, all terms of a sum in one unit."""

    differences: Differences
    cotangent: Cotangent


def summed(terms: Sequence[Term], v: Tensor, noise: Tensor) -> Gradient:
    """Ab (batch, n, n), the sum of V (F o S) V^H.

    Args:
        terms: one an output, all in one unit.
        v: eigenvectors.
        noise: norm of a row of the backward error, (batch,).
    """
    rows = noise[:, None].expand(-1, v.shape[-1])
    inside = torch.stack([multiplied(t.differences.first, t.cotangent.s) for t in terms]).sum(0)
    change = torch.stack([moved(t.differences, t.cotangent.s, rows) for t in terms]).sum(0)
    change = change + torch.stack([t.differences.first.abs() * t.cotangent.rounding for t in terms]).sum(0)
    value = symmetrise(product(product(v, inside), v.mH))
    size = norm(inside)
    most = torch.stack([t.differences.first.abs().amax((-2, -1)) * t.cotangent.size for t in terms]).sum(0)
    moves = norm(change) + orthogonality(v.shape[-1]) * EPS * size
    return spectral(value, moves, size, most, terms[0].cotangent.exponent)


def spectral(value: Tensor, change: Tensor, size: Tensor, most: Tensor, exponent: Tensor) -> Gradient:
    """A gradient whose change is that by the noise of a decomposition, (batch,) each as in `Gradient`."""
    return Gradient(value, change, size, most, size + change / (NOISE * EPS), exponent)
