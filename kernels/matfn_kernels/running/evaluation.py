"""Values and certificates of a batch, with escalation of the matrices that miss their tolerance.

`evaluate` runs the program on the whole batch, then repeats each matrix that missed its tolerance alone with the
program's fallbacks, in order. The escalation of a matrix depends on itself only and leaves the others as they were.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch

from matfn_kernels.contract.certificate import Certificate, Outcome
from matfn_kernels.contract.functions import ENTRIES
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg.backends import TORCHS_OWN, using
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.scaling import release
from matfn_kernels.linalg.single_thread import one_thread
from matfn_kernels.numbers.blocks import blocks
from matfn_kernels.numbers.precision import Precision, spacing
from matfn_kernels.programs.program import Proving, Typed, WithKernel
from matfn_kernels.programs.shared_decomposition import shared_by, sharing_of
from matfn_kernels.programs.verification import Verification
from matfn_kernels.running.batches import Batch, Evaluation, concatenate, in_order, join, own_values
from matfn_kernels.running.certification import certificates_of, immediate, refused
from matfn_kernels.running.cuda_graphs import Graphed
from matfn_kernels.running.hints import detail_of
from matfn_kernels.running.plan import Varying
from matfn_kernels.running.proving import own_bounds, proved
from matfn_kernels.running.requested import Requested, Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.linalg.backends import Backends
    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.programs.call import Call
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.shared_decomposition import SharedDecomposition, Sharing

__all__ = [
    "Batch",
    "Evaluation",
    "Verdict",
    "batch_of",
    "concatenate",
    "demand",
    "evaluate",
    "evaluate_together",
    "join",
    "settle",
]

_TILE_ELEMENTS: Final = 1 << 18
"""Numbers of a tile, 64 matrices of order 64 or 4 of order 256: there the time a matrix is least or nearly so."""
_NATIVE_TILES: Final = 8
"""Tiles that the kernels in C take at a time.

Certified inverse fourth roots of order 32 and 64 take a sixth less time of an Intel Xeon's core than with one, and no
less with 32."""


def batch_of(call: Call) -> Batch:
    """The matrices of a call as a batch."""
    named = call.options.precision
    eps = torch.finfo(call.dtype).eps if named == "auto" else spacing(Precision(named))
    tol = call.options.tol
    growth = _growth(call)
    proof = Statement.of(call) if call.options.certify == "proved" else None
    if not call.rejected and not (proof and call.varying):
        return Batch(call.inputs, (_requested(tol, eps, growth, proof),) * call.items)
    proofs = [proof and proof.at(call.varying, values) for values in own_values(call.inputs, call.varying, call.items)]
    requested = (Requested(tol, eps, call.rejected.get(index), growth, one) for index, one in enumerate(proofs))
    return Batch(call.inputs, tuple(requested))


def _growth(call: Call) -> float:
    """Max(1, s/r) of a power A^(s/r), by which it may magnify relative changes more than the matrix's condition."""
    r, s = call.parameters.get("r"), call.parameters.get("s")
    return max(1.0, s / r) if isinstance(r, int) and isinstance(s, int) else 1.0


@lru_cache(maxsize=1024)
def _requested(tol: float | None, eps: float, growth: float, proof: Statement | None) -> Requested:
    """The requested tolerance of a matrix; equal ones are one object, which a pickle holds once."""
    return Requested(tol, eps, None, growth, proof)


def evaluate(program: Program, batch: Batch, backends: Backends = TORCHS_OWN) -> Evaluation:
    """Values and certificates of a batch; content never raises, it only shows in certificates.

    Args:
        program: that of a plan.
        batch: the matrices.
        backends: those of the plan.

    Raises:
        torch.OutOfMemoryError: if the device has too little memory for the batch.
    """
    return evaluate_together([(program, batch)], backends)[0]


