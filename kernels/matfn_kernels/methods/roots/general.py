"""Principal powers A^(s/r) and A^(-s/r) of matrices without symmetry, alone or multiplied from the left by G.

By the complex Schur form A = Q T Q^H and `triangular_power` on T, matrix by matrix. A real matrix is brought to its
real Schur form first, so that a simple real eigenvalue is exactly real.

Domain: no eigenvalue on the closed negative axis. One that is known to lie there (`negative_axis`) is `not_positive`; a
singular matrix, in exact arithmetic, is `singular` for an inverse; it has a root where its eigenvalue 0 is semisimple
(`semisimple`), and is `not_positive` elsewhere. One that is singular
to rounding only, or of which rounding leaves open whether it meets the axis, is answered without an estimate and with a
condition number that says so. Whole powers take no root: they exist for every matrix, with negative exponents for every
nonsingular one.
Error: the condition number of the function at T times the backward errors of the Schur form and of the recurrence.
References: Smith (2003); Higham, Functions of Matrices (2008), chapters 3 and 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch
from scipy.linalg import LinAlgError

from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg import invariant, narrowing, probes
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR, relative_to_truth
from matfn_kernels.linalg.scaling import narrowed, power_of_two
from matfn_kernels.methods.roots.negative_axis import NegativeAxis, Singularity
from matfn_kernels.methods.roots.schur_form import law, nonsingular, schur_form, unexplained
from matfn_kernels.methods.roots.semisimple import Core, SemisimpleRoot
from matfn_kernels.methods.roots.triangular_power import TriangularPower, norm
from matfn_kernels.numbers.modular import is_singular
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["GeneralRootProgram", "candidates", "left_factor"]

Array: TypeAlias = "NDArray[Any]"

_MARGIN: Final = 3.0
"""Factor on the error of the Schur form: the power method's norm of a derivative is a lower bound, and was up to 1.6
times too small (`triangular_power`)."""
_FIRST_ORDER: Final = 0.1
"""Largest change of a power that its derivative tells, where a Schur form is worse than its law."""
_SCHUR_FORMS: Final = 8.0
"""Price of a Schur form in decompositions of symmetric matrices of its order: an estimate of which no measurement is
recorded. No other program serves these calls, so that it only tells a scheduler how long they take."""
_RECURRENCES: Final = 60.0
"""Price of a root and four derivatives in products times r: an estimate as `_SCHUR_FORMS` is."""


@dataclass(frozen=True, slots=True)
class GeneralRootProgram:
    """A power of matrices without symmetry, by their Schur form; the key of a batch.

    Attributes:
        order: n.
        rows: rows of G, or None without G.
        r: the root.
        s: the power.
        signs: +1 for A^(s/r), -1 for A^(-s/r), one an output.
        damping: the shift relative to the spectral radius.
        shift: the number to add to the diagonal, where the caller gave one in place of a damping.
        dtype: of the inputs and outputs.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    order: int
    rows: int | None
    r: int
    s: int
    signs: tuple[int, ...]
    damping: float
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision
    shift: float | None = None

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "schur"

    @property
    def takes_root(self) -> bool:
        """Whether the power is no whole one."""
        return self.s % self.r != 0

    @property
    def needs_inverse(self) -> bool:
        """Whether the power exists for nonsingular matrices only."""
        return self.signs[-1] < 0 or self.takes_root

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the program has rows, g (batch, m, n)."""
        dtype = working(self.precision, self.dtype)
        sent = inputs["a"].to(torch.promote_types(inputs["a"].dtype, dtype))
        a, exponent = narrowed(sent, dtype)
        columns = a.cpu().numpy(), sent.cpu().numpy(), narrowing.loss(sent, dtype).tolist()
        units = exponent.tolist()
        solved = [
            _Solved.of(one.copy(), exact.copy(), (lost, unit), self)
            for one, exact, lost, unit in zip(*columns, units, strict=True)
        ]
        powers = [self._tensor([one.values[i] for one in solved], a) for i in range(len(self.signs))]
        shift, damping, error, condition = (
            torch.tensor([getattr(one, name) for one in solved], dtype=torch.float64, device=a.device)
            for name in ("shift", "damping", "error", "condition")
        )
        left, up, lost, amplified = left_factor(inputs.get("g"), powers[0])
        shifted = a + shift[:, None, None].to(a.dtype) * torch.eye(self.order, dtype=a.dtype, device=a.device)
        outputs = (power if left is None else invariant.product(left, power) for power in powers)
        turned = [power_of_two(x, exponent, sign * self.s, self.r) for x, sign in zip(outputs, self.signs, strict=True)]
        return Findings(
            outputs=tuple(value for value, _ in turned),
            exponents=tuple(whole + up for _, whole in turned),
            residual_name="X^r - A^s" if self.signs[-1] > 0 else "X^r A^s - I",
            residual=self._residual(shifted, powers[-1]),
            error=relative_to_truth((error + lost) * amplified),
            condition=condition * amplified,
            damping=damping,
            shift=invariant.ldexp(shift, exponent),
            failures={
                reason: torch.tensor([one.failure == reason for one in solved], device=a.device)
                for reason in ("exactly_singular", "on_negative_axis", "defective_zero")
            },
            remarks={
                reason: torch.tensor([one.remark == reason for one in solved], device=a.device)
                for reason in ("ill_conditioned", "near_negative_axis")
            },
        )

    def _tensor(self, values: list[Array], like: Tensor) -> Tensor:
        stacked = np.stack(values)
        return torch.as_tensor(stacked if like.dtype.is_complex else stacked.real.copy()).to(like.device, like.dtype)

    def _residual(self, a: Tensor, x: Tensor) -> Tensor:
        """Relative residual of the defining equation on random columns."""
        z = probes.gaussian(a, self.order).to(a.dtype)
        if self.signs[-1] < 0:
            return probes.ratio(probes.interleaved(x, a, self.r, self.s, z) - z, z)
        target = probes.interleaved(x, a, 0, self.s, z)
        return probes.ratio(probes.interleaved(x, a, self.r, 0, z) - target, target)

    def fallbacks(self) -> tuple[GeneralRootProgram, ...]:
        """None: it runs in the highest precision that the call allows."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """A product over an empty dimension is zero, all else is empty."""
        shape = inputs["g" if "g" in inputs else "a"].shape
        return tuple(torch.zeros(shape, dtype=self.dtype) for _ in self.signs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: a Schur form, and the recurrence of the root and of four derivatives."""
        gemm = profile.cost("gemm", self.precision, self.order)
        return _SCHUR_FORMS * profile.cost("eigh", self.precision, self.order) + _RECURRENCES * self.r * gemm


