"""Principal logarithms and real powers of matrices without symmetry, by their Schur form.

A = Q T Q^H, f(A) = Q f(T) Q^H with `triangular`. Always in float64, whatever the dtype of the input; a real matrix has
a real answer. Domain: no eigenvalue on the closed negative axis. One that is known to lie there is `not_positive`. A
matrix that is singular in exact arithmetic is `singular`; its positive powers exist where the eigenvalue 0 is
semisimple, and are `not_positive` elsewhere. One that is singular to rounding only, or of which rounding leaves open
whether it meets the axis, is answered without an estimate and with a condition number that says so.

Error: the condition number of the function at T times the backward error of the Schur form, and what `triangular`
found.
References: Al-Mohy and Higham, SIAM J. Sci. Comput. 34 (2012); Higham and Lin, SIAM J. Matrix Anal. Appl. 34 (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np
import torch
from scipy.linalg import LinAlgError

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import relative_to_truth
from matfn_kernels.linalg.scaling import overflows
from matfn_kernels.methods.general_functions.at_once import AtOnce
from matfn_kernels.methods.general_functions.beside_identity import logarithms, near_identity
from matfn_kernels.methods.general_functions.domain import Domain
from matfn_kernels.methods.general_functions.triangular import TriangularFunction
from matfn_kernels.methods.roots.general import left_factor
from matfn_kernels.methods.roots.schur_form import law, nonsingular, schur_form, unexplained
from matfn_kernels.methods.roots.triangular_power import norm
from matfn_kernels.numbers.arrays import EPS
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from matfn_kernels.methods.roots.semisimple import Core
    from matfn_kernels.programs.profile import Profile

__all__ = ["SchurProgram"]

Array: TypeAlias = "NDArray[Any]"

_MARGIN: Final = 3.0
"""Factor on the error of the Schur form: the power method's norm of a derivative is a lower bound, and was up to 1.6
times too small (`triangular`)."""
_PARTS: Final = 2.0
"""An orthonormal basis enters a power of a singular matrix twice (`semisimple`)."""
_FIRST_ORDER: Final = 0.1
"""Largest change that a derivative tells, where a Schur form is worse than its law."""
_FAR: Final = 300
"""Exponents of two beyond which a matrix is scaled before its logarithm is taken: squares stay within range."""
_SCHUR_FORMS: Final = 30.0
"""Price of an answer in decompositions of symmetric matrices of its order: an estimate, since no other program serves
these calls, so that it only tells a scheduler how long they take."""
_NAMES: Final = ("shift", "damping", "error", "condition", "residual", "steps")
_FAILURES: Final = ("exactly_singular", "on_negative_axis", "defective_zero")
_REMARKS: Final = ("ill_conditioned", "near_negative_axis")


@dataclass(frozen=True, slots=True)
class SchurProgram:
    """The logarithm or a power of matrices without symmetry; the key of a batch.

    Attributes:
        order: n.
        rows: rows of G, or None without G.
        exponent: p, no whole number, or None for the logarithm.
        damping: the shift relative to the spectral radius.
        shift: the number to add to the diagonal, where the caller gave one in place of a damping.
        dtype: of the inputs and outputs.
        pinned: whether the caller asked for the method, so that no other may answer.
    """

    order: int
    rows: int | None
    exponent: float | None
    damping: float
    shift: float | None
    dtype: torch.dtype
    pinned: bool = False

    method: ClassVar[str] = "schur"
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the program has rows, g (batch, m, n)."""
        a = inputs["a"].to(working(self.precision, self.dtype))
        found = _beside_identity(a, self, _answers(a, self))
        power = torch.as_tensor(np.stack([one.value for one in found])).to(a.device, a.dtype)
        columns = {name: _column([float(getattr(one, name)) for one in found], a) for name in _NAMES}
        left, up, lost, amplified = left_factor(inputs.get("g"), power)
        exponent = torch.tensor([one.whole for one in found], dtype=torch.int64, device=a.device) + up
        output = power if left is None else invariant.product(left, power)
        failures = {reason: _flags([one.failure == reason for one in found], a) for reason in _FAILURES}
        return Findings(
            outputs=(output,),
            exponents=(exponent,),
            residual_name="f(T) by k and by k + 1 square roots",
            residual=columns["residual"],
            error=relative_to_truth((columns["error"] + lost) * amplified),
            condition=columns["condition"] * amplified,
            steps=columns["steps"],
            damping=columns["damping"],
            shift=columns["shift"],
            failures={**failures, "over_range": overflows(output, exponent, self.dtype)},
            remarks={reason: _flags([one.remark == reason for one in found], a) for reason in _REMARKS},
        )

    def fallbacks(self) -> tuple[SchurProgram, ...]:
        """None: it runs in the highest precision that there is."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """A product over an empty dimension is zero, all else is empty."""
        return (torch.zeros(inputs["g" if "g" in inputs else "a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        return _SCHUR_FORMS * profile.cost("eigh", self.precision, self.order)


def _beside_identity(a: Tensor, program: SchurProgram, found: list[_Answer]) -> list[_Answer]:
    """The answers, of logarithms of matrices near I without a decomposition."""
    if program.exponent is not None or program.damping or program.shift:
        return found
    rows = near_identity(a).nonzero().flatten().tolist()
    if not rows:
        return found
    answers = zip(*(x.cpu().numpy() for x in logarithms(a[rows])), strict=True)
    better = {
        row: _Answer(value, error=float(error), condition=float(condition), residual=0.0)
        for row, (value, error, condition) in zip(rows, answers, strict=True)
    }
    return [better.get(row, one) for row, one in enumerate(found)]


def _column(numbers: list[float], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device=like.device)


def _flags(flags: list[bool], like: Tensor) -> Tensor:
    return torch.tensor(flags, device=like.device)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The function of one matrix, value 2^whole, or why it has none."""

    value: Array
    whole: int = 0
    shift: float = 0.0
    damping: float = 0.0
    error: float = math.nan
    condition: float = math.nan
    residual: float = math.nan
    steps: int = 0
    failure: str = ""
    remark: str = ""

    @classmethod
    def of(cls, a: Array, program: SchurProgram) -> _Answer:
        """That of A (n, n)."""
        nothing = cls(np.full_like(a, np.nan))
        unit = _unit(a, program)
        try:
            with np.errstate(all="ignore"):
                return cls._scaled(a, unit, program, nothing)
        except (LinAlgError, np.linalg.LinAlgError, ValueError, ArithmeticError):
            return nothing

    @classmethod
    def _scaled(cls, sent: Array, unit: int, program: SchurProgram, nothing: _Answer) -> _Answer:
        """By A 2^-unit."""
        a = _times(sent, -unit)
        t, q = schur_form(a)
        beyond = unexplained(a, t, q, EPS)
        shift, damping = _shift(t, unit, program)
        nothing = replace(nothing, shift=float(np.ldexp(shift, unit)), damping=damping)
        t += shift * np.eye(len(t))
        a = a + shift * np.eye(len(a))
        vanishes = program.exponent is not None and program.exponent > 0
        domain = Domain.of(a if shift else sent, a, t, beyond[0], vanishes=vanishes)
        if domain.failure:
            return replace(nothing, failure=domain.failure)
        if domain.core is not None:
            found = _of_core(domain.core, program, nothing)
        else:
            found = _of_form(nonsingular(t, EPS), q, program, beyond, nothing)
        found = _back(found, unit, program)
        if not domain.remark:
            return found
        return replace(found, error=math.nan, condition=max(domain.condition, found.condition), remark=domain.remark)


