"""The door of the proofs: a function, its inputs and claimed outputs in, bounds out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from matfn_kernels.linalg.native.library import is_built
from matfn_kernels.proofs.clips import prove_clipped_eigenvalues, prove_clipped_values
from matfn_kernels.proofs.complex_triangular import prove_complex_low_rank, prove_complex_triangle
from matfn_kernels.proofs.eigenpairs import prove_eigenpairs
from matfn_kernels.proofs.polar import prove_modulus, prove_unitary
from matfn_kernels.proofs.powers import Exponent, prove_pair, prove_power
from matfn_kernels.proofs.proof import together
from matfn_kernels.proofs.spectral import ExponentialOf, LogarithmOf, PowerOf, prove_function
from matfn_kernels.proofs.triangular import Shape, prove_low_rank, prove_triangle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.proofs.proof import Proof
    from matfn_kernels.proofs.spectral import Scalar

__all__ = ["Bounds", "bound"]

_NOT_FINITE: Final = "an input or the answer is not finite"
_NO_DIGIT: Final = "the bound proves no digit"
_GENERAL: Final = "no cheap proof: functions of matrices without symmetry have no bound by residuals alone"
_SEPARATION: Final = "no cheap proof: the error depends on a separation of eigenvalues"
_ENTRIES: Final = 2**16
"""Entries of a tensor that torch works on at a time: it is bound by memory, and takes ten times its inputs'."""
_UNKNOWN: Final = "no cheap proof: none is known for this function"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Proved relative errors of a batch.

    Attributes:
        error: upper bounds of ||X - X*||_F / ||X*||_F, for pairs of the larger, (batch,) in float64; infinite without.
        reason: per matrix None, or why there is no bound.
    """

    error: Tensor
    reason: tuple[str | None, ...]


def bound(
    function: str,
    inputs: Mapping[str, Tensor],
    parameters: Mapping[str, object],
    outputs: Sequence[Tensor],
    shift: Tensor | None,
) -> Bounds:
    """Proves how far claimed outputs (batch, ...) are from the exact function of the bits of the inputs.

    The exact function is that of the symmetric part of symmetric inputs, with shift (batch,) added to the diagonal.
    Assumes IEEE 754 arithmetic in float64, rounded to nearest, and products that add their terms in some order;
    docs/proofs.md lists domains and derivations.
    """
    refused, items = _refusal(function, parameters), len(outputs[0])
    if refused is not None:
        return Bounds(torch.full((items,), torch.inf, dtype=torch.float64), (refused,) * items)
    if not outputs[0].numel():
        return Bounds(torch.zeros(items, dtype=torch.float64), (None,) * items)
    parts = [_bounds(function, part) for part in _Question(inputs, parameters, outputs, shift).parts()]
    return Bounds(torch.cat([part.error for part in parts]), sum((part.reason for part in parts), ()))


def _bounds(function: str, question: _Question) -> Bounds:
    error, doubts = together(*_PROVERS[function](question))
    doubts[_NO_DIGIT] = ~(error < 1)
    without = torch.stack(list(doubts.values())).any(0)
    if bool(without.any()):
        doubts = {_NOT_FINITE: without & ~_finite((*question.inputs.values(), *question.outputs)), **doubts}
    return _settled(torch.where(without, torch.inf, error), doubts)


def _refusal(function: str, parameters: Mapping[str, object]) -> str | None:
    if function in {"mcsgn", "spectral_projector"} or function.startswith("solve_"):
        return _SEPARATION
    if function not in _PROVERS:
        return _UNKNOWN
    return _GENERAL if parameters.get("structure") == "general" else None


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Which matrices are finite in all tensors, (batch,): a maximum and a minimum tell, both being NaN where one is."""
    real = [(torch.view_as_real(x) if x.is_complex() else x).reshape(len(x), -1) for x in tensors]
    extremes = [peak for x in real if x.numel() for peak in (x.amax(-1), x.amin(-1))]
    return torch.stack([torch.isfinite(peak) for peak in extremes]).all(0)


def _settled(error: Tensor, doubts: Mapping[str, Tensor]) -> Bounds:
    """The first doubt about each matrix is its reason."""
    names, held = tuple(doubts), torch.stack(list(doubts.values()))
    first = held.to(torch.int8).argmax(0).tolist()
    return Bounds(error, tuple(names[i] if any_ else None for i, any_ in zip(first, held.any(0).tolist(), strict=True)))


