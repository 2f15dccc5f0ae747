"""Screening of calls: matrices without an answer are found, each read once, before anything is computed."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.contract.functions import ENTRIES
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.triangles import read_triangle
from matfn_kernels.programs.parameters import domain_of, within_domain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from matfn_kernels.contract.schema import Input
    from matfn_kernels.programs.call import Call

__all__ = ["asymmetry_limit", "screen"]

_READ_IN_C: Final = {torch.float32, torch.float64}
_TURNED_TOGETHER: Final = 128
"""Order beyond which turning one matrix after the other is faster, by up to six times."""

_AT_ONCE: Final = 1 << 20
"""Numbers of which copies are made at a time."""


def asymmetry_limit(dtype: torch.dtype) -> float:
    """Largest ||A - A^H||_F / ||A||_F that is still taken as rounding."""
    return 1e-2 if dtype in {torch.float16, torch.bfloat16} else 1e-5


def screen(call: Call) -> Call:
    """Returns the call with every matrix that has no answer rejected and replaced by a harmless one.

    Raises:
        Rejection: for the first such matrix, when the call's on_failure is "raise".
    """
    given = [entry for entry in ENTRIES[call.function].inputs if entry.name in call.inputs]
    flaws = [flaw for flaw in (*_outside(call), *_flaws(call, given)) if flaw.indices]
    if not flaws:
        return call
    if call.options.on_failure == "raise":
        worst = _worst([flaw.first for flaw in flaws])
        raise _rejection(call, min(worst), *worst[min(worst)])
    rejected = {index: _rejection(call, index, *reason) for index, reason in _worst(flaws).items()}
    return replace(call, inputs=_harmless(call, sorted(rejected)), rejected=rejected)


@dataclass(frozen=True, slots=True)
class _Flaw:
    """A reason why some matrices have no answer.

    Attributes:
        code: of the problem.
        name: of the input that has the flaw.
        indices: of the matrices, ascending.
        sizes: of the flaw in each, relative to the matrix; of what has no size, infinity.
    """

    code: str
    name: str
    indices: list[int]
    sizes: Iterable[float] = field(default_factory=partial(repeat, math.inf))

    @property
    def first(self) -> _Flaw:
        """The flaw of the first matrix alone."""
        return replace(self, indices=self.indices[:1])


def _worst(flaws: Sequence[_Flaw]) -> dict[int, tuple[str, str, float]]:
    """Code, input and size of the largest flaw of each matrix, the last of those that are equally large."""
    worst: dict[int, tuple[str, str, float]] = {}
    for flaw in flaws:
        for index, size in zip(flaw.indices, flaw.sizes, strict=False):
            if index not in worst or size >= worst[index][2]:
                worst[index] = flaw.code, flaw.name, size
    return worst


def _flaws(call: Call, given: Sequence[Input]) -> list[_Flaw]:
    """The flaws of the matrices without an answer; a later one overrides an earlier one of its size."""
    symmetric = _symmetric_inputs(call, given)
    if call.items == 0 or all(entry.name in symmetric and _is_flawless(call.inputs[entry.name]) for entry in given):
        return []
    found = _asymmetric(call, symmetric)
    for entry in given:
        x = call.inputs[entry.name]
        if entry.nonpositive:
            found.append(_Flaw("invalid_parameter", entry.name, _where((x > 0).flatten(1).any(-1))))
        if entry.nonzero and not call.parameters.get("unit_diagonal"):
            found.append(_Flaw("singular", entry.name, _where((_diagonal(x) == 0).any(-1))))
    # the first input with a flaw is named
    return found + [_Flaw("not_finite", entry.name, _not_finite(call, entry)) for entry in reversed(given)]


def _outside(call: Call) -> list[_Flaw]:
    """The matrices whose own parameters are outside of their domains."""
    arrays = [entry for entry in ENTRIES[call.function].parameters if entry.name in call.varying]
    return [
        _Flaw("invalid_parameter", entry.name, _where(~within_domain(entry, call.inputs[entry.name])))
        for entry in arrays
    ]


def _is_flawless(a: Tensor) -> bool:
    """Whether one pass finds matrices symmetric bit for bit and finite; it looks at those that C reads only."""
    return a.is_cpu and a.dtype in _READ_IN_C and math.isfinite(invariant.symmetric_peak(a).max().item())


def _asymmetric(call: Call, symmetric: Sequence[str]) -> list[_Flaw]:
    """The matrices that are declared symmetric and are not, by input."""
    limit, found = asymmetry_limit(call.dtype), []
    for name in symmetric:
        if _are_symmetric(call.inputs[name]):
            continue
        sizes = torch.cat([_asymmetry(part) for part in _in_parts(call.inputs[name])])
        flags = sizes > limit
        found.append(_Flaw("not_symmetric", name, _where(flags), sizes[flags].tolist()))
    return found


def _in_parts(a: Tensor) -> tuple[Tensor, ...]:
    """The matrices in parts of `_AT_ONCE` numbers, whose copies take little memory."""
    return torch.split(a, max(1, _AT_ONCE // max(1, a.shape[-2] * a.shape[-1])))


def _symmetric_inputs(call: Call, given: Sequence[Input]) -> tuple[str, ...]:
    """The inputs that are declared symmetric (Hermitian)."""
    if call.parameters.get("structure") == "general":
        return ()
    return tuple(entry.name for entry in given if entry.symmetric)


def _where(flags: Tensor) -> list[int]:
    return flags.nonzero().flatten().tolist() if bool(flags.any()) else []


def _asymmetry(a: Tensor) -> Tensor:
    """||A - A^H||_F / ||A||_F, (batch,); NaN compares as symmetric and is caught as not finite."""
    wide = a if a.dtype.is_complex or a.dtype == torch.float64 else a.to(torch.float32)
    peak = invariant.magnitude(wide).amax((-2, -1), keepdim=True) if wide.numel() else wide.new_zeros(())
    scaled = invariant.divided(wide, torch.where(peak > 0, peak, torch.ones_like(peak)))
    size = invariant.matrix_norm(scaled)
    return invariant.matrix_norm(scaled - scaled.mH) / torch.where(size > 0, size, torch.ones_like(size))


def _are_symmetric(a: Tensor) -> bool:
    """Whether all matrices are Hermitian bit for bit; nearly all that are meant to be are."""
    parts = a if a.shape[-1] > _TURNED_TOGETHER else _in_parts(a)
    return all(torch.equal(part, part.mH.resolve_conj().contiguous()) for part in parts)


def _diagonal(x: Tensor) -> Tensor:
    """The diagonal of matrices (batch, n, n), or the input itself where it is a diagonal (batch, n)."""
    return x if x.dim() == 2 else x.diagonal(dim1=-2, dim2=-1)  # noqa: PLR2004 - (batch, n)


def _not_finite(call: Call, entry: Input) -> list[int]:
    """Indices of the matrices of an input with a NaN or an infinity that a function would read."""
    tensor = call.inputs[entry.name]
    if entry.triangular:
        lower, unit = bool(call.parameters["lower"]), bool(call.parameters["unit_diagonal"])
        if not tensor.dtype.is_complex:
            return _where(~invariant.triangle_peak(tensor, lower=lower, strict=unit).isfinite())
        tensor = read_triangle(tensor, lower=lower, unit=unit)
    # one sum clears nearly every call; only an overflow or a real flaw pays for the look at each entry
    if cmath.isfinite(tensor.sum().item()):
        return []
    return _where(~torch.isfinite(tensor).reshape(len(tensor), -1).all(-1))


def _rejection(call: Call, index: int, code: str, name: str, size: float) -> Rejection:
    of = f"matrix {index} of {name}"
    match code:
        case "not_finite":
            detail, hint = f"{of} holds NaN or infinity", "send finite numbers"
        case "singular":
            detail, hint = f"{of} has a zero on its diagonal", "an inverse needs every diagonal entry nonzero"
        case "invalid_parameter" if name in call.varying:
            entry = next(entry for entry in ENTRIES[call.function].parameters if entry.name == name)
            detail = f"{name} of item {index} is {call.inputs[name][index].item():g}"
            hint = f"each {name} must be {domain_of(entry)}"
        case "invalid_parameter":
            detail, hint = f"{name} of item {index} is above 0", "gates are e^log_gate <= 1"
        case _:
            found = f"||A - A^H||_F / ||A||_F = {size:.2g}, allowed {asymmetry_limit(call.dtype):g}"
            detail, hint = f"{of}: {found}", "send (A + A^H) / 2 if that is what is meant"
            if "structure" in call.parameters:
                hint += ', or structure="general" if it has no symmetry'
    return Rejection(code, detail, hint, index)


def _harmless(call: Call, indices: list[int]) -> dict[str, Tensor]:
    """Copies of the inputs with the named matrices replaced by the identity, or by ones."""
    replaced = {}
    for name, tensor in call.inputs.items():
        copy = tensor.clone()
        square = copy.dim() == 3 and copy.shape[-1] == copy.shape[-2]  # noqa: PLR2004 - (batch, n, n)
        copy[indices] = torch.eye(copy.shape[-1], dtype=copy.dtype, device=copy.device) if square else 1
        replaced[name] = copy
    return replaced
