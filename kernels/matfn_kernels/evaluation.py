"""From a program and a batch to values and certificates, with the ladder of methods that a missed tolerance climbs.

`evaluate` runs the program on the whole batch, then repeats each matrix that missed its tolerance alone on the next
rung. A matrix's path therefore depends on itself only, and escalating one leaves the others' batch as it was.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.certificate import Certificate, Outcome, Residual
from matfn_kernels.foundation import Stacked, foundation_of
from matfn_kernels.precision import Precision, spacing
from matfn_kernels.program import Tiled
from matfn_kernels.rejection import Rejection
from matfn_kernels.scaling import release
from matfn_kernels.verdicts import DETAILS, OUT_OF_RANGE, REMARKS, lost, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.findings import Findings
    from matfn_kernels.foundation import Foundation, Ground
    from matfn_kernels.program import Program
    from matfn_kernels.validation import Call

__all__ = ["Batch", "Evaluation", "Wish", "batch_of", "concatenate", "evaluate", "evaluate_together", "join", "settle"]

_DEFAULT_TOL: Final = 1e-3
_HALF_TOL: Final = 1e-2
_DEFAULT_FACTOR: Final = 50.0
_SINGLE_EPS: Final = 1.2e-7
_TILE_ELEMENTS: Final = 1 << 17
"""32 matrices of order 64, 2 of order 256: there the time a matrix is least or nearly so."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What one matrix asks for beside its program.

    Attributes:
        tol: the tolerance asked for, or None.
        eps: spacing that the default tolerance is measured in.
        rejection: the reason why the matrix has no answer, if it has none.
    """

    tol: float | None
    eps: float
    rejection: Rejection | None

    def tolerance(self, condition: float, spacing_out: float) -> float:
        """The relative error that counts as converged: what a backward-stable method in that precision gives."""
        if self.tol is not None:
            return self.tol
        cap = _HALF_TOL if self.eps > _SINGLE_EPS else _DEFAULT_TOL
        attainable = _DEFAULT_FACTOR * self.eps * condition
        return max(spacing_out, min(attainable, cap) if math.isfinite(condition) else cap)


@dataclass(frozen=True, slots=True)
class Batch:
    """Matrices to be computed together: inputs (batch, ...) and one wish a matrix."""

    inputs: Mapping[str, Tensor]
    wishes: tuple[Wish, ...]

    @property
    def items(self) -> int:
        """Number of matrices."""
        return len(self.wishes)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compute: some dimension is zero."""
        return any(size == 0 for tensor in self.inputs.values() for size in tensor.shape)

    def rows(self, start: int, stop: int) -> Batch:
        """The matrices start..stop."""
        return Batch({name: tensor[start:stop] for name, tensor in self.inputs.items()}, self.wishes[start:stop])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values (batch, ...) and one certificate a matrix."""

    outputs: tuple[Tensor, ...]
    certificates: tuple[Certificate, ...]

    @property
    def items(self) -> int:
        """Number of matrices."""
        return len(self.certificates)

    def rows(self, start: int, stop: int) -> Evaluation:
        """The answers start..stop."""
        return Evaluation(tuple(output[start:stop] for output in self.outputs), self.certificates[start:stop])


def batch_of(call: Call) -> Batch:
    """The batch that one call makes."""
    named = call.options.precision
    eps = torch.finfo(call.dtype).eps if named == "auto" else spacing(Precision(named))
    tol = call.options.tol
    if not call.rejected:
        return Batch(call.inputs, (_wish(tol, eps),) * call.items)
    return Batch(call.inputs, tuple(Wish(tol, eps, call.rejected.get(index)) for index in range(call.items)))


@lru_cache(maxsize=1024)
def _wish(tol: float | None, eps: float) -> Wish:
    """One object for all who ask for the same: a pickle of many then holds it once."""
    return Wish(tol, eps, None)


def concatenate(batches: Sequence[Batch]) -> Batch:
    """One batch of several with the same program; `Evaluation.rows` takes it apart again."""
    if len(batches) == 1:
        return batches[0]
    names = batches[0].inputs
    inputs = {name: torch.cat([batch.inputs[name] for batch in batches]) for name in names}
    return Batch(inputs, tuple(wish for batch in batches for wish in batch.wishes))


def join(evaluations: Sequence[Evaluation]) -> Evaluation:
    """One evaluation of several, in order."""
    if len(evaluations) == 1:
        return evaluations[0]
    outputs = tuple(torch.cat(column) for column in zip(*(e.outputs for e in evaluations), strict=True))
    return Evaluation(outputs, tuple(c for e in evaluations for c in e.certificates))


def evaluate(program: Program, batch: Batch) -> Evaluation:
    """Values and certificates of a batch; content never raises, it only shows in certificates.

    Raises:
        torch.OutOfMemoryError: if the device has too little memory for the batch.
    """
    return evaluate_together([(program, batch)])[0]


def evaluate_together(members: Sequence[tuple[Program, Batch]]) -> list[Evaluation]:
    """Values and certificates of several batches, in order; what their programs share is computed once.

    Raises:
        torch.OutOfMemoryError: if the device has too little memory for all of them.
    """
    owners: dict[Program, list[int]] = {}
    for index, (program, _) in enumerate(members):
        owners.setdefault(program, []).append(index)
    batches = {program: concatenate([members[i][1] for i in indices]) for program, indices in owners.items()}
    grounds = _grounds(batches)
    found: dict[int, Evaluation] = {}
    for program, indices in owners.items():
        pieces = _apart(
            _evaluated(program, batches[program], grounds.get(program)), [members[i][1].items for i in indices]
        )
        found |= dict(zip(indices, pieces, strict=True))
    return [found[index] for index in range(len(members))]


def _grounds(batches: Mapping[Program, Batch]) -> dict[Program, Ground]:
    """The first stages that more than one program stands on, each computed for all of its programs at once."""
    standing: dict[Foundation, list[Stacked]] = {}
    for program, batch in batches.items():
        foundation = foundation_of(program)
        if foundation is not None and not batch.is_empty:
            assert isinstance(program, Stacked)
            standing.setdefault(foundation, []).append(program)
    grounds: dict[Program, Ground] = {}
    for foundation, programs in standing.items():
        if len(programs) > 1:
            whole = foundation.of([program.matrices(batches[program].inputs) for program in programs])
            stops = [0, *accumulate(batches[program].items for program in programs)]
            grounds |= {p: whole.rows(*bounds) for p, bounds in zip(programs, pairwise(stops), strict=True)}
    return grounds


def _apart(evaluation: Evaluation, sizes: Sequence[int]) -> list[Evaluation]:
    """The evaluation in consecutive pieces of these sizes, as views."""
    return [evaluation.rows(*bounds) for bounds in pairwise([0, *accumulate(sizes)])]


def _evaluated(program: Program, batch: Batch, ground: Ground | None) -> Evaluation:
    """One program's batch, each matrix as far up the ladder as it needs."""
    if batch.is_empty:
        outputs = program.empty(batch.inputs)
        evaluation = Evaluation(outputs, tuple(_immediate(program, outputs) for _ in batch.wishes))
    else:
        evaluation = _attempt(program, batch, ground)
    certificates = list(evaluation.certificates)
    for index, certificate in enumerate(evaluation.certificates):
        rejection = batch.wishes[index].rejection
        if rejection is not None:
            certificates[index] = _refused(program, rejection)
        elif certificate.code == "not_converged":
            better = _climb(program, batch.rows(index, index + 1), evaluation.rows(index, index + 1))
            certificates[index] = better.certificates[0]
            _replace_row(evaluation.outputs, index, better.outputs)
    for index, certificate in enumerate(certificates):
        if certificate.outcome is Outcome.FAILED:
            _replace_row(evaluation.outputs, index, None)
    return Evaluation(evaluation.outputs, tuple(certificates))