def evaluate_together(members: Sequence[tuple[Program, Batch]], backends: Backends = TORCHS_OWN) -> list[Evaluation]:
    """Values and certificates of several batches, in order; what their programs share is computed once.

    Args:
        members: programs with their matrices.
        backends: those of the programs' plans.

    Raises:
        torch.OutOfMemoryError: if the device has too little memory for all of them.
    """
    with one_thread(), using(backends), np.errstate(all="ignore"):
        groups = [_by_values(program, batch) for program, batch in members]
        found = iter(_evaluated_together([(program, batch) for group in groups for program, batch, _ in group]))
        return [in_order([(next(found), rows) for *_, rows in group]) for group in groups]


def _by_values(program: Program, batch: Batch) -> list[tuple[Program, Batch, list[int] | None]]:
    """Programs with their matrices and the rows of these: all of one, or those of each value of varying parameters."""
    varying = _varying(_plain(program))
    if varying is None:
        return [(program, batch, None)]
    groups: dict[tuple[float, ...], list[int]] = {}
    for row, values in enumerate(own_values(batch.inputs, varying.names, batch.items)):
        groups.setdefault(values, []).append(row)
    found = [_at(varying, values, batch.some(rows, varying.names)) for values, rows in groups.items()]
    found = found or [(varying.typical, batch.some([], varying.names))]
    graphs = program.graphs if isinstance(program, Graphed) else None
    pairs = [(one if graphs is None else Graphed(one, graphs), part) for one, part in found]
    return [(*pair, rows) for pair, rows in zip(pairs, list(groups.values()) or [[]], strict=True)]


@lru_cache(maxsize=4096)  # as below: a look at a protocol's properties takes as long as a small matrix
def _varying(program: Program) -> Varying | None:
    """The program, if its parameters vary."""
    return program if isinstance(program, Varying) else None


def _at(varying: Varying, values: tuple[float, ...], batch: Batch) -> tuple[Program, Batch]:
    """The program of these values with its matrices, refused where the method asked for does not serve the values."""
    try:
        return varying.at(values), batch
    except Rejection as rejection:
        refusals = tuple(replace(one, rejection=one.rejection or rejection) for one in batch.requested)
        return varying.typical, replace(batch, requested=refusals)


def _evaluated_together(members: Sequence[tuple[Program, Batch]]) -> list[Evaluation]:
    owners: dict[Program, list[int]] = {}
    for index, (program, _) in enumerate(members):
        owners.setdefault(program, []).append(index)
    batches = {program: concatenate([members[i][1] for i in indices]) for program, indices in owners.items()}
    decompositions = _decompositions(batches)
    found: dict[int, Evaluation] = {}
    for program, indices in owners.items():
        pieces = _apart(
            _evaluated(program, batches[program], decompositions.get(program)), [members[i][1].items for i in indices]
        )
        found |= dict(zip(indices, pieces, strict=True))
    return [found[index] for index in range(len(members))]


def _decompositions(batches: Mapping[Program, Batch]) -> dict[Program, Decomposition]:
    """The decompositions that more than one program shares, each computed for all of its programs at once."""
    standing: dict[SharedDecomposition, list[Sharing]] = {}
    for program, batch in batches.items():
        sharing, shared = sharing_of(program), shared_by(program)
        if sharing is not None and shared is not None and not batch.is_empty:
            standing.setdefault(shared, []).append(sharing)
    decompositions: dict[Program, Decomposition] = {}
    for shared, programs in standing.items():
        if len(programs) > 1:
            whole = shared.of([program.matrices(_laid_out(batches[program].inputs)) for program in programs])
            stops = [0, *accumulate(batches[program].items for program in programs)]
            decompositions |= {p: whole.rows(*bounds) for p, bounds in zip(programs, pairwise(stops), strict=True)}
    return decompositions


def _apart(evaluation: Evaluation, sizes: Sequence[int]) -> list[Evaluation]:
    """The evaluation in consecutive pieces of these sizes, as views."""
    return [evaluation.rows(*bounds) for bounds in pairwise([0, *accumulate(sizes)])]


