"""Certificates: the findings of a method for each matrix, compared with the requested tolerance."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from matfn_kernels.contract.certificate import Certificate, Outcome, Residual
from matfn_kernels.programs.findings import ROUNDINGS
from matfn_kernels.programs.program import Pinned
from matfn_kernels.running.hints import OVER_RANGE, PINNED, REMARKS, lost, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn_kernels.contract.rejection import Rejection
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.program import Program
    from matfn_kernels.proofs import Bounds
    from matfn_kernels.running.requested import Requested

__all__ = ["certificates_of", "immediate", "refused"]

_LARGEST: Final = 1.0
"""Largest error estimate that is stated, and that a tolerance can be met by."""
_KNOWN: Final = 0.1
"""Largest error estimate by which the size of an answer is known."""
_CONVERGED: Final = (None, None, Outcome.CONVERGED)


def certificates_of(
    program: Program,
    findings: tuple[Findings, Findings],
    outputs: Sequence[Tensor],
    requested: Sequence[Requested],
    bounds: Bounds | None = None,
) -> tuple[Certificate, ...]:
    """One certificate a matrix of a batch that was computed.

    Args:
        program: that computed it.
        findings: the program's, before and after its outputs were rounded to their dtype.
        outputs: rounded to their dtype.
        requested: the tolerance of each matrix.
        bounds: proved bounds of the errors; they decide where a proof was requested.
    """
    before, after = findings
    tolerance = _tolerances(requested, after.condition, torch.finfo(program.dtype).eps)
    table = _Table.of(after, tolerance, *_range(outputs, before))
    proofs = [None] * len(requested) if bounds is None else _proofs(requested, bounds)
    return _Judge(program, after.residual_name, table, str(program.precision), proofs).certificates()


def _meaningful(error: float) -> float:
    """An estimate that says something, infinity for any other: an error above 1 is more than that of the answer 0."""
    return error if error <= _LARGEST else math.inf


def _proofs(requested: Sequence[Requested], bounds: Bounds) -> list[tuple[float, str | None] | None]:
    """Bound of each matrix, infinite with the reason where there is none; None where no proof was requested."""
    found = zip(requested, bounds.error.tolist(), bounds.reason, strict=True)
    return [None if one.proof is None else (error, reason) for one, error, reason in found]


def _tolerances(requested: Sequence[Requested], condition: Tensor, spacing_out: float) -> Tensor:
    """Tolerance of each matrix, (batch,)."""
    kinds = {one.kind: one for one in {id(one): one for one in requested}.values()}
    columns = [kind.tolerances(condition, spacing_out) for kind in kinds.values()]
    if len(columns) == 1:
        return columns[0]
    numbers = dict(zip(kinds, range(len(columns)), strict=True))
    chosen = torch.tensor([[numbers[one.kind] for one in requested]], device=condition.device)
    return torch.stack(columns).gather(0, chosen)[0]


def _range(outputs: Sequence[Tensor], findings: Findings) -> tuple[Tensor, Tensor]:
    """Which matrices are finite in all outputs, and which were so before they were rounded to their dtype, (batch,).

    Args:
        outputs: rounded to their dtype.
        findings: before that; where their error is not known to a digit, a finite output says nothing.
    """
    if not outputs or (findings.finite is not None and bool(findings.finite.all())):
        everywhere = torch.ones_like(findings.error, dtype=torch.bool)
        return everywhere, ~everywhere
    flat = [output.reshape(len(output), -1) for output in outputs]
    finite = torch.stack([torch.isfinite(rows.sum(-1)) for rows in flat]).all(0)
    if bool(finite.all()):  # one sum clears nearly every batch
        return finite, torch.zeros_like(finite)
    finite = _all_finite(outputs)
    return finite, ~finite & _all_finite(findings.outputs) & (findings.error <= _KNOWN)


def _all_finite(outputs: Sequence[Tensor]) -> Tensor:
    """Which matrices are finite in all outputs, (batch,)."""
    return torch.stack([torch.isfinite(output).reshape(len(output), -1).all(-1) for output in outputs]).all(0)


@dataclass(frozen=True, slots=True)
class _Table:
    """A batch's findings as plain numbers, fetched from the device in one go."""

    residual: list[float]
    error: list[float]
    tolerance: list[float]
    condition: list[float]
    finite: list[float]
    overflown: list[float]
    rank: list[float]
    damping: list[float]
    shift: list[float]
    escalated: list[float]
    steps: list[float]
    failures: dict[str, list[float]]
    remarks: dict[str, list[float]]

    @classmethod
    def of(cls, findings: Findings, tolerance: Tensor, finite: Tensor, overflown: Tensor) -> _Table:
        """The table of a batch's findings."""
        absent = {
            "rank": -1.0,
            "damping": 0.0,
            "shift": 0.0,
            "escalated": 0.0,
            "steps": findings.steps if isinstance(findings.steps, int) else 0.0,
        }
        known = {
            "residual": findings.residual,
            "error": findings.error,
            "tolerance": tolerance,
            "condition": findings.condition,
            "finite": finite,
            "overflown": overflown,
            **{name: column for name in absent if isinstance(column := getattr(findings, name), torch.Tensor)},
            **findings.failures,
            **findings.remarks,
        }
        rows = dict(zip(known, _fetched(list(known.values())), strict=True))
        columns: dict[str, Any] = {name: [number] * len(tolerance) for name, number in absent.items()} | rows
        failures = {code: columns.pop(code) for code in findings.failures}
        remarks = {reason: columns.pop(reason) for reason in findings.remarks}
        return cls(**columns, failures=failures, remarks=remarks)

    def flawless(self) -> list[bool]:
        """Which matrices have a finite answer within its tolerance about which there is nothing to say."""
        good = [
            bool(finite) and error <= tolerance and error <= _LARGEST
            for finite, error, tolerance in zip(self.finite, self.error, self.tolerance, strict=True)
        ]
        masks = [*self.failures.values(), *self.remarks.values()]
        return [one and not any(flags) for one, *flags in zip(good, *masks, strict=True)] if masks else good