def _replace_row(outputs: tuple[Tensor, ...], index: int, values: tuple[Tensor, ...] | None) -> None:
    for position, output in enumerate(outputs):
        output[index] = math.nan if values is None else values[position][0]


def _climb(program: Program, batch: Batch, evaluation: Evaluation) -> Evaluation:
    """The best of the rungs above `program` for one matrix, stopping at the first that meets its tolerance."""
    tried = program.method
    for rung in program.fallbacks():
        candidate = _attempt(rung, batch)
        certificate = replace(candidate.certificates[0], fallback=tried)
        tried = f"{tried}, {rung.method}"
        if _better(certificate, evaluation.certificates[0]):
            evaluation = Evaluation(candidate.outputs, (certificate,))
        if certificate.code != "not_converged":
            break
    return evaluation


def _better(new: Certificate, old: Certificate) -> bool:
    """Whether a rung's answer replaces the one before: a verdict does, and a smaller estimate."""
    if new.code != "not_converged" or old.error_estimate is None:
        return True
    return new.error_estimate is not None and new.error_estimate <= old.error_estimate


def _attempt(program: Program, batch: Batch, ground: Ground | None = None) -> Evaluation:
    """One program on one batch, certificates and all; its first stage may have been computed already."""
    tiles = _tiles(batch, _tile_elements(program))
    return join(
        [_computed(program, batch.rows(*tile), None if ground is None else ground.rows(*tile)) for tile in tiles]
    )


