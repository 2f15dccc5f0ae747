"""Polar factor U V^H and singular-value clipping U clip(S, lo, hi) V^H of matrices of any shape and rank.

Three methods give the same answers on tall M (a wide one is transposed, exactly):

* `svd`: the singular value decomposition;
* `gram`: M h(M^H M) with h from eigh of the Gram matrix in float64. Squaring costs half the digits, which float64 has
  to spare for inputs of single precision or less;
* `newton_schulz`: X <- X (a I + b X^H X + c (X^H X)^2) with the minimax schedule for singular values in [1e-7, 1].
  Clipping uses the H-form: with O the polar factor, H = sym(O^H M) and S_t = sign(H - t I),
  O ((lo + hi) I + (H - lo I) S_lo - (H - hi I) S_hi) / 2. It costs one more polar iteration of order n a bound and
  keeps the conditioning linear in sigma_max / hi, where forms in M^H M square it.

Singular values at or below 8 eps sigma_max are noise: the polar factor is 0 there and `lo` does not lift them. The
iteration would lift rounding noise to 1, so it answers only for matrices that a Cholesky factorisation of
H - threshold I proves to have none; others are handed on by an infinite error estimate.
References: kexue.fm/archives/10922, 10996, 11006, 11059; Amsel et al., arXiv 2505.16932.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import torch

from matfn_kernels.linalg import probes
from matfn_kernels.linalg.decompositions import Gram, Singular
from matfn_kernels.linalg.iteration import ENGINE_REACH
from matfn_kernels.linalg.kernel_choice import Kernel, fitting
from matfn_kernels.linalg.scaling import rescale
from matfn_kernels.methods.polar.by_decomposition import by_gram, by_svd
from matfn_kernels.methods.polar.by_iteration import BOUND, Polar, PolarFoundation, by_iteration, rows_from
from matfn_kernels.methods.polar.natively import natively
from matfn_kernels.numbers.coefficients import safe, schedule, taylor_step
from matfn_kernels.numbers.precision import Precision, at_least_single, working
from matfn_kernels.programs.findings import merged
from matfn_kernels.programs.shared_decomposition import GramFoundation, SingularFoundation
from matfn_kernels.programs.variants import step_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Ground
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["PolarProgram", "candidates", "rows_of"]

_THRESHOLD: Final = 8.0
_STEPS: Final = 14
_PROOF_PRODUCTS: Final = 10.0
_FIRST_BOUND: Final = 0.3
_USUAL_BOUND: Final = 1e-4
"""Smallest singular value of a matrix of no special condition."""
_NATIVE_PROOF: Final = 4.0
_PASSES: Final = 12.0
"""What is done beside products and decompositions, in units of a product at this order."""
_PASS_ORDER: Final = 64
_SHARE: Final = 0.25
"""Of a loose tolerance: what the iteration may leave of it."""
_LOOSE: Final = 1e-3

Row = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PolarProgram:
    """What a batch of polar factors or clippings must have in common to be computed together.

    Attributes:
        rows: m.
        columns: n.
        bounds: (lo, hi) of a clipping, hi infinite where open; None for the polar factor.
        dtype: of the input and output.
        method: newton_schulz, gram or svd.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
        obeyed: the caller's own coefficients, to be run as they are.
        kernel: whose products the iteration uses.
        allowed: relative error that the iteration may leave beside rounding.
        pinned: whether the caller asked for the method, so that no other may answer.
    """

    rows: int
    columns: int
    bounds: tuple[float, float] | None
    dtype: torch.dtype
    method: Literal["newton_schulz", "gram", "svd"]
    precision: Precision
    ceiling: Precision
    obeyed: tuple[Row, ...] | None = None
    kernel: Kernel = Kernel.LIBRARY
    allowed: float = 0.0
    pinned: bool = False

    @property
    def small(self) -> int:
        """The smaller dimension."""
        return min(self.rows, self.columns)

    @property
    def threshold(self) -> float:
        """Relative size at and below which a singular value is noise."""
        return _THRESHOLD * torch.finfo(self.dtype).eps

    def scaled_bounds(self, exponent: Tensor) -> tuple[Tensor, Tensor]:
        """(lo, hi) of a clipping in units of matrices scaled by 2^-exponent, (batch, 1) each."""
        assert self.bounds is not None
        one = torch.ones(len(exponent), 1, dtype=torch.float64, device=exponent.device)
        lo, hi = (rescale(bound * one, -exponent) if 0 < bound < math.inf else bound * one for bound in self.bounds)
        return lo, hi

    @property
    def residual_name(self) -> str:
        """The equation that the polar factor, or any odd function of the singular values, satisfies."""
        return "M - O sym(O^H M)" if self.bounds is None else "skew(X^H M)"

    def residual(self, m: Tensor, value: Tensor) -> Tensor:
        """Relative distance from that equation on random columns, (batch,)."""
        z = probes.gaussian(m, m.shape[-1]).to(m.dtype)
        mz = probes.times(m, z)
        forward, backward = probes.times(value.mH, mz), probes.times(m.mH, probes.times(value, z))
        if self.bounds is None:
            return probes.ratio(mz - probes.times(value, forward + backward) / 2, mz)
        return probes.ratio((forward - backward) / 2, forward)

    @property
    def foundation(self) -> SingularFoundation | GramFoundation | PolarFoundation | None:
        """The decomposition, or polar factor, which serves any clipping of the singular values.

        The kernels in C keep it to themselves.
        """
        if self.kernel is Kernel.NATIVE and self.method == "newton_schulz":
            return None
        shape = max(self.rows, self.columns), self.small
        dtype = working(at_least_single(self.precision), self.dtype)
        match self.method:
            case "svd":
                return SingularFoundation(*shape, dtype)
            case "gram":
                return GramFoundation(*shape, dtype, self.kernel)
            case "newton_schulz":
                return PolarFoundation(*shape, dtype, self.precision, self.obeyed, self.allowed, self.kernel)

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """M (batch, m, n), or M^H where that is taller."""
        return inputs["m"].mH if self.rows < self.columns else inputs["m"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input m (batch, m, n)."""
        m = self.matrices(inputs)
        if self.foundation is None:
            return self._turned_back(self._completed(natively(self, m), m))
        return self.finish(self.foundation.of([m]), inputs)

    def _completed(self, found: Findings, m: Tensor) -> Findings:
        """What is not proved, or known too roughly for any caller, goes through its Gram matrix in the same run."""
        missed = ~(found.error <= max(_LOOSE, self.allowed / _SHARE))
        if self.pinned or not bool(missed.any()) or self.ceiling is not Precision.FP64:
            return found
        missed &= torch.isfinite(m).flatten(1).all(-1)
        gram = self.fallbacks()[0]
        assert isinstance(gram.foundation, GramFoundation)
        second = by_gram(gram, gram.foundation.of_some(m, missed))
        return merged(~missed, found, replace(second, escalated=missed.to(torch.int64)))

    def finish(self, ground: Ground, inputs: Mapping[str, Tensor]) -> Findings:
        """Polar factor or clipping of matrices that have been decomposed."""
        del inputs
        assert isinstance(ground, Singular | Gram | Polar)
        findings = self._turned_back(self._finished(ground))
        return replace(findings, exponents=(None if self.bounds is None else ground.exponent,))

    def _turned_back(self, findings: Findings) -> Findings:
        """The image of M where it was M^H that was computed with."""
        return replace(findings, outputs=(findings.outputs[0].mH,)) if self.rows < self.columns else findings

    def _finished(self, ground: Ground) -> Findings:
        match ground:
            case Singular():
                return by_svd(self, ground)
            case Gram():
                return by_gram(self, ground)
            case _:
                assert isinstance(ground, Polar)
                return by_iteration(self, ground)

    @property
    def is_recordable(self) -> bool:
        """The iteration."""
        return self.method == "newton_schulz"

    def fallbacks(self) -> tuple[PolarProgram, ...]:
        """The Gram matrix where its digits suffice, and the svd, in the precision that the call allows.

        Explicit coefficients are obeyed and LAPACK has no bf16.
        """
        if self.pinned or self.method == "svd" or self.obeyed is not None or self.ceiling is Precision.BF16:
            return ()
        svd = replace(self, method="svd", precision=self.ceiling, kernel=Kernel.LIBRARY, allowed=0.0)
        spare = self.method == "newton_schulz" and self.precision is not self.ceiling is Precision.FP64
        if not spare:
            return (svd,)
        kernel = Kernel.NATIVE if self.kernel is Kernel.NATIVE else Kernel.LIBRARY
        return replace(svd, method="gram", kernel=kernel), svd

    def variants(self) -> tuple[PolarProgram, ...]:
        """The same by every kernel that can run it."""
        single = self.dtype not in {torch.float64, torch.complex64, torch.complex128}
        match self.method:
            case "svd":
                return (self,)
            case "gram":
                kernels = [Kernel.LIBRARY]
            case "newton_schulz":
                kernels = [*fitting(self.dtype, self.rows, self.columns)]
                single &= self.precision is Precision.FP32 and self.bounds is None and self.obeyed is None
        kernels += [Kernel.NATIVE] if single else []
        return tuple(replace(self, kernel=kernel) for kernel in kernels)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["m"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: products and decompositions counted, priced by the profile."""
        small, aspect = self.small, max(self.rows, self.columns) / max(1, self.small)
        wide = profile.cost("gemm", Precision.FP64, small)
        one_pass = profile.cost("gemm", Precision.FP64, _PASS_ORDER) * aspect * (small / _PASS_ORDER) ** 2
        match self.method:
            case "svd":
                decomposed = profile.cost("svd", self.precision, small) * math.sqrt(aspect)
                return decomposed + 2 * aspect * wide + _PASSES * one_pass
            case "gram":
                decomposed = profile.cost("eigh", Precision.FP64, small)
                if self.kernel is Kernel.NATIVE:
                    symmetric = profile.cost("native", Precision.FP64, small)
                    return decomposed + (1 + aspect) * symmetric + aspect * wide + _PASSES / 4 * one_pass
                return decomposed + (1 + 2 * aspect) * wide + _PASSES * one_pass
            case "newton_schulz":
                if self.kernel is Kernel.NATIVE:
                    return _native_seconds(self, profile)
                steps = _STEPS if self.obeyed is None else len(self.obeyed)
                step = step_cost(self.kernel, profile, self.precision, small, (1 + aspect, aspect))
                signs = 0.0 if self.bounds is None else 2.0 * _STEPS * 3 * wide
                return steps * step + signs + (_PROOF_PRODUCTS + aspect) * wide


def _native_seconds(program: PolarProgram, profile: Profile) -> float:
    """Lines are half of a product, with what is done beside them; the Gram matrix is made in double precision too."""
    small, aspect = program.small, max(program.rows, program.columns) / max(1, program.small)
    steps = len(rows_from(program.precision, program.allowed, _USUAL_BOUND))
    line, wide = (profile.cost("native", precision, small) for precision in (Precision.FP32, Precision.FP64))
    return (steps * (1 + 3 * aspect) + _NATIVE_PROOF) * line + aspect * wide


def rows_of(steps: int | None, coefficients: tuple[Row, ...] | None) -> tuple[Row, ...] | None:
    """The coefficients that explicit `steps` and `coefficients` of a call mean, None where neither is given.

    Coefficients alone are run once each; with steps, cut or the last row repeated. Steps alone take the schedule of
    the widest interval that converges to 1e-2 in that many, and Taylor steps once it is used up.
    """
    if coefficients is not None:
        wanted = len(coefficients) if steps is None else steps
        return (*coefficients[:wanted], *[coefficients[-1]] * (wanted - len(coefficients)))
    if steps is None:
        return None
    bound = _FIRST_BOUND
    while bound > BOUND and len(schedule(2, bound / 2, target=1e-2)) <= steps:
        bound /= 2
    found = safe(schedule(2, bound, target=1e-2), 2, 1.001)[:steps]
    return (*found, *[taylor_step(2)] * (steps - len(found)))


def candidates(call: Signature) -> list[PolarProgram]:
    """The programs that may serve a call."""
    rows, columns = call.sizes("m")
    low, ceiling = call.precisions()
    svd = PolarProgram(
        rows=rows,
        columns=columns,
        bounds=_bounds_of(call),
        dtype=call.dtype,
        method="svd",
        precision=ceiling,
        ceiling=ceiling,
        obeyed=_obeyed_of(call),
        pinned=call.is_pinned,
    )
    loose = call.tol is not None and call.tol >= _LOOSE and svd.bounds is None and svd.obeyed is None
    iteration = replace(
        svd, method="newton_schulz", precision=low, allowed=_SHARE * min(1.0, call.tol or 0.0) if loose else 0.0
    )
    if svd.obeyed is not None or ceiling is Precision.BF16:
        return [iteration]
    candidates: list[PolarProgram] = [svd]
    if low is not Precision.FP64 and ceiling is Precision.FP64:
        candidates.append(replace(svd, method="gram"))
    if not call.dtype.is_complex and (low is Precision.FP64 or call.tolerates(ENGINE_REACH)):
        candidates.append(iteration)
    return candidates


def _bounds_of(call: Signature) -> tuple[float, float] | None:
    if call.function == "msign":
        return None
    lo, hi = call.parameter("lo"), call.parameter("hi")
    assert isinstance(lo, float)
    assert hi is None or isinstance(hi, float)
    return lo, float("inf") if hi is None else hi


def _obeyed_of(call: Signature) -> tuple[tuple[float, float, float], ...] | None:
    steps, coefficients = call.parameter("steps"), call.parameter("coefficients")
    assert steps is None or isinstance(steps, int)
    assert coefficients is None or isinstance(coefficients, tuple)
    return rows_of(steps, coefficients)
