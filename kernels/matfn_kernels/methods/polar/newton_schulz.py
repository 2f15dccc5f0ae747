"""Polar factors and clippings by Newton-Schulz, for matrices that are proved to have full rank.

X <- X (a I + b X^H X + c (X^H X)^2) with the minimax schedule for singular values in [1e-7, 1]. It would lift rounding
noise to 1, so it answers only for matrices that a Cholesky factorisation proves to have none; others get an infinite
error estimate. By torch or on a GPU a whole batch is iterated at once, and then H - threshold I is factorised. In C one
matrix after the other goes through all of it: the Gram matrix in double precision proves the rank before anything is
iterated, and its smallest eigenvalue chooses the schedule, so that a matrix takes the steps its own condition needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel, fitting
from matfn_kernels.linalg.products import product
from matfn_kernels.methods.polar.by_iteration import Factors, Proof, SharedFactors, astray, clip, distance, misses
from matfn_kernels.methods.polar.gram import GramPolar, NativeGramPolar
from matfn_kernels.methods.polar.half_polar import HalfPolar
from matfn_kernels.methods.polar.question import PolarProgram
from matfn_kernels.methods.polar.schedule import BOUND, floor_of, law, rows_from
from matfn_kernels.methods.polar.svd import SvdPolar
from matfn_kernels.numbers.precision import Precision, at_least_single, working
from matfn_kernels.programs.findings import Findings, merged
from matfn_kernels.programs.kernel_prices import step_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.methods.polar.schedule import Obeyed
    from matfn_kernels.programs.kernel_prices import Tunable
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["SHARE", "IteratedPolar", "NativePolar"]

SHARE: Final = 0.25
"""Of a loose tolerance: what the iteration may leave of it, so that the law of rounding has three quarters."""
_STEPS: Final = 14
"""Steps of the universal schedule in fp32, by which all arithmetics are priced; it has 13 in bf16 and 15 in fp64."""
_PROOF_PRODUCTS: Final = 10.0
"""Price of proof and residual in products of float64: a CPU core took 20 of them at order 64, 8 at 128 and 4 at 256."""
_SIGN_PRODUCTS: Final = 3.0
"""Products of a step of a sign of order n in float64: Gram matrix, its square, and the next iterate."""
_USUAL_BOUND: Final = 1e-4
"""Smallest singular value of a matrix of no special condition, for which C is priced: 9 steps."""
_NATIVE_PROOF: Final = 4.0
"""Price of the proof in C in symmetric products, which count n^3; how it was found is not recorded."""
_GAP_MARGIN: Final = 8.0
"""How often ||O^H O - I||, which counts a singular value's distance from 1 twice, counts for what the iteration left.

Four random columns see less than a sixteenth of what lies in one direction once in 30 000 times."""
_ASTRAY_MARGIN: Final = 2.0
"""How often a distance counts that four random columns give: to within a quarter as a rule."""
_KNOWN: Final = 1e-3
"""Largest error estimate that may stand: the default tolerance of float32 matrices is never above it.

To go through the Gram matrix in the same run takes a third of the time that escalation takes (decision 2)."""


@dataclass(frozen=True, slots=True)
class IteratedPolar(PolarProgram):
    """The iteration of a whole batch by the kernels of torch or of a GPU.

    Attributes:
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
        obeyed: the caller's own steps, to be run as they are.
        allowed: relative error that the iteration may leave beside rounding.
        kernel: whose products are used.
    """

    precision: Precision
    ceiling: Precision
    obeyed: Obeyed | None = None
    allowed: float = 0.0
    kernel: Kernel = Kernel.LIBRARY

    method: ClassVar[str] = "newton_schulz"

    @property
    def is_recordable(self) -> bool:
        """Always: products and a Cholesky factorisation."""
        return True

    @property
    def shared(self) -> SharedFactors:
        """The polar factor, which serves any clipping of the singular values."""
        return SharedFactors(
            self.question.large,
            self.question.small,
            working(at_least_single(self.precision), self.dtype),
            self.precision,
            self.obeyed,
            self.allowed,
            self.kernel,
        )

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        return self.finish(self.shared.of([self.matrices(inputs)]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """Polar factor or clipping of matrices whose polar factor has been computed."""
        assert isinstance(decomposition, Factors)
        proof = Proof.of(decomposition.h, floor_of(self.question.threshold(self.precision)))
        sent = self.question.sent(decomposition.m, decomposition.exponent, inputs, self.precision)
        error = self._error(decomposition, proof, sent)
        value, missing, further = self._image(decomposition)
        found = Findings(
            outputs=(value,),
            residual_name=self.question.residual_name,
            residual=self.question.residual(decomposition.m, value.to(decomposition.m.dtype)),
            error=error + missing,
            condition=proof.condition,
            steps=len(self.shared.schedule) + further,
            rank=torch.where(proof.definite, self.question.small, -1),
        )
        return self.question.of_scaled(found, decomposition.exponent)

    def _image(self, decomposition: Factors) -> tuple[Tensor, Tensor | float, int]:
        """The factor or its clipping, the error that the clipping adds, and the steps that it takes."""
        if self.question.bounds is None:
            return decomposition.o, 0.0, 0
        wide, size = decomposition.h.dtype, decomposition.size
        bounds = self.question.scaled_bounds(decomposition.exponent)
        lo, hi = (bound / size.to(torch.float64)[:, None] for bound in bounds)
        clipped, missing = clip(decomposition.h, lo, hi)
        value = product(decomposition.o.to(wide), clipped) * size.to(wide)[:, None, None]
        return value, missing, 2 * len(rows_from(Precision.FP64))

    def _error(self, factors: Factors, proof: Proof, sent: Tensor) -> Tensor:
        """Error of the polar factors, by law or as measured, infinite where nothing is proved, (batch,)."""
        o = factors.o.to(factors.h.dtype)
        gap = misses(o) if self.obeyed is None else distance(o)
        left = (_GAP_MARGIN * gap).clamp_max(self.allowed)
        expected = law(self.question.small, self.precision, left, proof.condition, proof.spread)
        measured = torch.maximum(gap, _ASTRAY_MARGIN * astray(factors, proof, sent))
        error = torch.maximum(expected, measured) if self.obeyed is None else expected + measured
        return torch.where(proof.definite & torch.isfinite(measured), error, math.inf)

    def fallbacks(self) -> tuple[Program, ...]:
        """The Gram matrix where its digits suffice, and the svd, in the precision that the call allows.

        Explicit coefficients are obeyed and LAPACK has no bf16.
        """
        if self.pinned or self.obeyed is not None or self.ceiling is Precision.BF16:
            return ()
        svd = SvdPolar(self.question, self.ceiling)
        spare = self.precision is not self.ceiling is Precision.FP64
        return (GramPolar(self.question), svd) if spare else (svd,)

    def variants(self) -> tuple[Tunable, ...]:
        """The program by every kernel that can run it; C has polar factors in float32, and by products in bf16."""
        asked = self.question
        found = tuple(replace(self, kernel=kernel) for kernel in fitting(self.dtype, asked.rows, asked.columns))
        single = asked.is_single and self.precision is Precision.FP32 and asked.bounds is None and self.obeyed is None
        if not single:
            return found
        native_products = NativePolar(asked, self.ceiling, self.allowed, pinned=self.pinned)
        tolerance = self.allowed / SHARE
        if self.ceiling is not Precision.FP64 or not HalfPolar.serves(asked, tolerance):
            return (*found, native_products)
        return (*found, native_products, HalfPolar(asked, tolerance, pinned=self.pinned))

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: products counted, priced by the profile."""
        small, aspect = self.question.small, self.question.aspect
        wide = profile.cost("gemm", Precision.FP64, small)
        steps = _STEPS if self.obeyed is None else len(self.obeyed.rows)
        step = step_cost(self.kernel, profile, self.precision, small, (1 + aspect, aspect))
        signs = 0.0 if self.question.bounds is None else 2.0 * _STEPS * _SIGN_PRODUCTS * wide
        return steps * step + signs + (_PROOF_PRODUCTS + aspect) * wide