def _fetched(columns: Sequence[Tensor]) -> list[list[float]]:
    """The numbers of columns (batch,) of one device, which is waited for once."""
    if columns[0].device.type == "cpu":
        return [column.tolist() for column in columns]
    rows: list[list[float]] = torch.stack([column.to(torch.float64) for column in columns]).tolist()
    return rows


@dataclass(frozen=True, slots=True)
class _Judge:
    """The program and the findings from which the certificates of a batch are made."""

    program: Program
    residual_name: str
    table: _Table
    precision: str
    proofs: Sequence[tuple[float, str | None] | None]

    def certificates(self) -> tuple[Certificate, ...]:
        """The certificates of all matrices."""
        return tuple(
            self._certificate(i, _CONVERGED if flawless and proof is None else self._verdict(i))
            for i, (flawless, proof) in enumerate(zip(self.table.flawless(), self.proofs, strict=True))
        )

    def _certificate(self, i: int, verdict: tuple[str | None, str | None, Outcome]) -> Certificate:
        table, proof = self.table, self.proofs[i]
        code, hint, outcome = verdict
        failed = outcome is Outcome.FAILED
        residual, error, condition, rank = table.residual[i], table.error[i], table.condition[i], table.rank[i]
        escalated = int(table.escalated[i])
        method, precision, fallback = (
            self._route(escalated) if escalated else (self.program.method, self.precision, None)
        )
        return Certificate(  # by position, which is twice as fast
            outcome,
            None if failed or math.isnan(residual) else Residual(self.residual_name, residual),
            None if failed or not error <= _LARGEST else error,
            None if math.isnan(condition) else min(condition, sys.float_info.max),
            method,
            precision,
            int(table.steps[i]),
            int(rank) if rank >= 0 else None,
            table.damping[i],
            table.shift[i],
            fallback,
            code,
            hint,
            None if failed or proof is None or not math.isfinite(proof[0]) else proof[0],
        )

    def _route(self, escalated: int) -> tuple[str, str, str | None]:
        """Method and precision of a fallback's answer, and the methods that were tried before."""
        *before, fallback = [self.program, *self.program.fallbacks()[:escalated]]
        tried = dict.fromkeys(program.method for program in before)
        return fallback.method, str(fallback.precision), ", ".join(tried)

    def _verdict(self, i: int) -> tuple[str | None, str | None, Outcome]:
        """Code, hint and outcome."""
        table = self.table
        for reason, mask in table.failures.items():
            if mask[i]:
                return *refusal(reason, self.program.dtype), Outcome.FAILED
        error, tol, proof = _meaningful(table.error[i]), table.tolerance[i], self.proofs[i]
        if table.overflown[i]:
            return *refusal(OVER_RANGE, self.program.dtype), Outcome.FAILED
        if not table.finite[i]:
            return "not_converged", _absent(self.program), Outcome.FAILED
        said = [
            REMARKS[reason].format(shift=table.shift[i], damping=table.damping[i])
            for reason, mask in table.remarks.items()
            if mask[i]
        ]
        if proof is not None:
            bound, cause = proof
            if math.isfinite(bound):
                return _by_bound(bound, tol, said)
            said = [f"no proved bound: {cause}", *said]
        if not error <= tol:
            return "not_converged", "; ".join([_missed(table.error[i], tol), *said]), Outcome.APPROXIMATE
        return None, "; ".join(said) or None, Outcome.APPROXIMATE if said else Outcome.CONVERGED


