"""From what the device gave to the answer on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn import wire
from matfn_kernels.evaluation import join, settle
from matfn_kernels.functions import FUNCTIONS
from matfn_kernels.rejection import Rejection
from matfn_service.problems import as_refusal
from matfn_service.tensors import to_wire

if TYPE_CHECKING:
    from matfn_kernels.certificate import Certificate, Residual
    from matfn_service.admission import Prepared
    from matfn_service.jobs import Served

__all__ = ["answer_of", "weight"]

_OUTCOMES: Final = {outcome.value: outcome for outcome in wire.Outcome}
_CERTIFICATE_BYTES: Final = 2048  # encoding one certificate takes about as long as copying so much


def weight(prepared: Prepared, media: wire.Media) -> int:
    """How long the answer takes to make and encode, in bytes that could be copied meanwhile."""
    items = prepared.batch.items
    # msgpack sends the tensors' own memory, JSON copies it thrice
    return items * (_CERTIFICATE_BYTES + (prepared.plan.bytes if media is wire.Media.JSON else 0))


def answer_of(prepared: Prepared, served: Served, device: str, request_id: str) -> wire.Answer:
    """The answer to one call: outputs by their names in the catalogue, one certificate a matrix.

    Raises:
        Refusal: if a matrix has no answer and the call asked for an error then.
    """
    evaluation = join(served.evaluations)
    try:
        outputs = settle(prepared.call, evaluation)
    except Rejection as rejection:
        raise as_refusal(rejection) from None
    names = FUNCTIONS[prepared.call.function].outputs
    return wire.Answer(
        outputs={name: to_wire(output) for name, output in zip(names, outputs, strict=True)},
        certificates=tuple(_certificate(certificate) for certificate in evaluation.certificates),
        timing=wire.Timing(served.queue_seconds * 1e3, served.device_seconds * 1e3, served.batch_size, fill=1.0),
        device=device,
        request_id=request_id,
    )


def _certificate(certificate: Certificate) -> wire.Certificate:
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