def _evaluated(program: Program, batch: Batch, decomposition: Decomposition | None) -> Evaluation:
    """The evaluation of one program's batch, each matrix escalated as far as it needs."""
    if batch.is_empty and not (batch.items and _verifies(program)):
        outputs = program.empty(batch.inputs)
        evaluation = Evaluation(outputs, tuple(immediate(program, outputs, one) for one in batch.requested))
    else:
        evaluation = _attempt(program, batch, decomposition)
    certificates = list(evaluation.certificates)
    for index, certificate in enumerate(evaluation.certificates):
        rejection = batch.requested[index].rejection
        if rejection is not None:
            certificates[index] = refused(program, rejection)
        elif certificate.code == "not_converged" and not _is_rejected(program, certificate, batch.requested[index]):
            better = _escalated(program, batch.rows(index, index + 1), evaluation.rows(index, index + 1))
            certificates[index] = better.certificates[0]
            _replace_row(evaluation.outputs, index, better.outputs)
    failed = [index for index, certificate in enumerate(certificates) if certificate.outcome is Outcome.FAILED]
    if failed:
        for output in evaluation.outputs:
            output[failed] = math.nan
    return Evaluation(evaluation.outputs, tuple(certificates))


def _verifies(program: Program) -> bool:
    """Whether a program compares claims, which is done where some dimension is zero too."""
    return isinstance(_plain(program), Verification)


def _is_rejected(program: Program, certificate: Certificate, requested: Requested) -> bool:
    """Whether a claim is wrong whatever a fallback computes."""
    plain = _plain(program)
    if not isinstance(plain, Verification) or certificate.condition is None:
        return False
    condition = torch.tensor([certificate.condition], dtype=torch.float64, device="cpu")
    tolerance = requested.tolerances(condition, torch.finfo(plain.dtype).eps)
    return plain.rejects(certificate, tolerance.item())


def _plain(program: Program) -> Program:
    """The program that a recording replays, or the program itself."""
    return program.program if isinstance(program, Graphed) else program


def _replace_row(outputs: tuple[Tensor, ...], index: int, values: tuple[Tensor, ...]) -> None:
    for output, value in zip(outputs, values, strict=True):
        output[index] = value[0]


def _escalated(program: Program, batch: Batch, evaluation: Evaluation) -> Evaluation:
    """The best answer of the fallbacks for one matrix, up to the first that meets its tolerance."""
    tried = program.method
    for fallback in program.fallbacks():
        candidate = _attempt(fallback, batch)
        certificate = candidate.certificates[0]._replace(fallback=tried)
        tried = f"{tried}, {fallback.method}"
        if _better(certificate, evaluation.certificates[0]):
            evaluation = Evaluation(candidate.outputs, (certificate,))
        if certificate.code != "not_converged":
            break
    return evaluation


def _better(new: Certificate, old: Certificate) -> bool:
    """Whether a fallback's answer replaces the one before: it is final, or its estimate is no larger."""
    if new.code != "not_converged" or old.error_estimate is None:
        return True
    return new.error_estimate is not None and new.error_estimate <= old.error_estimate


def _attempt(program: Program, batch: Batch, decomposition: Decomposition | None = None) -> Evaluation:
    """The evaluation of one batch by one program, without escalation; its matrices may have been decomposed already."""
    parts = [
        (
            batch.rows(tile.start, tile.stop),
            None if decomposition is None else decomposition.rows(tile.start, tile.stop),
        )
        for tile in _tiles(program, batch)
    ]
    return join([_computed(program, *part) for part in parts])


