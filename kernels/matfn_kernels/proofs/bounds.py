"""The door of the proofs: a function, its inputs and claimed outputs in, bounds out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.proofs.powers import Exponent, prove_power
from matfn_kernels.proofs.proof import together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.proofs.proof import Proof

__all__ = ["Bounds", "bound"]

_NOT_FINITE: Final = "an input or the answer is not finite"
_NO_DIGIT: Final = "the bound proves no digit"
_GENERAL: Final = "no cheap proof: powers of matrices without symmetry have no bound by residuals alone"
_SEPARATION: Final = "no cheap proof: the error depends on a separation of eigenvalues"
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
    proofs = _PROVERS[function](inputs, parameters, outputs, shift)
    error, doubts = together(*proofs)
    return _settled(error, {_NOT_FINITE: ~_finite((*inputs.values(), *outputs)), **doubts})


def _refusal(function: str, parameters: Mapping[str, object]) -> str | None:
    if function in {"mcsgn", "spectral_projector"} or function.startswith("solve_"):
        return _SEPARATION
    if function not in _PROVERS:
        return _UNKNOWN
    return _GENERAL if parameters.get("structure") == "general" else None


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Which matrices are finite in all tensors, (batch,)."""
    return torch.stack([torch.isfinite(x).reshape(len(x), -1).all(-1) for x in tensors]).all(0)


def _settled(error: Tensor, doubts: Mapping[str, Tensor]) -> Bounds:
    columns = {**doubts, _NO_DIGIT: ~(error < 1)}
    held = torch.stack(list(columns.values()))
    error = torch.where(held.any(0), torch.inf, error)
    names = tuple(columns)
    first = held.to(torch.int8).argmax(0).tolist()
    return Bounds(error, tuple(names[i] if any_ else None for i, any_ in zip(first, held.any(0).tolist(), strict=True)))


def _root(
    inputs: Mapping[str, Tensor], parameters: Mapping[str, object], outputs: Sequence[Tensor], shift: Tensor | None
) -> tuple[Proof, ...]:
    return (_power(inputs, parameters, outputs[0], shift, inverse=False),)


def _inv_root(
    inputs: Mapping[str, Tensor], parameters: Mapping[str, object], outputs: Sequence[Tensor], shift: Tensor | None
) -> tuple[Proof, ...]:
    return (_power(inputs, parameters, outputs[0], shift, inverse=True),)


def _sqrt_pair(
    inputs: Mapping[str, Tensor], parameters: Mapping[str, object], outputs: Sequence[Tensor], shift: Tensor | None
) -> tuple[Proof, ...]:
    halves = {**parameters, "r": 2, "s": 1}
    return tuple(
        _power(inputs, halves, output, shift, inverse=inverse)
        for output, inverse in zip(outputs, (False, True), strict=True)
    )


def _power(
    inputs: Mapping[str, Tensor], parameters: Mapping[str, object], x: Tensor, shift: Tensor | None, *, inverse: bool
) -> Proof:
    a = inputs["a"]
    dropping = a.dtype if parameters.get("damping") == "range" else None
    exponent = Exponent.of(
        int(str(parameters.get("s", 1))), int(str(parameters["r"])), inverse=inverse, dropping=dropping
    )
    return prove_power(a, inputs.get("g"), x, shift, exponent)


_PROVERS: Final[Mapping[str, Callable[..., tuple[Proof, ...]]]] = {
    "root": _root,
    "inv_root": _inv_root,
    "sqrt_pair": _sqrt_pair,
}
