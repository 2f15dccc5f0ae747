"""Screening of calls: matrices without an answer are found, each read once, before anything is computed."""

from __future__ import annotations

import cmath
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.contract.functions import ENTRIES
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.triangles import read_triangle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn_kernels.contract.schema import Input
    from matfn_kernels.programs.validation import Call

__all__ = ["asymmetry_limit", "screen"]

_TURNED_TOGETHER: Final = 128
"""Order beyond which turning one matrix after the other is faster, by up to six times."""


def asymmetry_limit(dtype: torch.dtype) -> float:
    """Largest ||A - A^H||_F / ||A||_F that is still taken as rounding."""
    return 1e-2 if dtype in {torch.float16, torch.bfloat16} else 1e-5


def screen(call: Call) -> Call:
    """Returns the call with every matrix that has no answer rejected and replaced by a harmless one.

    Raises:
        Rejection: for the first such matrix, when the call's on_failure is "raise".
    """
    given = [entry for entry in ENTRIES[call.function].inputs if entry.name in call.inputs]
    reasons = {index: _rejection(call, given, index, code) for code, index in _flaws(call, given)}
    if not reasons:
        return call
    if call.options.on_failure == "raise":
        raise reasons[min(reasons)]
    return replace(call, inputs=_harmless(call, sorted(reasons)), rejected=reasons)


def _flaws(call: Call, given: Sequence[Input]) -> list[tuple[str, int]]:
    """Code and index of each matrix without an answer; a later code overrides an earlier one."""
    found: list[tuple[str, int]] = []
    if call.items == 0:
        return found
    limit = asymmetry_limit(call.dtype)
    for name in _symmetric_inputs(call, given):
        found += [("not_symmetric", i) for i in _where(_asymmetry(call.inputs[name]) > limit)]
    for entry in given:
        if entry.nonpositive:
            found += [("invalid_parameter", i) for i in _where((call.inputs[entry.name] > 0).any(-1))]
        if entry.nonzero and not call.parameters.get("unit_diagonal"):
            found += [("singular", i) for i in _where((_diagonal(call.inputs[entry.name]) == 0).any(-1))]
    return found + [("not_finite", i) for i in _not_finite(call, given)]


def _symmetric_inputs(call: Call, given: Sequence[Input]) -> tuple[str, ...]:
    """The inputs that are declared symmetric (Hermitian)."""
    if call.parameters.get("structure") == "general":
        return ()
    return tuple(entry.name for entry in given if entry.symmetric)


def _where(flags: Tensor) -> list[int]:
    return [int(i) for i in flags.nonzero().flatten().tolist()] if bool(flags.any()) else []


def _asymmetry(a: Tensor) -> Tensor:
    """||A - A^H||_F / ||A||_F, (batch,); NaN compares as symmetric and is caught as not finite."""
    if _are_symmetric(a):
        return torch.zeros(len(a))
    wide = a if a.dtype.is_complex or a.dtype == torch.float64 else a.to(torch.float32)
    peak = invariant.magnitude(wide).amax((-2, -1), keepdim=True) if wide.numel() else wide.new_zeros(())
    scaled = invariant.divided(wide, torch.where(peak > 0, peak, torch.ones_like(peak)))
    size = invariant.matrix_norm(scaled)
    return invariant.matrix_norm(scaled - scaled.mH) / torch.where(size > 0, size, torch.ones_like(size))


def _are_symmetric(a: Tensor) -> bool:
    """Whether all matrices are Hermitian bit for bit; nearly all that are meant to be are."""
    parts = a if a.shape[-1] > _TURNED_TOGETHER else (a,)
    return all(torch.equal(part, part.mH.resolve_conj().contiguous()) for part in parts)


def _diagonal(x: Tensor) -> Tensor:
    """The diagonal of matrices (batch, n, n), or the input itself where it is a diagonal (batch, n)."""
    return x if x.dim() == 2 else x.diagonal(dim1=-2, dim2=-1)  # noqa: PLR2004 - (batch, n)


def _not_finite(call: Call, given: Sequence[Input]) -> list[int]:
    """Indices of the matrices with a NaN or an infinity that a function would read."""
    found: set[int] = set()
    for entry in given:
        tensor = call.inputs[entry.name]
        if entry.triangular:
            lower, unit = bool(call.parameters["lower"]), bool(call.parameters["unit_diagonal"])
            tensor = read_triangle(tensor, lower=lower, unit=unit)
        # one sum clears nearly every call; only an overflow or a real flaw pays for the look at each entry
        if not cmath.isfinite(tensor.sum().item()):
            found |= set(_where(~torch.isfinite(tensor).flatten(1).all(-1)))
    return sorted(found)


def _rejection(call: Call, given: Sequence[Input], index: int, code: str) -> Rejection:
    if code == "not_finite":
        return Rejection(code, f"matrix {index} holds NaN or infinity", "send finite numbers", index)
    if code == "singular":
        return Rejection(
            code, f"matrix {index} has a zero on its diagonal", "an inverse needs every diagonal entry nonzero", index
        )
    if code == "invalid_parameter":
        return Rejection(code, f"log_gate of item {index} is above 0", "gates are e^log_gate <= 1", index)
    one = {name: call.inputs[name][index : index + 1] for name in _symmetric_inputs(call, given)}
    measured = {name: float(_asymmetry(a)[0]) for name, a in one.items()}
    name, size = max(measured.items(), key=itemgetter(1))
    return Rejection(
        code,
        f"matrix {index} of {name}: ||A - A^H||_F / ||A||_F = {size:.2g}, allowed {asymmetry_limit(call.dtype):g}",
        "send (A + A^H) / 2 if that is what is meant",
        index,
    )


def _harmless(call: Call, indices: list[int]) -> dict[str, Tensor]:
    """Copies of the inputs with the named matrices replaced by the identity, or by ones."""
    replaced = {}
    for name, tensor in call.inputs.items():
        copy = tensor.clone()
        square = copy.dim() == 3 and copy.shape[-1] == copy.shape[-2]  # noqa: PLR2004 - (batch, n, n)
        copy[indices] = torch.eye(copy.shape[-1], dtype=copy.dtype, device=copy.device) if square else 1
        replaced[name] = copy
    return replaced