@dataclass(frozen=True, slots=True)
class _Question:
    """The arguments of `bound`."""

    inputs: Mapping[str, Tensor]
    parameters: Mapping[str, Any]
    outputs: Sequence[Tensor]
    shift: Tensor | None

    def parts(self) -> Iterator[_Question]:
        """The question about some matrices after the other, few enough for a processor's cache."""
        tensors = (*self.inputs.values(), *self.outputs)
        items = len(tensors[0]) if is_built() else max(1, _ENTRIES // max(x[0].numel() for x in tensors))
        for start in range(0, len(tensors[0]), items):
            some = slice(start, start + items)
            inputs = {name: x[some] for name, x in self.inputs.items()}
            shift = None if self.shift is None else self.shift[some]
            yield _Question(inputs, self.parameters, [x[some] for x in self.outputs], shift)


def _power(question: _Question, *, inverse: bool) -> tuple[Proof, ...]:
    given, inputs = question.parameters, question.inputs
    exponent = Exponent.of(given.get("s", 1), given["r"], inverse=inverse, dropping=_dropping(question))
    return (prove_power(inputs["a"], inputs.get("g"), question.outputs[0], question.shift, exponent),)


def _dropping(question: _Question) -> torch.dtype | None:
    """The dtype whose spacing tells which eigenvalues are dropped, None where none is."""
    return question.inputs["a"].dtype if question.parameters.get("damping") == "range" else None


def _root(question: _Question) -> tuple[Proof, ...]:
    return _power(question, inverse=False)


def _inv_root(question: _Question) -> tuple[Proof, ...]:
    return _power(question, inverse=True)


def _sqrt_pair(question: _Question) -> tuple[Proof, ...]:
    a, (root, inverse) = question.inputs["a"], question.outputs
    return prove_pair(a, root, inverse, question.shift, _dropping(question))


def _of_function(question: _Question, function: Scalar) -> tuple[Proof, ...]:
    inputs = question.inputs
    dropping = _dropping(question)
    return (prove_function(inputs["a"], inputs.get("g"), question.outputs[0], question.shift, function, dropping),)


def _log(question: _Question) -> tuple[Proof, ...]:
    return _of_function(question, LogarithmOf())


def _exp(question: _Question) -> tuple[Proof, ...]:
    return _of_function(question, ExponentialOf(float(question.parameters.get("t", 1.0))))


def _real_power(question: _Question) -> tuple[Proof, ...]:
    return _of_function(question, PowerOf(float(question.parameters["p"])))


def _eigh(question: _Question) -> tuple[Proof, ...]:
    return prove_eigenpairs(question.inputs["a"], *question.outputs)


def _msign(question: _Question) -> tuple[Proof, ...]:
    return (prove_unitary(question.inputs["m"], question.outputs[0]),)


def _polar(question: _Question) -> tuple[Proof, ...]:
    m, (u, h) = question.inputs["m"], question.outputs
    return prove_modulus(m, u, h), prove_unitary(m, u)


def _mclip(question: _Question) -> tuple[Proof, ...]:
    lo, hi = question.parameters.get("lo", 0.0), question.parameters.get("hi", 1.0)
    return (prove_clipped_values(question.inputs["m"], question.outputs[0], lo, hi),)


def _eig_clip(question: _Question) -> tuple[Proof, ...]:
    lo, hi = question.parameters.get("lo"), question.parameters.get("hi")
    return (prove_clipped_eigenvalues(question.inputs["a"], question.outputs[0], lo, hi),)


def _triangle(question: _Question) -> tuple[Proof, ...]:
    given = question.parameters
    shape = Shape(given.get("lower", True), given.get("unit_diagonal", False), given.get("transpose", False))
    (x,) = question.outputs
    prove = prove_complex_triangle if x.is_complex() else prove_triangle
    return (prove(question.inputs["t"], question.inputs.get("b"), x, shape),)


def _low_rank(question: _Question) -> tuple[Proof, ...]:
    factors = (question.inputs["diag"], question.inputs["q"], question.inputs["k"])
    transpose = question.parameters.get("transpose", False)
    (x,) = question.outputs
    prove = prove_complex_low_rank if x.is_complex() else prove_low_rank
    return (prove(factors, question.inputs.get("b"), x, transpose=transpose),)


_PROVERS: Final[Mapping[str, Callable[[_Question], tuple[Proof, ...]]]] = {
    "root": _root,
    "inv_root": _inv_root,
    "sqrt_pair": _sqrt_pair,
    "log": _log,
    "exp": _exp,
    "power": _real_power,
    "eigh": _eigh,
    "msign": _msign,
    "polar": _polar,
    "mclip": _mclip,
    "eig_clip": _eig_clip,
    "tri_inv": _triangle,
    "tri_solve": _triangle,
    "dplr_inv": _low_rank,
    "dplr_solve": _low_rank,
}
