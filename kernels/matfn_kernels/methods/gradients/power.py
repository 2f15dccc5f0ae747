"""Gradients of A^(s/r), A^(-s/r), both, or G times one, of symmetric (Hermitian) matrices.

The function's rules of damping hold. The derivative is that of A + shift I with the shift held constant, whether the
caller names it or the default adds it; with damping="range" that of the pseudo-inverse power with the range's rank held
constant. An eigenvalue 0 of A + shift I, where a root has no derivative, is `singular`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.products import product
from matfn_kernels.linalg.scaling import norm, normalise, power_of_two
from matfn_kernels.methods.gradients.differences import Differences, of_power, powers
from matfn_kernels.methods.gradients.eigenbasis import Cotangent, Term, noise_of, spectral, summed
from matfn_kernels.methods.gradients.program import EPS, Gradient, GradientProgram, joined
from matfn_kernels.methods.gradients.sensitivity import multiplied
from matfn_kernels.methods.roots.by_eigh import Diagonalised, by_eigh
from matfn_kernels.methods.roots.candidates import power_of
from matfn_kernels.methods.roots.eigh_power import EighPower
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.signature import Signature

__all__ = ["PowerGradient", "candidates"]

_LOST: Final = 0.1
"""Largest part of an eigenvalue that its noise may be where the error to first order is trusted."""


@dataclass(frozen=True, slots=True)
class PowerGradient(GradientProgram):
    """Gradients of the powers that a question asks for.

    Attributes:
        power: the question.
    """

    power: Power

    @property
    def shared(self) -> SharedEigen:
        """The eigendecomposition, which serves any function of the matrix."""
        return SharedEigen(self.power.order, self.wide)

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n)."""
        return inputs["a"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a (batch, n, n), cotangents and, if there is one, g (batch, m, n)."""
        return self.finish(self.shared.of([inputs["a"]]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Powers of matrices that have been diagonalised, and their gradients."""
        assert isinstance(decomposition, Eigen)
        matrices = Diagonalised.of(self.power, Precision.FP64, decomposition)
        own = by_eigh(matrices, matrices.lawful(), inputs.get("g"))
        spectral = _Spectral.of(self.power, matrices, inputs.get("g"))
        given = [
            (sign, Cotangent.of(inputs[name].to(self.wide), spectral.left, decomposition.v))
            for name, sign in zip(("x", "y"), self.power.signs, strict=False)
            if name in self.cotangents
        ]
        gradients = [spectral.of_matrix(given), *(spectral.of_factor(*pair) for pair in given if "g" in inputs)]
        found = joined(own, gradients, self, inputs)
        return replace(found, failures={**found.failures, "not_differentiable": spectral.vanishing})


@dataclass(frozen=True, slots=True)
class _Spectral:
    """Diagonalised matrices under the rules of damping, and G with its exponent if there is one."""

    power: Power
    eigen: Eigen
    spectrum: Tensor
    keep: Tensor | None
    noise: Tensor
    left: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, power: Power, matrices: Diagonalised[Power], g: Tensor | None) -> _Spectral:
        """The spectrum of A + shift I, scaled by 2^-exponent."""
        eigen, rules = matrices.eigen, matrices.rules
        left = None if g is None else normalise(g.to(eigen.v.dtype))
        keep = rules.keep if power.drops else None
        return cls(power, eigen, rules.spectrum.clamp_min(0), keep, noise_of(eigen), left)

    @property
    def vanishing(self) -> Tensor:
        """Where a root has no derivative: an eigenvalue is 0, (batch,)."""
        if self._is_smooth or self.power.drops:
            return torch.zeros_like(self.noise, dtype=torch.bool)
        return self.spectrum[:, 0] == 0

    def of_matrix(self, given: Sequence[tuple[int, Cotangent]]) -> Gradient:
        """The gradient of A."""
        return self._trusted(summed(self._terms(given), self.eigen.v, self.noise))

    def of_factor(self, sign: int, cotangent: Cotangent) -> Gradient:
        """The gradient of G, the cotangent times f(A)."""
        assert self.left is not None
        f = self._values(sign)
        inside = multiplied(f[:, None, :].expand_as(cotangent.turned.real), cotangent.turned)
        weights, first = invariant.row_norm(cotangent.turned.mT), self._differences(sign).first
        crossed = invariant.product(weights.square()[:, None, :], first.square()).sqrt()[:, 0]
        change = norm(crossed) * self.noise + 2 * EPS * norm(cotangent.turned) * norm(f)
        change = change + orthogonality(self.power.order) * EPS * norm(inside)
        most = f.abs().amax(-1) * norm(cotangent.turned)
        found = (product(inside, self.eigen.v.mH), change, norm(inside), most)
        scaled = [power_of_two(x, self.eigen.exponent, sign * self.power.s, self.power.r) for x in found]
        value, change, size, most = (x for x, _ in scaled)
        lacking = scaled[0][1] + cotangent.exponent - self.left[1]
        return self._trusted(spectral(value, change, size, most, lacking))

    @property
    def _is_smooth(self) -> bool:
        """Whether it is a polynomial, which is smooth at 0."""
        return self.power.signs == (1,) and self.power.s % self.power.r == 0

    def _trusted(self, gradient: Gradient) -> Gradient:
        """A gradient without an estimate where noise is much of an eigenvalue."""
        least = self.spectrum if self.keep is None else torch.where(self.keep, self.spectrum, torch.inf)
        lost = torch.zeros_like(self.noise, dtype=torch.bool)
        if not self._is_smooth:
            lost = self.noise > _LOST * least.amin(-1)
        return gradient.without_estimate(lost & (gradient.change > 0))

    def _terms(self, given: Sequence[tuple[int, Cotangent]]) -> list[Term]:
        """F o S of each output in one unit."""
        one = torch.ones_like(self.noise)
        scaled = []
        for sign, cotangent in given:
            factor, whole = power_of_two(one, self.eigen.exponent, sign * self.power.s - self.power.r, self.power.r)
            scaled.append((sign, cotangent, factor, whole + cotangent.exponent))
        top = torch.stack([exponent for *_, exponent in scaled]).amax(0)
        return [
            Term(self._differences(sign), cotangent.in_units(factor, exponent, top))
            for sign, cotangent, factor, exponent in scaled
        ]

    def _differences(self, sign: int) -> Differences:
        return of_power(self.spectrum, self.power.s, self.power.r, inverse=sign < 0, keep=self.keep)

    def _values(self, sign: int) -> Tensor:
        f = powers(self.spectrum, self.power.s, self.power.r, inverse=sign < 0)
        return f if self.keep is None else torch.where(self.keep, f, 0.0)


def candidates(call: Signature) -> list[PowerGradient]:
    """The one program that serves a call."""
    call.require_double()
    power = power_of(call)
    return [
        PowerGradient(EighPower(power, call.is_pinned, Precision.FP64), power.order, call.names, call.cotangents, power)
    ]
