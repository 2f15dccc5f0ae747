"""Evaluations made ready for the wire where they are computed, so that the event loop does not look at certificates.

Receiving, reading and encoding a thousand certificates takes the loop as long as a worker computes a hundred small
matrices. A worker encodes them itself, beside the other workers, and hands over bytes; all that the loop needs to know
of them is in a few statuses, which most matrices share.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from matfn import wire

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.certificate import Certificate, Outcome, Residual
    from matfn_kernels.evaluation import Evaluation

__all__ = ["Fate", "Sealed", "seal"]

_OUTCOMES: Final = {outcome.value: outcome for outcome in wire.Outcome}


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a matrix, as its certificate says."""

    outcome: Outcome
    code: str | None
    hint: str | None
    fallback: str | None


@dataclass(frozen=True, slots=True)
class Sealed:
    """Values (batch, ...), and of each matrix the fate and the encoded certificate."""

    outputs: tuple[Tensor, ...]
    fates: tuple[Fate, ...]
    certificates: tuple[bytes, ...]

    @property
    def items(self) -> int:
        """Number of matrices."""
        return len(self.fates)

    def rows(self, start: int, stop: int) -> Sealed:
        """The answers start..stop."""
        outputs = tuple(output[start:stop] for output in self.outputs)
        return Sealed(outputs, self.fates[start:stop], self.certificates[start:stop])


def seal(evaluation: Evaluation) -> Sealed:
    """The evaluation with its certificates encoded."""
    fates = tuple(_fate(*_of_fate(certificate)) for certificate in evaluation.certificates)
    octets = tuple(wire.encode_certificate(_to_wire(certificate)) for certificate in evaluation.certificates)
    return Sealed(evaluation.outputs, fates, octets)


_of_fate: Final = attrgetter(*Fate.__slots__)
_fate: Final = lru_cache(maxsize=256)(Fate)  # one object for all who share it: a pickle of many then holds it once


def _to_wire(certificate: Certificate) -> wire.Certificate:
    return wire.Certificate(
        outcome=_OUTCOMES[certificate.outcome],
        residual=_residual(certificate.residual),
        error_estimate=certificate.error_estimate,
        condition=certificate.condition,
        method=certificate.method,
        precision=certificate.precision,
        steps=certificate.steps,
        rank=certificate.rank,
        damping=certificate.damping,
        shift=certificate.shift,
        fallback=certificate.fallback,
        code=certificate.code,
        hint=certificate.hint,
    )


def _residual(residual: Residual | None) -> wire.Residual | None:
    return None if residual is None else wire.Residual(residual.name, residual.value)