def _answers(a: Tensor, program: SchurProgram) -> list[_Answer]:
    """Those of A (batch, n, n): all at once where nothing is in question, the others one by one."""
    matrices = a.cpu().numpy()
    if not AtOnce.serves(a, program.exponent):
        return [_Answer.of(one.copy(), program) for one in matrices]
    units = [_unit(one, program) for one in matrices]
    known = AtOnce.of(a, torch.tensor(units), program.exponent, program.damping, program.shift)
    columns: list[Any] = [known.value.numpy(), *(x.tolist() for x in (known.shift, known.damping, known.seen))]
    columns += [x.tolist() for x in (known.condition, known.own, known.steps)]
    return [
        _of_numbers(numbers, unit, program) if served else _Answer.of(one.copy(), program)
        for served, one, unit, *numbers in zip(known.is_served.tolist(), matrices, units, *columns, strict=True)
    ]


def _of_numbers(numbers: list[Any], unit: int, program: SchurProgram) -> _Answer:
    """The answer that `AtOnce` has."""
    value, shift, damping, seen, condition, own, steps = numbers
    condition = max(1.0, condition)
    error = max(seen, _MARGIN * condition * law(EPS, len(value)) + own)
    shift = float(np.ldexp(shift, unit))
    found = _Answer(value, 0, shift, damping, error, condition, own, int(steps))
    return _back(found, unit, program)