@dataclass(frozen=True, slots=True)
class _Domain:
    """Why a matrix has no answer, or why one without an estimate, and the condition number that says so."""

    failure: str = ""
    remark: str = ""
    condition: float = 0.0
    core: Core | None = None

    @classmethod
    def of(
        cls, exact: Array, shifted: Array, t: Array, lost: tuple[float, float], program: GeneralRootProgram
    ) -> _Domain:
        """The verdict on A + shift I, given exactly and scaled, with T, and what narrowing and T lost beyond law."""
        if not program.needs_inverse:
            return cls()
        unit = spacing(program.precision)
        singularity = Singularity.of(shifted, unit)
        if singularity.is_singular and is_singular(exact):
            return (
                cls(failure="exactly_singular")
                if program.signs[-1] < 0
                else cls._semisimple(exact, shifted, unit, lost[0])
            )
        noise = max(BACKWARD_ERROR * unit * norm(t), lost[1])
        axis = NegativeAxis.of(exact, t, singularity, noise) if program.takes_root else NegativeAxis.CLEAR
        if axis is NegativeAxis.MET:
            return cls(failure="on_negative_axis")
        if singularity.is_singular:
            return cls(remark="ill_conditioned", condition=singularity.condition)
        return cls(remark="near_negative_axis", condition=math.inf) if axis is NegativeAxis.UNKNOWN else cls()

    @classmethod
    def _semisimple(cls, exact: Array, a: Array, unit: float, lost: float) -> _Domain:
        """The verdict on a root of an exactly singular matrix."""
        core = Core.of(exact, a, unit, lost)
        if core is None:
            return cls(failure="defective_zero")
        if core.axis is NegativeAxis.MET:
            return cls(failure="on_negative_axis")
        known = core.axis is NegativeAxis.CLEAR
        return cls(core=core) if known else cls(core=core, remark="near_negative_axis", condition=math.inf)


