"""Encoding of certificates where they are computed, so that the event loop need not read them.

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

    from matfn_kernels import Certificate, Evaluation, Outcome, Residual

__all__ = ["Encoded", "Status", "encode"]

_OUTCOMES: Final = {outcome.value: outcome for outcome in wire.Outcome}


@dataclass(frozen=True, slots=True)
class Status:
    """The part of a matrix's certificate that the service needs."""

    outcome: Outcome
    code: str | None
    hint: str | None
    fallback: str | None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as a constructor call, several times as fast as the default."""
        return Status, _of_status(self)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Outputs `(batch, ...)`, and the status and encoded certificate of each matrix."""

    outputs: tuple[Tensor, ...]
    statuses: tuple[Status, ...]
    certificates: tuple[bytes, ...]

    @property
    def items(self) -> int:
        """Number of matrices."""
        return len(self.statuses)

    def rows(self, start: int, stop: int) -> Encoded:
        """The answers start..stop."""
        if start <= 0 and stop >= self.items:
            return self
        outputs = tuple(output[start:stop] for output in self.outputs)
        return Encoded(outputs, self.statuses[start:stop], self.certificates[start:stop])


def encode(evaluation: Evaluation) -> Encoded:
    """The evaluation with its certificates encoded."""
    statuses = tuple(_status(*_of_status(certificate)) for certificate in evaluation.certificates)
    octets = tuple(wire.encode_certificate(_to_wire(certificate)) for certificate in evaluation.certificates)
    return Encoded(evaluation.outputs, statuses, octets)


_of_status: Final = attrgetter(*Status.__slots__)
_status: Final = lru_cache(maxsize=256)(Status)  # one object for equal statuses: a pickle of many then holds it once


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
        error_bound=certificate.error_bound,
    )


def _residual(residual: Residual | None) -> wire.Residual | None:
    return None if residual is None else wire.Residual(residual.name, residual.value)
