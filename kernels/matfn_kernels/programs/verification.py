"""Verification: certificates of an answer that was computed elsewhere.

The function is computed anew, with its own certificate, and the claimed answer X is compared with the computed one, X':

    ||X - X*|| / ||X*||  <=  d + e + d e,   d = ||X - X'|| / ||X'||,  e = ||X' - X*|| / ||X*||,

by the triangle inequality, where X* is the exact value and e has the estimate of the certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.scaling import release
from matfn_kernels.programs.findings import ROUNDINGS, Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["Verification"]


@dataclass(frozen=True, slots=True)
class Verification:
    """A program that computes a function, compares the claimed outputs with its own, and has no outputs itself.

    Attributes:
        program: computes the function.
        claims: names of the inputs that are claimed outputs, in the order of the program's outputs.
    """

    program: Program
    claims: tuple[str, ...]

    @property
    def method(self) -> str:
        """The method of the answer that the claimed one is compared with."""
        return self.program.method

    @property
    def precision(self) -> Precision:
        """The arithmetic of that answer."""
        return self.program.precision

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the inputs and claims."""
        return self.program.dtype

    @property
    def ceiling(self) -> Precision:
        """The arithmetic that no fallback exceeds."""
        return self.program.ceiling

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Findings of the computed answer, with the error of the claimed one."""
        own = self._computed({name: tensor for name, tensor in inputs.items() if name not in self.claims})
        exponents = own.exponents or (None,) * len(own.outputs)
        compared = [
            _distance(inputs[name], output, exponent)
            for name, output, exponent in zip(self.claims, own.outputs, exponents, strict=True)
        ]
        distance = torch.stack(compared).amax(0)
        error = distance + own.error * (1 + distance)
        name = "distance from the computed answer"
        return replace(own, outputs=(), exponents=(), residual_name=name, residual=distance, error=error)

    def _computed(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Findings of the program, also where some dimension is zero: outputs are zero or copies there."""
        if all(tensor.numel() for tensor in inputs.values()):
            return self.program.run(inputs)
        outputs = self.program.empty(inputs)
        unit = torch.ones(len(next(iter(inputs.values()))), dtype=torch.float64)
        return Findings(outputs, "", 0 * unit, ROUNDINGS * torch.finfo(self.dtype).eps * unit, unit)

    def fallbacks(self) -> tuple[Program, ...]:
        """The program's fallbacks, each compared with the claims in turn."""
        return tuple(Verification(fallback, self.claims) for fallback in self.program.fallbacks())

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """No outputs."""
        del inputs
        return ()

    def seconds(self, profile: Profile) -> float:
        """Those of the program: the comparison is one pass over the outputs."""
        return self.program.seconds(profile)


def _distance(claimed: Tensor, output: Tensor, exponent: Tensor | None) -> Tensor:
    """||X - X'||_F / ||X'||_F, (batch,) float64; X' = output * 2^exponent."""
    wide = torch.complex128 if output.dtype.is_complex else torch.float64
    own, _ = release(output.to(wide), exponent, wide)
    peak = torch.maximum(_peak(own), _peak(claimed))
    peak = torch.where(peak > 0, peak, torch.ones_like(peak)).reshape(-1, *[1] * (own.dim() - 1))
    own, other = invariant.divided(own, peak), invariant.divided(claimed.to(wide), peak)
    size, difference = _norm(own), _norm(other - own)
    return torch.where(difference > 0, difference / size, torch.zeros_like(size))


def _peak(x: Tensor) -> Tensor:
    """The largest magnitude of each item, (batch,) float64."""
    return invariant.magnitude(x.flatten(1)).to(torch.float64).amax(-1)


def _norm(x: Tensor) -> Tensor:
    return invariant.row_norm(x.flatten(1))