@lru_cache(maxsize=4096)
def _tile_elements(program: Program) -> int:
    return program.tile_elements if isinstance(program, Tiled) else _TILE_ELEMENTS


def _tiles(batch: Batch, wanted: int) -> list[tuple[int, int]]:
    """First and last rows of parts of so many elements, which stay in a core's cache; on a GPU all at once."""
    first = next(iter(batch.inputs.values()))
    elements = max(math.prod(tensor.shape[1:]) for tensor in batch.inputs.values())
    size = max(1, wanted // elements) if first.device.type == "cpu" else batch.items
    return [(start, min(start + size, batch.items)) for start in range(0, batch.items, size)]


def _computed(program: Program, batch: Batch, ground: Ground | None) -> Evaluation:
    if ground is None:
        findings = program.run(batch.inputs)
    else:
        assert isinstance(program, Stacked)
        findings = program.finish(ground, batch.inputs)
    exponents = findings.exponents or (None,) * len(findings.outputs)
    released = [release(*pair, program.dtype) for pair in zip(findings.outputs, exponents, strict=True)]
    outputs = tuple(output.resolve_conj().contiguous() for output, _ in released)
    findings = replace(findings, error=findings.error + torch.stack([error for _, error in released]).amax(0))
    table = _Table.of(findings, *_range(outputs))
    certificates = tuple(_certificate(program, findings, table, wish, i) for i, wish in enumerate(batch.wishes))
    return Evaluation(outputs, certificates)


def _range(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Which matrices are finite in all outputs, and which hold an infinity in some, (batch,) each."""
    flat = [output.reshape(len(output), -1) for output in outputs]
    finite = torch.stack([torch.isfinite(rows.sum(-1)) for rows in flat]).all(0)
    if bool(finite.all()):  # one sum clears nearly every batch
        return finite, torch.zeros_like(finite)
    finite = torch.stack([torch.isfinite(rows).all(-1) for rows in flat]).all(0)
    return finite, torch.stack([torch.isinf(rows).any(-1) for rows in flat]).any(0)


@dataclass(frozen=True, slots=True)
class _Table:
    """A batch's findings as plain numbers, fetched from the device in one go."""

    residual: list[float]
    error: list[float]
    condition: list[float]
    rank: list[float]
    damping: list[float]
    shift: list[float]
    finite: list[float]
    overflown: list[float]
    escalated: list[float]
    failures: dict[str, list[float]]
    remarks: dict[str, list[float]]

    @classmethod
    def of(cls, findings: Findings, finite: Tensor, overflown: Tensor) -> _Table:
        """The table of a batch's findings."""
        none = torch.full_like(findings.error, math.nan, dtype=torch.float64)
        masks = {**findings.failures, **findings.remarks}
        columns = [
            findings.residual,
            findings.error,
            findings.condition,
            none if findings.rank is None else findings.rank,
            torch.zeros_like(none) if findings.damping is None else findings.damping,
            torch.zeros_like(none) if findings.shift is None else findings.shift,
            finite,
            overflown,
            torch.zeros_like(none) if findings.escalated is None else findings.escalated,
            *masks.values(),
        ]
        rows: list[list[float]] = torch.stack([column.to(torch.float64) for column in columns]).tolist()
        residual, error, condition, rank, damping, shift, is_finite, is_overflown, escalated, *flags = rows
        named = dict(zip(masks, flags, strict=True))
        failures = {code: named[code] for code in findings.failures}
        remarks = {reason: named[reason] for reason in findings.remarks}
        return cls(
            residual, error, condition, rank, damping, shift, is_finite, is_overflown, escalated, failures, remarks
        )


def _certificate(program: Program, findings: Findings, table: _Table, wish: Wish, i: int) -> Certificate:
    code, hint, outcome = _verdict(program, table, wish, i)
    rank = table.rank[i]
    failed = outcome is Outcome.FAILED
    return Certificate(
        outcome=outcome,
        residual=None
        if failed or math.isnan(table.residual[i])
        else Residual(findings.residual_name, table.residual[i]),
        error_estimate=None if failed else _number(table.error[i]),
        condition=None if math.isnan(table.condition[i]) else min(table.condition[i], sys.float_info.max),
        method=program.method,
        precision=str(program.ceiling if table.escalated[i] else program.precision),
        steps=findings.steps if isinstance(findings.steps, int) else int(findings.steps[i]),
        rank=int(rank) if rank >= 0 else None,
        damping=table.damping[i],
        shift=table.shift[i],
        code=code,
        hint=hint,
    )


def _number(error: float) -> float | None:
    """An estimate, None where it does not say that the answer is nearer to the truth than zero is."""
    return error if error <= 1.0 else None


def _verdict(program: Program, table: _Table, wish: Wish, i: int) -> tuple[str | None, str | None, Outcome]:
    """Code, hint and outcome of one matrix."""
    for reason, mask in table.failures.items():
        if mask[i]:
            return *refusal(reason), Outcome.FAILED
    error = table.error[i]
    if not table.finite[i]:
        return "not_converged", _absent(program, overflown=bool(table.overflown[i])), Outcome.FAILED
    tol = wish.tolerance(table.condition[i], torch.finfo(program.dtype).eps)
    said = [
        REMARKS[reason].format(shift=table.shift[i], damping=table.damping[i])
        for reason, mask in table.remarks.items()
        if mask[i]
    ]
    if not error <= tol:
        known = f"estimated relative error {error:.1e} is above" if math.isfinite(error) else "no error estimate for"
        return "not_converged", "; ".join([f"{known} {tol:.1e}", *said]), Outcome.APPROXIMATE
    return None, "; ".join(said) or None, Outcome.APPROXIMATE if said else Outcome.CONVERGED


def _absent(program: Program, *, overflown: bool) -> str:
    """The hint where there is no finite answer."""
    if overflown:
        return OUT_OF_RANGE.format(dtype=str(program.dtype).removeprefix("torch."))
    return lost(program.precision)


def _refused(program: Program, rejection: Rejection) -> Certificate:
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


def _immediate(program: Program, outputs: tuple[Tensor, ...]) -> Certificate:
    """The certificate where some dimension is zero: what is not empty or zero has been rounded once or twice."""
    rounded = any(bool(output.any()) for output in outputs)
    return Certificate(
        outcome=Outcome.CONVERGED,
        residual=None,
        error_estimate=4 * torch.finfo(program.dtype).eps if rounded else 0.0,
        condition=1.0,
        method=program.method,
        precision=str(program.precision),
        steps=0,
    )


def settle(call: Call, evaluation: Evaluation) -> tuple[Tensor, ...]:
    """The outputs with the call's leading dimensions restored.

    Raises:
        Rejection: under on_failure="raise", for the first matrix that failed or missed an explicit tolerance.
    """
    if call.options.on_failure == "raise":
        for index, certificate in enumerate(evaluation.certificates):
            missed = call.options.tol is not None and certificate.code == "not_converged"
            if certificate.outcome is Outcome.FAILED or missed:
                raise _as_rejection(certificate, index)
    return tuple(output.reshape((*call.lead, *output.shape[1:])) for output in evaluation.outputs)


def _as_rejection(certificate: Certificate, index: int) -> Rejection:
    code = certificate.code or "not_converged"
    absent = code == "not_converged" and certificate.outcome is Outcome.FAILED
    detail = "there is no finite answer" if absent else DETAILS.get(code, code)
    return Rejection(code, f"matrix {index}: {detail}", certificate.hint, index)