def _missed(error: float, tol: float) -> str:
    """The words for an estimate that does not meet the tolerance."""
    if not math.isfinite(error):
        return f"no error estimate is known, so that the tolerance {tol:.1e} cannot be vouched for"
    if error > _LARGEST:
        return f"no digit is vouched for: the estimated error is {error:.1e} of the answer, the tolerance {tol:.1e}"
    return f"estimated relative error {error:.1e} is above the tolerance {tol:.1e}"


def _by_bound(bound: float, tol: float, said: list[str]) -> tuple[str | None, str | None, Outcome]:
    """Code, hint and outcome where the error is proved to be at most the bound."""
    if not bound <= tol:
        missed = f"proved relative error {bound:.1e} is above the tolerance {tol:.1e}"
        return "not_converged", "; ".join([missed, *said]), Outcome.APPROXIMATE
    return None, "; ".join(said) or None, Outcome.APPROXIMATE if said else Outcome.CONVERGED


def _absent(program: Program) -> str:
    """The hint where there is no finite answer."""
    if isinstance(program, Pinned) and program.pinned:
        return PINNED.format(method=program.method)
    return lost(program.precision)


def refused(program: Program, rejection: Rejection) -> Certificate:
    """The certificate of a matrix that was refused before it was computed."""
    return Certificate(
        outcome=Outcome.FAILED,
        residual=None,
        error_estimate=None,
        condition=None,
        method=program.method,
        precision=str(program.precision),
        steps=0,
        code=rejection.code,
        hint=rejection.detail if rejection.hint is None else f"{rejection.detail}; {rejection.hint}",
    )


def immediate(program: Program, outputs: tuple[Tensor, ...], requested: Requested) -> Certificate:
    """The certificate where some dimension is zero: an output is empty, zero, or a copy."""
    rounded = any(bool(output.any()) for output in outputs)
    error = ROUNDINGS * torch.finfo(program.dtype).eps if rounded else 0.0
    return Certificate(
        outcome=Outcome.CONVERGED,
        residual=None,
        error_estimate=error,
        condition=1.0,
        method=program.method,
        precision=str(program.precision),
        steps=0,
        error_bound=None if requested.proof is None else error,
    )
