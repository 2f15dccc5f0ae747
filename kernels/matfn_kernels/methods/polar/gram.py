"""Polar factors and clippings M h(M^H M) from the eigenvectors of the Gram matrix, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.backward_error import propagated
from matfn_kernels.linalg.decompositions import Decomposition, Gram
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import product, symmetric_product
from matfn_kernels.methods.polar.lockstep_gram import GRAM_ERROR, LockstepGramPolar
from matfn_kernels.methods.polar.question import PolarProgram
from matfn_kernels.methods.polar.singular_values import Multiplier, findings_of
from matfn_kernels.methods.polar.svd import SvdPolar
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.shared_decomposition import SharedGram, SharedNativeGram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.polar.question import Polar
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.kernel_prices import Tunable
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["GramPolar", "NativeGramPolar"]

_PASSES: Final = 12.0
"""Work beside products and decompositions, in units of a product at order 64.

A price, on which no answer rests. It is that of the svd too; how it was found is not recorded."""
_NATIVE_PASSES: Final = 3.0
"""A quarter of that: the kernels in C do most of it while a matrix is in the cache."""


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """Singular values from a Gram matrix, and what is known of them and of the image M h(M^H M).

    Attributes:
        sigma: (batch, n) float64.
        multiplier: h.
        errors: of the image (batch,), and of the singular values (batch, n).
        skew: distance of the vectors from orthonormality where LAPACK's law does not explain it, (batch,).
    """

    sigma: Tensor
    multiplier: Multiplier
    errors: tuple[Tensor, Tensor]
    skew: Tensor

    @classmethod
    def of(cls, question: Polar, decomposition: Gram) -> _Spectrum:
        """The singular values of matrices whose Gram matrices have been decomposed."""
        squares = decomposition.squares.to(torch.float64)
        sigma = squares.clamp_min(0).sqrt()
        multiplier = Multiplier.of(question, Precision.FP64, sigma, decomposition.exponent)
        law = GRAM_ERROR * spacing(Precision.FP64) * squares[:, -1]
        noise = torch.maximum(law, math.sqrt(squares.shape[-1]) * decomposition.backward)
        limits = (squares.clamp_min(0) + noise[:, None]).sqrt(), torch.zeros_like(squares)
        error = propagated(squares, lambda squared: multiplier(squared.clamp_min(0).sqrt()), noise, limits)
        error = torch.where(_is_borderline(question, multiplier, squares, noise), math.inf, error)
        return cls(sigma, multiplier, (error, limits[0] - sigma), decomposition.skew)

    def findings(self, question: Polar, image: tuple[Tensor, Tensor, Tensor]) -> Findings:
        """The findings of M, its computed image and its residual."""
        found = findings_of(question, Precision.FP64, image, self.sigma, self.multiplier, self.errors)
        return replace(found, error=found.error + self.skew)


def _is_borderline(question: Polar, multiplier: Multiplier, squares: Tensor, noise: Tensor) -> Tensor:
    """Whether the noise in sigma^2 hides on which side of the threshold one lies that it matters for, (batch,)."""
    sigma, edge = squares.clamp_min(0).sqrt(), question.threshold(Precision.FP64) ** 2 * squares[:, -1:]
    most, least = (replace(multiplier, keep=squares > edge + shift * noise[:, None]) for shift in (-1, 1))
    return (most(sigma) != least(sigma)).any(-1)


@dataclass(frozen=True, slots=True)
class _GramProgram(PolarProgram):
    """The arithmetic, fallback and kernels of both programs."""

    method: ClassVar[str] = "gram"
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    def fallbacks(self) -> tuple[Program, ...]:
        """The svd, unless the caller asked for this method."""
        return () if self.pinned else (SvdPolar(self.question, self.precision),)

    def variants(self) -> tuple[Tunable, ...]:
        """The program by torch, with products in C where the matrices fit into float32, and all in C of small ones."""
        usual = GramPolar(self.question, pinned=self.pinned)
        if not self.question.is_single:
            return (usual,)
        native_products = NativeGramPolar(self.question, pinned=self.pinned)
        if not LockstepGramPolar.serves(self.question):
            return usual, native_products
        return usual, native_products, LockstepGramPolar(self.question, native_products, pinned=self.pinned)


@dataclass(frozen=True, slots=True)
class GramPolar(_GramProgram):
    """M h(M^H M) by torch's products."""

    kernel: ClassVar[Kernel] = Kernel.LIBRARY

    @property
    def shared(self) -> SharedGram:
        """The decomposition of the Gram matrix, which serves any clipping of the singular values."""
        return SharedGram(self.question.large, self.question.small, working(self.precision, self.dtype))

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        return self.finish(self.shared.of([self.matrices(inputs)]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Polar factor or clipping of matrices whose Gram matrices have been decomposed."""
        del inputs
        assert isinstance(decomposition, Gram)
        m, vectors, spectrum = decomposition.m, decomposition.v, _Spectrum.of(self.question, decomposition)
        h = spectrum.multiplier(spectrum.sigma)
        value = product(m, symmetric_product(vectors * h[:, None, :].to(vectors.dtype), vectors.mH))
        found = spectrum.findings(self.question, (m, value, self.question.residual(m, value)))
        return self.question.of_scaled(found, decomposition.exponent)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, products and passes."""
        asked = self.question
        wide = profile.cost("gemm", Precision.FP64, asked.small)
        decomposed = profile.cost("eigh", Precision.FP64, asked.small)
        return decomposed + (1 + 2 * asked.aspect) * wide + _PASSES * asked.seconds_a_pass(profile)


@dataclass(frozen=True, slots=True)
class NativeGramPolar(_GramProgram):
    """M h(M^H M) of matrices in float32, by products in C that add in float64."""

    kernel: ClassVar[Kernel] = Kernel.NATIVE

    @property
    def shared(self) -> SharedNativeGram:
        """The decomposition of the Gram matrix, which serves any clipping of the singular values."""
        return SharedNativeGram(self.question.large, self.question.small)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        return self.finish(self.shared.of([self.matrices(inputs)]), inputs)

    def run_some(self, inputs: Mapping[str, Tensor], wanted: Tensor) -> Findings:
        """Computes the matrices that are wanted (batch,), each as if all were."""
        return self.finish(self.shared.of_some(self.matrices(inputs), wanted), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Polar factor or clipping of matrices whose Gram matrices have been decomposed."""
        del inputs
        assert isinstance(decomposition, Gram)
        return self.question.of_scaled(self.finished(decomposition), decomposition.exponent)

    def finished(self, decomposition: Gram) -> Findings:
        """Polar factor or clipping of tall scaled matrices."""
        spectrum = _Spectrum.of(self.question, decomposition)
        h = spectrum.multiplier(spectrum.sigma)
        image, found = native.images(decomposition.m, decomposition.v.mT.contiguous(), h)
        residual = found.residual if self.question.bounds is None else found.skew
        findings = spectrum.findings(self.question, (decomposition.m, image, residual))
        return replace(findings, error=findings.error + found.rounding)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, products and passes."""
        asked = self.question
        wide = profile.cost("gemm", Precision.FP64, asked.small)
        symmetric = profile.cost("native", Precision.FP64, asked.small)
        decomposed = profile.cost("eigh", Precision.FP64, asked.small)
        products = decomposed + (1 + asked.aspect) * symmetric + asked.aspect * wide
        return products + _NATIVE_PASSES * asked.seconds_a_pass(profile)