def _unit(a: Array, program: SchurProgram) -> int:
    """The power of two that A is divided by; a logarithm near 0 would lose digits to it."""
    unit = int(np.frexp(np.abs(a).max())[1])
    return 0 if program.exponent is None and abs(unit) < _FAR else unit


def _times(a: Array, exponent: int) -> Array:
    """A 2^exponent."""
    if np.iscomplexobj(a):
        return np.asarray(np.ldexp(a.real, exponent) + 1j * np.ldexp(a.imag, exponent))
    return np.asarray(np.ldexp(a, exponent))


def _shift(t: Array, unit: int, program: SchurProgram) -> tuple[float, float]:
    """The number to add to the scaled diagonal, and its size relative to the spectral radius."""
    largest = float(np.abs(t.diagonal()).max())
    if program.shift is None:
        return program.damping * largest, program.damping
    shift = float(np.ldexp(program.shift, -unit))
    return shift, shift / largest if largest > 0 and math.isfinite(shift) else 0.0


def _of_form(t: Array, q: Array, program: SchurProgram, beyond: tuple[float, float], nothing: _Answer) -> _Answer:
    """F(Q T Q^H)."""
    function = TriangularFunction.of(t, program.exponent)
    if not function.value.any():
        return replace(nothing, value=np.zeros_like(nothing.value), error=math.nan, condition=math.inf)
    condition, own = max(1.0, function.condition()), function.error()
    value, backward, skew = q @ function.value @ q.conj().T, *beyond
    seen = 0.0 if program.dtype.is_complex else norm(value.imag) / norm(value)
    moved = _MARGIN * condition * (law(EPS, len(t)) + (backward / norm(t) if backward else 0.0))
    error = float(np.maximum(seen, moved + own + skew)) if backward == 0 or moved <= _FIRST_ORDER else math.inf
    value = value if np.iscomplexobj(nothing.value) else value.real.copy()
    found = replace(nothing, value=value, error=error, condition=condition, residual=own)
    return replace(found, steps=function.steps)


def _of_core(core: Core, program: SchurProgram, nothing: _Answer) -> _Answer:
    """U B^(p - 1) U^H A, of a singular matrix with the nonsingular part B."""
    if not core.u.size:
        return replace(nothing, value=np.zeros_like(nothing.value), error=0.0, condition=1.0)
    assert program.exponent is not None
    function = TriangularFunction.of(core.t, program.exponent - 1)
    condition = max(1.0, function.condition())
    inner = core.q @ function.value @ core.q.conj().T
    value = core.u @ inner @ core.image
    spread = norm(inner) * norm(core.image) / norm(value)
    sensitivity = (condition + 1) * core.growth
    error = spread * (_PARTS * sensitivity * core.unit + function.error())
    seen = 0.0 if program.dtype.is_complex else norm(value.imag) / norm(value)
    value = value if np.iscomplexobj(nothing.value) else value.real.copy()
    return replace(nothing, value=value, error=max(seen, error), condition=spread * sensitivity, steps=function.steps)


def _back(found: _Answer, unit: int, program: SchurProgram) -> _Answer:
    """The answer of A, given that of A 2^-unit."""
    if unit == 0:
        return found
    if program.exponent is None:
        # log A = log (A 2^-unit) + unit log 2, far from where they cancel
        return replace(found, value=found.value + unit * math.log(2) * np.eye(len(found.value)))
    turned = Fraction(program.exponent) * unit
    whole = math.floor(turned)
    return replace(found, value=found.value * math.exp2(float(turned - whole)), whole=whole)
