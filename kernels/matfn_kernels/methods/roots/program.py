"""Powers A^(s/r) and A^(-s/r) of symmetric positive semidefinite matrices, alone or multiplied from the left by G.

Two methods give the same answers. `eigh` diagonalises; it serves every matrix, finds the smallest eigenvalue and with
it the damping. `engine` runs the coupled iteration of `iteration.coupled` on A / ||A||_F and is meant for matrices that
are positive definite in their dtype; a Cholesky factorisation of A - floor I in float64 proves that of each matrix, and
one that has no proof is handed on by an infinite error estimate.

A^(s/r) is A^k A^(-(k - s/r)) with k = ceil(s/r), so that one kind of iterate and one kind of certificate serve both.
Damping: the answer is that of A + shift I, the shift added in the working precision.
References: kexue.fm/archives/11175; Guo and Higham (2006); Higham, Functions of Matrices (2008), chapter 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import torch

from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg.decompositions import Eigen, scaled
from matfn_kernels.linalg.iteration import ENGINE_REACH
from matfn_kernels.linalg.kernel_choice import Kernel, fitting
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.linalg.scaling import power_of_two
from matfn_kernels.linalg.spectral import asymmetric
from matfn_kernels.methods.roots import general
from matfn_kernels.methods.roots.by_eigh import LOOSE, by_eigh, promising
from matfn_kernels.methods.roots.by_iteration import by_iteration, steps_for
from matfn_kernels.methods.roots.natively import natively
from matfn_kernels.numbers.precision import Precision, at_least_single, spacing, working
from matfn_kernels.programs.findings import merged
from matfn_kernels.programs.shared_decomposition import EigenFoundation
from matfn_kernels.programs.variants import step_cost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Ground
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["RootProgram", "candidates"]


_PROOF_PRODUCTS: Final = 1.0
_PASSES: Final = {"engine": 7.0, "native": 2.0, "trial": 20.0, "eigh": 10.0}
"""What is done beside products and decompositions grows with n^2: in units of a product at this order."""
_PASS_ORDER: Final = 64
_SHARE: Final = 1e-2
"""Of a loose tolerance: what the iteration may leave of it."""
_SHARE_OF_EPS: Final = 1 / 32
"""Of the spacing of an output in fewer digits: what an iteration in float64 may leave of it."""
_DOUBLE_ORDER: Final = 128
"""Largest order at which the iteration in float64 takes less time than eigh does."""
_TRIAL_ORDER: Final = 48
"""Below, what is done beside the decompositions costs as much as float32 saves of them."""
_SMOOTH_ROOTS: Final = 5
"""Beyond, the first steps of A^(s/r) reach eigenvalues of 2^r and amplify rounding up to 1e4 times."""


@dataclass(frozen=True, slots=True)
class RootProgram:
    """What a batch of roots must have in common to be computed together.

    Attributes:
        order: n.
        rows: rows of G, or None without G.
        r: the root.
        s: the power.
        inverse: A^(-s/r) rather than A^(s/r).
        pair: both.
        damping: as the caller gave it.
        dtype: of the inputs and outputs.
        method: engine or eigh.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
        kernel: whose products the engine uses.
        allowed: relative error that the iteration may leave beside rounding.
        pinned: whether the caller asked for the method, so that no other may answer.
    """

    order: int
    rows: int | None
    r: int
    s: int
    inverse: bool
    pair: bool
    damping: float | str | None
    dtype: torch.dtype
    method: Literal["engine", "eigh"]
    precision: Precision
    ceiling: Precision
    kernel: Kernel = Kernel.LIBRARY
    allowed: float = 0.0
    pinned: bool = False

    @property
    def negative(self) -> tuple[int, int, int]:
        """(k, s', r): the answer is A^k A^(-s'/r) in lowest terms."""
        common = math.gcd(self.s, self.r)
        s, r = self.s // common, self.r // common
        k = 0 if self.inverse else -(-s // r)
        return k, (s if self.inverse else k * r - s), r

    @property
    def signs(self) -> tuple[int, ...]:
        """+1 for A^(s/r), -1 for A^(-s/r): one a output."""
        if self.pair:
            return (1, -1)
        return (-1,) if self.inverse else (1,)

    @property
    def eps(self) -> float:
        """The coarser spacing of the dtype and of the arithmetic in which eigenvalues are known."""
        return max(torch.finfo(self.dtype).eps, spacing(at_least_single(self.precision)))

    def turned(self, value: Tensor, exponent: Tensor, sign: int, left: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """A power of A 2^-exponent, G scaled by 2^-left, as a value and the integer power of two it lacks."""
        scaled, whole = power_of_two(value, exponent, sign * self.s, self.r)
        return scaled, whole if left is None else whole + left

    @property
    def is_trial(self) -> bool:
        """Whether eigh runs in less than the ceiling, for matrices that promise to need no more."""
        return self.method == "eigh" and self.precision is not self.ceiling

    @property
    def foundation(self) -> EigenFoundation | None:
        """The eigendecomposition, which serves any power and clipping of the matrix."""
        return EigenFoundation(self.order, self.working) if self.method == "eigh" and not self.is_trial else None

    @property
    def working(self) -> torch.dtype:
        """The dtype that matrices are scaled in."""
        return working(at_least_single(self.precision), self.dtype)

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n)."""
        return inputs["a"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the program has rows, g (batch, m, n)."""
        if self.foundation is not None:
            return self.finish(self.foundation.of([inputs["a"]]), inputs)
        if self.is_trial:
            return self._tried(*scaled([inputs["a"]], self.working), inputs)
        return self._completed(self.iterated(inputs), inputs)

    def iterated(self, inputs: Mapping[str, Tensor]) -> Findings:
        """What the iteration finds of a batch, and no other method."""
        if self.kernel is Kernel.NATIVE:
            return natively(self, inputs["a"], inputs.get("g"))
        given, exponent = scaled([inputs["a"]], self.working)
        a = symmetrise(given)
        found = by_iteration(self, a, exponent, inputs.get("g"))
        found = replace(found, error=found.error + self._rounded(given, a, found.condition))
        return self._remarked(found, given, a)

    def _completed(self, found: Findings, inputs: Mapping[str, Tensor]) -> Findings:
        """What the iteration has no proof for goes up the ladder in the same run; a GPU leaves that to others."""
        if found.error.device.type != "cpu" or bool(torch.isfinite(found.error).all()):
            return found
        for rung in range(1, 1 + len(self.fallbacks())):
            good = torch.isfinite(found.error) | ~torch.isfinite(inputs["a"]).flatten(1).all(-1)
            if bool(good.all()):
                break
            found = merged(good, found, self._by_fallback(rung, ~good, inputs))
        return found

    def _rounded(self, given: Tensor, a: Tensor, condition: Tensor) -> Tensor:
        """What the rounding of (A + A^H) / 2 does to the power, none to a matrix that is symmetric."""
        if given.device.type == "cpu" and torch.equal(given, a):
            return torch.zeros_like(condition)
        law = 0.5 * spacing(at_least_single(self.precision)) * condition * self.s / self.r
        return torch.where(torch.eq(given, a).flatten(1).all(-1), 0.0, law)

    def _tried(self, given: Tensor, exponent: Tensor, inputs: Mapping[str, Tensor]) -> Findings:
        """Matrices for which less than the ceiling does, and at once the others, each as if all were alike."""
        good = promising(self, given)
        tried = self.finish(Eigen.of_some(given, exponent, good), inputs) if bool(good.any()) else None
        if tried is not None:
            good = good & (tried.error <= LOOSE)
            if bool(good.all()):
                return tried
        found = self._by_fallback(1, ~good, inputs)
        return found if tried is None else merged(good, tried, found)

    def _by_fallback(self, number: int, wanted: Tensor, inputs: Mapping[str, Tensor]) -> Findings:
        """A rung's findings of the matrices that are wanted (batch,), each as if all were."""
        rung = self.fallbacks()[number - 1]
        if rung.method == "eigh":
            found = rung.finish(Eigen.of_some(*scaled([inputs["a"]], rung.working), wanted), inputs)
        else:
            a = inputs["a"].to(rung.working).where(wanted[:, None, None], math.nan)
            found = rung.iterated({**inputs, "a": a})
        outputs = tuple(output.to(self.working) for output in found.outputs)
        error = found.error + spacing(self.precision)
        return replace(found, outputs=outputs, error=error, escalated=number * wanted.to(torch.int64))

    def finish(self, ground: Ground, inputs: Mapping[str, Tensor]) -> Findings:
        """The powers of matrices that have been diagonalised."""
        assert isinstance(ground, Eigen)
        return self._remarked(by_eigh(self, ground, inputs.get("g")), ground.given, ground.a)

    def _remarked(self, findings: Findings, given: Tensor, a: Tensor) -> Findings:
        return replace(findings, remarks={**findings.remarks, "asymmetric": asymmetric(given, a, self.eps)})

    @property
    def is_recordable(self) -> bool:
        """The iteration, but for its damping in bf16, which is found by eigh."""
        return self.method == "engine" and self.precision is not Precision.BF16

    def fallbacks(self) -> tuple[RootProgram, ...]:
        """Float64 eigh, or what the named precision allows of it; LAPACK has no bf16.

        Before it comes the iteration in float64 where it is the faster of the two. A method that was asked for is not
        left.
        """
        return tuple(rung for rung in self._rungs() if rung.method == self.method or not self.pinned)

    def _rungs(self) -> tuple[RootProgram, ...]:
        if self.ceiling is Precision.BF16 or (self.method == "eigh" and not self.is_trial):
            return ()
        eigh = replace(self, method="eigh", precision=self.ceiling, kernel=Kernel.LIBRARY, allowed=0.0)
        if self.kernel is not Kernel.NATIVE or self.precision is self.ceiling or self.order > _DOUBLE_ORDER:
            return (eigh,)
        return replace(self, precision=self.ceiling, allowed=_SHARE_OF_EPS * torch.finfo(self.dtype).eps), eigh

    def variants(self) -> tuple[RootProgram, ...]:
        """The same by every kernel that can run it."""
        if self.method != "engine":
            return (self,)
        native = (Kernel.NATIVE,) if self.precision is not Precision.BF16 and self.negative[1] else ()
        kernels = (*fitting(self.dtype, self.order), *native)
        return tuple(replace(self, kernel=kernel) for kernel in kernels)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """A product over an empty dimension is zero, all else is empty."""
        shape = inputs["g" if "g" in inputs else "a"].shape
        return tuple(torch.zeros(shape, dtype=self.dtype) for _ in self.signs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: products, decompositions and passes counted, priced by the profile."""
        gemm = profile.cost("gemm", self.precision, self.order)
        wide = profile.cost("gemm", Precision.FP64, self.order)
        products = (1 if self.rows is None else self.rows / max(1, self.order)) + self.pair
        one_pass = profile.cost("gemm", Precision.FP64, _PASS_ORDER) * (self.order / _PASS_ORDER) ** 2
        passes = _PASSES[self._route] * one_pass
        if self.method == "eigh":
            return profile.cost("eigh", self.precision, self.order) + products * gemm + passes
        _, s, r = self.negative
        steps, others = len(steps_for(self)), _power_products(s) + (1 if s else 0) + _contraction_products(r) - 1
        if self.kernel is Kernel.NATIVE:  # the last step contracts nothing, and the first multiplies nothing by W
            made = steps * (2 + others) - 2 - _contraction_products(r)
            return made * profile.cost("native", self.precision, self.order) + products * gemm + passes
        step = step_cost(self.kernel, profile, self.precision, self.order, (2, others))
        return steps * step + _PROOF_PRODUCTS * wide + products * gemm + passes

    @property
    def _route(self) -> str:
        if self.method == "eigh":
            return "trial" if self.is_trial else "eigh"
        return "native" if self.kernel is Kernel.NATIVE else "engine"


def candidates(call: Signature) -> Sequence[Program]:
    """The programs that may serve a call: those of the structure that was declared."""
    return general.candidates(call) if call.parameter("structure") == "general" else _symmetric(call)


def _symmetric(call: Signature) -> list[RootProgram]:
    """Always eigh, in float32 too where that may do, and the engine where nothing but its rounding is in the way."""
    g = call.shape("g")
    low, ceiling = call.precisions()
    pair = call.function == "sqrt_pair"
    r, s = (2, 1) if pair else (call.parameter("r"), call.parameter("s"))
    damping = call.parameter("damping")
    assert isinstance(r, int)
    assert isinstance(s, int)
    assert damping is None or isinstance(damping, float | str)
    eigh = RootProgram(
        order=call.sizes("a")[-1],
        rows=None if g is None else g[-2],
        r=r,
        s=s,
        inverse=call.function == "inv_root",
        pair=pair,
        damping=damping,
        dtype=call.dtype,
        method="eigh",
        precision=ceiling,
        ceiling=ceiling,
        pinned=call.is_pinned,
    )
    loose = call.tol is not None and call.tol >= LOOSE and low is Precision.FP32 and call.function == "inv_root"
    engine = replace(eigh, method="engine", precision=low, allowed=_SHARE * LOOSE if loose else 0.0)
    if ceiling is Precision.BF16:
        if damping == "range":
            raise Rejection(
                "invalid_parameter", 'damping="range" needs eigenvectors, which bf16 has not', "ask for fp32"
            )
        return [engine]
    undamped = damping is None or damping == 0
    reachable = low is Precision.FP64 or call.tolerates(ENGINE_REACH)
    smooth = engine.inverse or r <= _SMOOTH_ROOTS
    methods = [eigh, engine] if undamped and smooth and not call.dtype.is_complex and reachable else [eigh]
    trial = replace(eigh, precision=low)
    return [*methods, trial] if trial.is_trial and _may_try(call, trial) else methods


def _may_try(call: Signature, trial: RootProgram) -> bool:
    """Whether the caller allows the error of float32, and there is something to save."""
    return call.tol is not None and call.tol >= LOOSE and trial.damping != "range" and trial.order >= _TRIAL_ORDER


def _power_products(exponent: int) -> int:
    return max(0, exponent.bit_length() - 1 + exponent.bit_count() - 1)


def _contraction_products(r: int) -> int:
    return 1 if r == 1 else 2 + r % 2 + _power_products(r // 2)