@dataclass(frozen=True, slots=True)
class NativePolar(PolarProgram):
    """Polar factors in float32 by the kernels in C, one matrix after the other.

    Attributes:
        ceiling: the arithmetic that no fallback exceeds.
        allowed: relative error that the iteration may leave beside rounding.
    """

    ceiling: Precision
    allowed: float = 0.0

    method: ClassVar[str] = "newton_schulz"
    precision: ClassVar[Precision] = Precision.FP32
    kernel: ClassVar[Kernel] = Kernel.NATIVE

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        m = self.matrices(inputs)
        return self.question.turned_back(self._completed(self._iterated(m), m))

    def _iterated(self, m: Tensor) -> Findings:
        """Polar factors of tall M (batch, m, n) as it came."""
        small = self.question.small
        floor = floor_of(self.question.threshold(self.precision))
        given = m.to(torch.float32).resolve_neg().contiguous()
        value, found = native.polar_factors(given, floor, _schedules(self.allowed))
        condition = (found.largest / found.smallest).clamp_min(1.0)
        error = torch.maximum(law(small, self.precision, self.allowed, condition, found.spread), found.gap)
        return Findings(
            outputs=(value,),
            exponents=(None,),
            residual_name=self.question.residual_name,
            residual=found.residual,
            error=torch.where((found.definite > 0) & error.isfinite(), error, torch.inf),
            condition=condition,
            steps=found.steps,
            rank=torch.where(found.definite > 0, small, -1),
        )

    def _completed(self, found: Findings, m: Tensor) -> Findings:
        """Computes by Gram matrix, in the same run, matrices that are not proved or are known too roughly."""
        missed = ~(found.error <= max(_KNOWN, self.allowed / SHARE))
        if self.pinned or not bool(missed.any()) or self.ceiling is not Precision.FP64:
            return found
        missed &= torch.isfinite(m).flatten(1).all(-1)
        gram = NativeGramPolar(self.question)
        second = gram.finished(gram.shared.of_some(m, missed))
        return merged(~missed, found, replace(second, escalated=missed.to(torch.int64)))

    def fallbacks(self) -> tuple[Program, ...]:
        """The Gram matrix where its digits suffice, and the svd, in the precision that the call allows."""
        if self.pinned:
            return ()
        svd = SvdPolar(self.question, self.ceiling)
        return (NativeGramPolar(self.question), svd) if self.ceiling is Precision.FP64 else (svd,)

    def variants(self) -> tuple[Tunable, ...]:
        """The program by every kernel that can run it."""
        usual = IteratedPolar(self.question, self.precision, self.ceiling, allowed=self.allowed, pinned=self.pinned)
        return usual.variants()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: lines are half of a product; the Gram matrix is made in float64 too."""
        small, aspect = self.question.small, self.question.aspect
        steps = len(rows_from(self.precision, self.allowed, _USUAL_BOUND))
        line, wide = (profile.cost("native", precision, small) for precision in (Precision.FP32, Precision.FP64))
        return (steps * (1 + 3 * aspect) + _NATIVE_PROOF) * line + aspect * wide


@lru_cache(maxsize=64)
def _schedules(allowed: float) -> native.Schedules:
    return native.Schedules.down_to(BOUND, lambda bound: rows_from(Precision.FP32, allowed, bound))