def _tiles(program: Program, batch: Batch) -> Iterator[slice]:
    """Parts of a batch whose matrices stay in a core's cache; on a GPU one part.

    Kernels in C hold one matrix at a time in the cache, and take larger parts.
    """
    first = next(iter(batch.inputs.values()))
    elements = max(1, *(math.prod(tensor.shape[1:]) for tensor in batch.inputs.values()))
    size = (
        max(1, (_NATIVE_TILES if _is_native(program) else 1) * _TILE_ELEMENTS // elements)
        if first.device.type == "cpu"
        else batch.items
    )
    return blocks(batch.items, size)


@lru_cache(maxsize=4096)
def _is_native(program: Program) -> bool:
    """Whether the kernels in C compute most of it."""
    return isinstance(program, WithKernel) and program.kernel is Kernel.NATIVE


def _computed(program: Program, batch: Batch, decomposition: Decomposition | None) -> Evaluation:
    inputs = _laid_out(batch.inputs)
    sharing = sharing_of(program)
    found = program.run(inputs) if decomposition is None or sharing is None else sharing.finish(decomposition, inputs)
    findings = _released(found, _output_dtypes(_plain(program), len(found.outputs)))
    outputs = tuple(output.resolve_conj().contiguous() for output in findings.outputs)
    own = _proves_its_error(_plain(program))
    bounds = own_bounds(batch, findings.error) if own else proved(batch, outputs, findings.shift)
    return Evaluation(outputs, certificates_of(program, (found, findings), outputs, batch.requested, bounds))


@lru_cache(maxsize=4096)
def _proves_its_error(program: Program) -> bool:
    """Whether the error of its findings is a proved bound."""
    return isinstance(program, Proving) and program.proves_its_error


@lru_cache(maxsize=4096)
def _output_dtypes(program: Program, count: int) -> tuple[torch.dtype, ...]:
    """The dtype of each output: the program's own but where it names others."""
    return program.output_dtypes if isinstance(program, Typed) else (program.dtype,) * count


def _released(findings: Findings, dtypes: Sequence[torch.dtype]) -> Findings:
    """The findings with outputs in their dtypes and their powers of two multiplied, their rounding in the error."""
    exponents = findings.exponents or (None,) * len(findings.outputs)
    triples = list(zip(findings.outputs, exponents, dtypes, strict=True))
    if all(exponent is None and output.dtype == dtype for output, exponent, dtype in triples):
        return findings
    released = [release(*triple) for triple in triples]
    # the rounding is relative to the value, which has an error itself
    rounding = torch.stack([error for _, error in released], -1)
    share = 1 + findings.error if findings.share is None else findings.share
    rounding = (rounding * share.reshape(len(rounding), -1)).amax(-1)
    outputs = tuple(output for output, _ in released)
    return replace(findings, outputs=outputs, exponents=(), error=findings.error + rounding)


def _laid_out(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs stored row by row and without gaps: libraries add up a transpose in another order."""
    return {name: tensor.resolve_conj().resolve_neg().contiguous() for name, tensor in inputs.items()}


def settle(call: Call, evaluation: Evaluation) -> tuple[Tensor, ...]:
    """The outputs with the call's leading dimensions restored.

    Raises:
        Rejection: as `demand` does.
    """
    demand(call, evaluation.certificates)
    return tuple(output.reshape((*call.lead, *output.shape[1:])) for output in evaluation.outputs)


class Verdict(Protocol):
    """The part of a certificate that says whether there is an answer."""

    @property
    def outcome(self) -> Outcome:
        """Whether the answer meets the requested tolerance."""

    @property
    def code(self) -> str | None:
        """The problem's code, if there is a problem."""

    @property
    def hint(self) -> str | None:
        """The cause or a remedy, in words."""


def demand(call: Call, verdicts: Iterable[Verdict]) -> None:
    """Checks that the call accepts its answers.

    Raises:
        Rejection: under on_failure="raise", for the first matrix that failed or missed an explicit tolerance; a claimed
            answer that misses it is no error, since its certificate is what was asked for.
    """
    if call.options.on_failure != "raise":
        return
    raises_missed = call.options.tol is not None and not ENTRIES[call.function].claims
    for index, verdict in enumerate(verdicts):
        missed = raises_missed and verdict.code == "not_converged"
        if verdict.outcome is Outcome.FAILED or missed:
            raise _as_rejection(verdict, index, ENTRIES[call.function].subject)


def _as_rejection(verdict: Verdict, index: int, function: str) -> Rejection:
    code = verdict.code or "not_converged"
    absent = code == "not_converged" and verdict.outcome is Outcome.FAILED
    detail = "there is no finite answer" if absent else detail_of(code, function)
    return Rejection(code, f"matrix {index}: {detail}", verdict.hint, index)
