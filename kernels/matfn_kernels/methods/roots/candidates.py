"""The programs that may serve a power."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import torch

from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg.iteration import ENGINE_REACH
from matfn_kernels.linalg.narrowing import holds
from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.methods.roots import general
from matfn_kernels.methods.roots.bf16_power import Bf16Power
from matfn_kernels.methods.roots.coupled_power import IteratedPower, NativePower
from matfn_kernels.methods.roots.eigh_power import EighPower
from matfn_kernels.methods.roots.power import Power
from matfn_kernels.methods.roots.shifted import LARGEST_PART
from matfn_kernels.methods.roots.trial_power import LOOSE, TrialPower
from matfn_kernels.numbers.precision import Precision, spacing
from matfn_kernels.programs.tolerances import default_tolerance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["candidates", "power_of"]

_SHARE: Final = 1e-2
"""Part of a loose tolerance that the iteration may leave: with torch, 21 products in place of 26 for A^(-1/4)."""
_TRIAL_ORDER: Final = 48
"""Least order of eigh in float32: below, what stands beside decompositions costs as much as float32 saves of them."""
_LARGEST_PART: Final = 1e3
"""Largest damping of the iteration: far beyond it float32 would hold nothing of A."""
_SMOOTH_ROOTS: Final = 5
"""Largest r of the iteration for A^(s/r): beyond, its first steps reach eigenvalues of 2^r and amplify rounding up to
1e4 times in float64."""


_Coupled = TypeVar("_Coupled", IteratedPower, NativePower)


def candidates(call: Signature) -> Sequence[Program]:
    """The programs that may serve a call: those of the structure that was declared."""
    return general.candidates(call) if call.parameter("structure") == "general" else _symmetric(call)


def _symmetric(call: Signature) -> list[Program]:
    """Always eigh, in float32 too where that may do, and the iteration where only its rounding is in the way."""
    power = power_of(call)
    low, ceiling = call.precisions()
    if ceiling is Precision.BF16:
        return [_in_bf16(power, call)]
    programs: list[Program] = [EighPower(power, call.is_pinned, ceiling)]
    if _may_iterate(power, call, low):
        allowed = _SHARE * LOOSE if _is_loose(call) and power.inverse and low is Precision.FP32 else 0.0
        programs.append(IteratedPower(power, call.is_pinned, low, ceiling, allowed))
    if _may_shift(power, call):
        programs.extend(_shifting(power, call, low, ceiling))
    if low is TrialPower.precision and ceiling is TrialPower.ceiling and _may_try(power, call):
        programs.append(TrialPower(power, call.is_pinned))
    return programs


def power_of(call: Signature) -> Power:
    """The question that a call asks."""
    g = call.shape("g")
    pair = call.subject == "sqrt_pair"
    r, s = (2, 1) if pair else (call.parameter("r"), call.parameter("s"))
    damping, shift = call.parameter("damping"), call.parameter("shift")
    assert isinstance(r, int)
    assert isinstance(s, int)
    assert damping is None or isinstance(damping, float | str)
    assert shift is None or isinstance(shift, float)
    return Power(
        order=call.sizes("a")[-1],
        rows=None if g is None else g[-2],
        r=r,
        s=s,
        inverse=call.subject == "inv_root",
        pair=pair,
        damping=0.0 if shift == 0 else damping,
        dtype=call.dtype,
        shift=shift or None,
    )


def _in_bf16(power: Power, call: Signature) -> Bf16Power:
    if power.drops:
        raise Rejection("invalid_parameter", 'damping="range" needs eigenvectors, which bf16 has not', "ask for fp32")
    return Bf16Power(power, call.is_pinned)


def _is_loose(call: Signature) -> bool:
    """Whether the caller allows the error of float32."""
    return call.tol is not None and call.tol >= LOOSE


def _may_iterate(power: Power, call: Signature, low: Precision) -> bool:
    """Whether nothing is added by the caller, the power is smooth, and the tolerance within the iteration's reach."""
    return not power.drops and not power.is_shifted and _is_smooth(power) and _is_reached(call, low)


def _is_smooth(power: Power) -> bool:
    """Whether the power is real, and the first steps do not amplify rounding too much."""
    return (power.inverse or power.r <= _SMOOTH_ROOTS) and not power.dtype.is_complex


def _is_reached(call: Signature, low: Precision) -> bool:
    return low is Precision.FP64 or call.tolerates(ENGINE_REACH)


def _may_shift(power: Power, call: Signature) -> bool:
    """Whether the iteration takes the power of A + shift I, and the shift is in the range of its numbers."""
    iterates = power.negative[1] > 0 and _is_smooth(power)
    held = power.shift is None or holds(power.working(call.precisions()[0]), power.dtype)
    return power.is_shifted and iterates and held and power.part <= _LARGEST_PART


def _shifting(power: Power, call: Signature, low: Precision, ceiling: Precision) -> list[Program]:
    """The iteration in C, and that by torch's or a GPU's kernels."""
    found: list[Program] = []
    if is_built():
        native = NativePower(power, call.is_pinned, low, ceiling)
        found += _reaching(native, native.in_double(), call)
    if power.part <= LARGEST_PART:
        iterated = IteratedPower(power, call.is_pinned, low, ceiling)
        found += _reaching(iterated, None if low is ceiling else iterated.widened(), call)
    return found


def _reaching(program: _Coupled, wider: _Coupled | None, call: Signature) -> list[_Coupled]:
    """The iteration in the first arithmetic that reaches the tolerance at the condition that the damping leaves."""
    if program.power.shift is not None:
        return [program] if _is_reached(call, program.precision) else []
    tried = [program] if wider is None else [program, wider]
    return [one for one in tried if _answers(one, call)][:1]


def _answers(program: IteratedPower | NativePower, call: Signature) -> bool:
    """Whether the iteration reaches the tolerance for a singular matrix that is damped."""
    power, iteration = program.power, program.iteration
    condition = 1 + 1 / power.part
    if call.tol is None:
        unit = torch.finfo(power.dtype).eps if call.precision == "auto" else spacing(Precision(call.precision))
        known = torch.tensor([condition], dtype=torch.float64, device="cpu")
        tolerance = default_tolerance(unit, max(1.0, power.s / power.r), known, unit).item()
    else:
        tolerance = call.tol
    return iteration.resolves(power.part) and iteration.expected(condition).item() <= tolerance


def _may_try(power: Power, call: Signature) -> bool:
    """Whether the caller allows the error of float32, and there is something to save."""
    return _is_loose(call) and not power.drops and power.order >= _TRIAL_ORDER
