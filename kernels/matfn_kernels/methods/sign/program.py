"""The matrix sign A (A^2)^(-1/2), and the projectors (I + S) / 2 and (I - S) / 2 that it gives.

Domain: real square matrices without an eigenvalue on the imaginary axis. Always float64, whatever the input's dtype:
the sign of a nonsymmetric matrix may be far worse conditioned than the matrix. Two methods: `newton` takes the batch at
once (`sign_in_batches`); matrices that it cannot vouch for, among them all without a sign, go one by one to
`newton_schur`, whose certificate has more digits. An answer is without an estimate where rounding of
A alone could carry an eigenvalue across the axis. Padding: ones on the diagonal of A.
References: Su, kexue.fm/archives/11056; Higham, Functions of Matrices (2008), chapter 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.scaling import normalise
from matfn_kernels.methods.sign.newton import signs
from matfn_kernels.methods.sign.newton_schur import Sign, certified_sign
from matfn_kernels.numbers.arrays import EPS, Array, norm
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.per_matrix import Found, each, failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["SignProgram", "candidates"]

_RESIDUAL: Final = "S^2 - I, S A - A S"
_PRODUCTS: Final = 100.0
_SCHUR: Final = 12.0
"""All that `newton_schur` does, in units of eigh."""


@dataclass(frozen=True, slots=True)
class SignProgram:
    """What a batch of signs must have in common to be computed together.

    Attributes:
        order: n.
        half: None for the sign, else the half plane that is projected on.
        dtype: of the inputs and outputs.
        method: newton or newton_schur.
        precision: fp64.
        ceiling: fp64.
        pinned: whether the caller asked for the method, so that no other may answer.
    """

    order: int
    half: Literal["right", "left"] | None
    dtype: torch.dtype
    method: Literal["newton", "newton_schur"] = "newton"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64
    pinned: bool = False

    @property
    def side(self) -> float:
        """1 for the right half plane, -1 for the left."""
        return -1.0 if self.half == "left" else 1.0

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: input a (batch, n, n)."""
        a, _ = normalise(inputs["a"].to(torch.float64))
        return self._together(a) if self.method == "newton" else self._one_by_one(a)

    def _together(self, a: Tensor) -> Findings:
        found = signs(a)
        value, larger, rank = found.value, torch.ones_like(found.error), None
        if self.half is not None:
            value, larger, rank = _projected(found.value, self.side)
        return Findings(
            outputs=(value,),
            residual_name=_RESIDUAL,
            residual=found.residual,
            error=found.error * larger + EPS,
            condition=(found.condition * larger).clamp_min(1.0),
            steps=found.steps,
            rank=rank,
        )

    def _one_by_one(self, a: Tensor) -> Findings:
        method = _sign if self.half is None else partial(_projector, self.side)
        findings = each(method, {"a": a}, (self.order, self.order), _RESIDUAL)
        return replace(findings, rank=None if self.half is None else findings.rank)

    def fallbacks(self) -> tuple[SignProgram, ...]:
        """The method that takes one matrix at a time, after the one that takes a batch."""
        return () if self.pinned or self.method == "newton_schur" else (replace(self, method="newton_schur"),)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """An empty matrix."""
        return (torch.zeros(inputs["a"].shape, dtype=self.dtype),)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        if self.method == "newton":
            return _PRODUCTS * profile.cost("gemm", Precision.FP64, self.order)
        return _SCHUR * profile.cost("eigh", Precision.FP64, self.order)


def candidates(call: Signature) -> list[SignProgram]:
    """The program that serves a call, and if a method was asked for those of all methods."""
    call.require_double()
    half = call.parameter("half")
    newton = SignProgram(
        order=call.sizes("a")[-1],
        half=None if half is None else "right" if half == "right" else "left",
        dtype=call.dtype,
        pinned=call.is_pinned,
    )
    return [newton, replace(newton, method="newton_schur")] if call.is_pinned else [newton]


def _sign(a: Array) -> Found:
    """S of one scaled matrix."""
    sign = certified_sign(a)
    if sign is None:
        return failed(a.shape, "sign_undefined")
    return Found(sign.value, sign.residual, sign.error, sign.condition, sign.steps, remarks=_remarks(sign))


def _projector(side: float, a: Array) -> Found:
    """(I + side S) / 2; an involution whose trace is n or -n is I or -I, to the last bit."""
    sign = certified_sign(a)
    if sign is None:
        return failed(a.shape, "sign_undefined")
    order = len(a)
    rank = round((order + side * float(np.trace(sign.value))) / 2)
    if rank in {0, order}:
        value, larger = np.eye(order) * (rank > 0), 1.0
    else:
        value = (np.eye(order) + side * sign.value) / 2
        larger = norm(sign.value) / (2 * norm(value))
    error, condition = sign.error * larger + EPS, max(1.0, sign.condition * larger)
    return Found(value, sign.residual, error, condition, sign.steps, rank, remarks=_remarks(sign))


def _projected(s: Tensor, side: float) -> tuple[Tensor, Tensor, Tensor]:
    """(I + side S) / 2, ||S|| / 2 over its norm, and its rank; exactly I or 0 where the trace says so."""
    order = s.shape[-1]
    rank = ((order + side * invariant.sums(s.diagonal(dim1=-2, dim2=-1))) / 2).round()
    identity = torch.eye(order, dtype=s.dtype, device=s.device)
    whole = (rank == 0) | (rank == order)
    value = torch.where(whole[:, None, None], identity * (rank > 0)[:, None, None], (identity + side * s) / 2)
    larger = torch.where(whole, 1.0, invariant.matrix_norm(s) / (2 * invariant.matrix_norm(value)))
    return value, larger, rank


def _remarks(sign: Sign) -> tuple[str, ...]:
    return ("near_axis",) if math.isnan(sign.error) else ()
