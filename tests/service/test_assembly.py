"""Batches are put together and taken apart without a trace."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from matfn_kernels.contract.certificate import Certificate, Outcome
from matfn_kernels.methods.sign.newton import NewtonSign
from matfn_kernels.methods.sign.question import SignQuestion
from matfn_kernels.running.evaluation import Batch, Evaluation, concatenate, join
from matfn_kernels.running.requested import Requested
from matfn_service.assembly import Part, apart, by_program, deal, gather, halves
from matfn_service.encoding import encode

PROGRAM = NewtonSign(SignQuestion(1, None, torch.float64))
sizes = st.lists(st.integers(0, 7), min_size=1, max_size=9)


def parts_of(numbers: list[int]) -> list[Part]:
    """Jobs of these many 1 x 1 matrices, all different."""
    entries = iter(range(sum(numbers)))
    return [
        Part(owner, PROGRAM, batch_with([next(entries) for _ in range(number)])) for owner, number in enumerate(numbers)
    ]


def batch_with(entries: list[int]) -> Batch:
    """A batch of 1 x 1 matrices with these entries."""
    tensor = torch.tensor(entries, dtype=torch.float64).reshape(-1, 1, 1)
    return Batch({"m": tensor}, tuple(Requested(None, 0.0, None) for _ in entries))


def identity(batch: Batch) -> Evaluation:
    """The evaluation that gives every matrix back."""
    certificate = Certificate(Outcome.CONVERGED, None, 0.0, 1.0, "identity", "fp64", 0)
    return Evaluation((batch.inputs["m"],), (certificate,) * batch.items)


def entries(part: Batch | Evaluation) -> list[float]:
    """The entries of all matrices."""
    tensor = part.inputs["m"] if isinstance(part, Batch) else part.outputs[0]
    found: list[float] = tensor.flatten().tolist()
    return found


@given(sizes, st.integers(1, 5))
def test_gather_undoes_deal(numbers: list[int], workers: int) -> None:
    """Whatever is dealt to the workers comes back to its owner in order."""
    parts = parts_of(numbers)
    shares = deal(parts, workers)
    pieces = gather(len(parts), [(part, identity(part.batch)) for share in shares for part in share])

    assert [entries(join(piece)) for piece in pieces] == [entries(part.batch) for part in parts]


@given(sizes, st.integers(1, 5))
def test_shares_are_even(numbers: list[int], workers: int) -> None:
    """No worker gets more than one matrix more than another, and none gets nothing."""
    loads = [sum(part.items for part in share) for share in deal(parts_of(numbers), workers)]

    assert max(loads) - min(loads) <= 1
    assert len(loads) <= max(1, sum(numbers))


@given(sizes)
def test_halving_keeps_order_and_ends(numbers: list[int]) -> None:
    """Halves, halved on and on, are the single matrices in order."""
    parts = parts_of(numbers)

    assert [entry for part in leaves(parts) for entry in entries(part.batch)] == list(range(sum(numbers)))


def leaves(parts: list[Part]) -> list[Part]:
    """What is left when nothing can be halved any more."""
    both = halves(parts)
    return parts if both is None else leaves(both[0]) + leaves(both[1])


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), max_size=9))
def test_programs_are_told_apart(kinds: list[tuple[int, int]]) -> None:
    """Parts computed as one batch for each program get their own rows back, in their own order."""
    parts = [
        replace(part, program=NewtonSign(SignQuestion(order, None, torch.float64)))
        for part, (order, _) in zip(parts_of([number for _, number in kinds]), kinds, strict=True)
    ]
    members = by_program(parts)
    joined = [encode(identity(concatenate([parts[index].batch for index in indices]))) for indices in members.values()]
    found = apart(parts, members, joined)

    assert len(members) == len({part.program for part in parts})
    assert [piece.outputs[0].flatten().tolist() for piece in found] == [entries(part.batch) for part in parts]