@dataclass(frozen=True, slots=True)
class _Solved:
    """The powers of one matrix with their worst error and condition, or why it has none."""

    values: tuple[Array, ...]
    shift: float
    error: float = math.nan
    condition: float = math.nan
    failure: str = ""
    remark: str = ""
    damping: float = 0.0

    @classmethod
    def of(cls, a: Array, sent: Array, known: tuple[float, int], program: GeneralRootProgram) -> _Solved:
        """The powers of A 2^-unit (n, n), the matrix sent with entries near 1, but for a part that is lost."""
        lost, unit = known
        nothing = (np.full(a.shape, np.nan, dtype=np.result_type(a, np.complex64)),) * len(program.signs)
        try:
            form = schur_form(a)
        except (LinAlgError, np.linalg.LinAlgError, ArithmeticError):
            return cls(nothing, 0.0)
        largest = float(np.abs(form[0].diagonal()).max())
        shift, damping = program.damping * largest, program.damping
        if program.shift is not None:
            shift = float(np.ldexp(program.shift, -unit))
            damping = shift / largest if largest > 0 and math.isfinite(shift) else 0.0
        return replace(cls._shifted(a, sent, lost, program, (*form, shift)), damping=damping)

    @classmethod
    def _shifted(
        cls, a: Array, sent: Array, lost: float, program: GeneralRootProgram, form: tuple[Array, Array, float]
    ) -> _Solved:
        """The powers of A + shift I, given T and Q of A and the shift."""
        t, q, shift = form
        nothing = (np.full(a.shape, np.nan, dtype=np.result_type(a, np.complex64)),) * len(program.signs)
        try:
            beyond = unexplained(a, t, q, spacing(program.precision))
            identity = np.eye(len(t), dtype=t.dtype)
            t += shift * identity
            shifted = a + shift * identity.real
            # Scaling and narrowing may drop what is tiny beside the largest entry: only the matrix as sent is exact.
            domain = _Domain.of(shifted if shift else sent, shifted, t, (lost, beyond[0]), program)
            if domain.failure:
                return cls(nothing, shift, failure=domain.failure)
            with np.errstate(all="ignore"):
                if domain.core is not None:
                    found = cls._of_core(domain.core, program, shift)
                else:
                    lifted = nonsingular(t, spacing(program.precision)) if program.needs_inverse else t
                    found = cls._powers(lifted, q, program, shift, (lost, *beyond))
        except (LinAlgError, np.linalg.LinAlgError, ArithmeticError):
            return cls(nothing, 0.0)
        if not domain.remark:
            return found
        return replace(found, error=math.nan, condition=max(domain.condition, found.condition), remark=domain.remark)

    @classmethod
    def _of_core(cls, core: Core, program: GeneralRootProgram, shift: float) -> _Solved:
        """The root of an exactly singular matrix from its nonsingular part."""
        root = SemisimpleRoot.of(core, program.r, program.s)
        seen = 0.0 if program.dtype.is_complex or not root.value.any() else norm(root.value.imag) / norm(root.value)
        return cls((root.value,), shift, max(seen, root.error), root.condition)

    @classmethod
    def _powers(
        cls, t: Array, q: Array, program: GeneralRootProgram, shift: float, lost: tuple[float, float, float]
    ) -> _Solved:
        root = TriangularPower.of(t, program.r, program.s)
        values, errors, conditions = [], [], []
        narrowed_off, backward, skew = lost
        unit = narrowed_off + max(law(spacing(program.precision), len(t)), backward / norm(t) if backward else 0.0)
        for sign in program.signs:
            power = root.value(sign)
            if not power.any():
                # A whole power of a nilpotent matrix, zero itself for certain only where the matrix is.
                return cls((power,) * len(program.signs), shift, 0.0 if not t.any() else math.nan, 1.0)
            condition = max(1.0, root.condition(sign, power))
            missing, rounding = root.rounding(sign, power)
            value = q @ power @ q.conj().T
            # What a real function leaves in the imaginary part is error, seen directly.
            seen = 0.0 if program.dtype.is_complex else norm(value.imag) / norm(value)
            values.append(value)
            moved = condition * (_MARGIN * unit + missing)
            errors.append(float(np.maximum(seen, moved + rounding + skew)) if _is_small(backward, moved) else math.inf)
            conditions.append(condition)
        return cls(tuple(values), shift, float(np.max(errors)), max(conditions))


def _is_small(backward: float, moved: float) -> bool:
    """Whether first order holds for a backward error that no law explains."""
    return backward == 0 or moved <= _FIRST_ORDER


def left_factor(g: Tensor | None, power: Tensor) -> tuple[Tensor | None, Tensor | int, Tensor, Tensor]:
    """G scaled, its exponent, the part that rounding took from it, and by how much G X may be less accurate than X."""
    ones = torch.ones(len(power), dtype=torch.float64, device=power.device)
    if g is None:
        return None, 0, torch.zeros_like(ones), ones
    left, up = narrowed(g, power.dtype)
    whole = invariant.matrix_norm(invariant.product(left, power), torch.float64)
    parts = invariant.matrix_norm(left, torch.float64) * invariant.matrix_norm(power, torch.float64)
    return left, up, narrowing.loss(g, power.dtype), torch.where(parts > 0, parts / whole, ones)


def candidates(call: Signature) -> list[GeneralRootProgram]:
    """The one program that serves a call.

    Raises:
        Rejection: for the pseudo-inverse power, which needs orthogonal eigenvectors.
    """
    _, ceiling = call.direct_precisions()
    pair = call.function == "sqrt_pair"
    r, s = (2, 1) if pair else (call.parameter("r"), call.parameter("s"))
    damping = call.parameter("damping")
    if isinstance(damping, str):
        raise Rejection(
            "invalid_parameter",
            f'{call.function}(): damping="{damping}" with structure="general"',
            "give a number; the pseudo-inverse power is defined for symmetric matrices",
        )
    assert isinstance(r, int)
    assert isinstance(s, int)
    g = call.shape("g")
    signs = (1, -1) if pair else (-1,) if call.function == "inv_root" else (1,)
    shift = float(damping) if isinstance(damping, int | float) else 0.0
    rows = None if g is None else g[-2]
    added = call.parameter("shift")
    assert added is None or isinstance(added, float)
    fields = (call.sizes("a")[-1], rows, r, s, signs, shift, call.dtype, ceiling, ceiling)
    return [GeneralRootProgram(*fields, added)]
