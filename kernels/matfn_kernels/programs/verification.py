"""Verification: certificates of an answer that was computed elsewhere.

The function is computed anew, with its own certificate, and the claimed answer X is compared with the computed one, X':

    ||X - X*|| / ||X*||  <=  d + e + d e,   d = ||X - X'|| / ||X'||,  e = ||X' - X*|| / ||X*||,

by the triangle inequality, where X* is the exact value and e has the estimate of the certificate. Where an answer is
one of many, as a basis of eigenvectors is, the claim is measured by itself, by a program that `Judging` ones name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import torch

from matfn_kernels.linalg.scaling import norm, rescale
from matfn_kernels.programs.findings import ROUNDINGS, Findings
from matfn_kernels.programs.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.contract.certificate import Certificate
    from matfn_kernels.numbers.precision import Precision
    from matfn_kernels.programs.profile import Profile

__all__ = ["Judging", "Verification", "verifying"]

_ROUNDINGS: Final = 4.0
"""Of the distance itself, in units of eps: of a difference, two norms and a quotient."""
_VOUCHED: Final = 0.1
"""Largest error of a computed answer from which a distance says something."""
_NOTHING: Final = -(1 << 20)
"""Exponent of zero: below that of every number, and far from the bounds of integers."""


@runtime_checkable
class Judging(Program, Protocol):
    """A program with another one that measures claimed outputs, without an answer to compare them with."""

    def judging(self, claims: tuple[str, ...]) -> Program:
        """The program that measures the inputs with these names; it has no outputs."""


def verifying(program: Program, claims: tuple[str, ...]) -> Program:
    """The program that certifies the inputs with these names as outputs of a program."""
    return program.judging(claims) if isinstance(program, Judging) else Verification(program, claims)


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
        distance = torch.stack(compared).amax(0).to(own.error.device)
        error = distance + own.error * (1 + distance) + _ROUNDINGS * torch.finfo(torch.float64).eps * distance
        name = "distance from the computed answer"
        residual = torch.where(own.error <= _VOUCHED, distance, math.nan)
        return replace(own, outputs=(), exponents=(), residual_name=name, residual=residual, error=error)

    def rejects(self, certificate: Certificate, tolerance: float) -> bool:
        """Whether no better computed answer would accept the claim: its error is above the tolerance for certain.

        ||X - X*|| >= ||X - X'|| - ||X' - X*||, so that the relative error is at least d (1 - e) - e.
        """
        if certificate.error_bound is not None:
            return certificate.error_bound > tolerance
        if certificate.residual is None:
            return False
        distance, error = certificate.residual.value, certificate.error_estimate
        own = _VOUCHED if error is None else (error - distance) / (1 + distance)
        return distance * (1 - own) - own > tolerance

    def _computed(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Findings of the program, also where some dimension is zero: outputs are zero or copies there."""
        if all(tensor.numel() for tensor in inputs.values()):
            return self.program.run(inputs)
        outputs = self.program.empty(inputs)
        first = next(iter(inputs.values()))
        unit = torch.ones(len(first), dtype=torch.float64, device=first.device)
        return Findings(outputs, "", 0 * unit, ROUNDINGS * torch.finfo(self.dtype).eps * unit, unit)

    def fallbacks(self) -> tuple[Program, ...]:
        """The program's fallbacks, for claims that its own answer is too inaccurate to accept or reject."""
        return tuple(Verification(fallback, self.claims) for fallback in self.program.fallbacks())

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """No outputs."""
        del inputs
        return ()

    def seconds(self, profile: Profile) -> float:
        """Those of the program: the comparison is one pass over the outputs."""
        return self.program.seconds(profile)


def _distance(claimed: Tensor, output: Tensor, exponent: Tensor | None) -> Tensor:
    """||X - X'||_F / ||X'||_F, (batch,) float64 on the CPU; X' = output * 2^exponent."""
    if not output.numel():
        return torch.zeros(len(output), dtype=torch.float64)
    wide = torch.complex128 if output.dtype.is_complex else torch.float64
    bits = torch.zeros(len(output), dtype=torch.int64) if exponent is None else exponent.cpu().to(torch.int64)
    own, own_bits = _normalised(output.cpu().to(wide))
    other, other_bits = _normalised(claimed.cpu().to(wide))
    own_bits = own_bits + bits
    top = torch.maximum(own_bits, other_bits)
    own, other = rescale(own, own_bits - top), rescale(other, other_bits - top)
    size, difference = norm(own), norm(other - own)
    return torch.where(difference == 0, 0.0, difference / size)


def _normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    """X 2^-exponent with parts of at most 1 (batch, ...) and the exponent, far below all others where X is 0."""
    parts = torch.view_as_real(x.resolve_conj()) if x.dtype.is_complex else x
    peak = parts.abs().flatten(1).amax(-1)
    bits = torch.where(peak > 0, torch.frexp(peak).exponent.to(torch.int64), _NOTHING)
    return rescale(x, -torch.where(peak > 0, bits, 0)), bits
