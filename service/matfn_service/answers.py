"""Answers on the wire, from the evaluations of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn import wire
from matfn_kernels import ENTRIES, demand
from matfn_service.tensors import rows_to_wire

if TYPE_CHECKING:
    from matfn_service.admission import Prepared
    from matfn_service.heads import Head
    from matfn_service.jobs import Served

__all__ = ["answer_of", "copies_for", "weight"]

# encoding one certificate takes about as long as copying so much
_CERTIFICATE_BYTES: Final = {wire.Media.MSGPACK: 2 * 2**10, wire.Media.JSON: 64 * 2**10}
_JSON_COPIES: Final = 4  # an output as base64, as text, as bytes and in the transport


def weight(prepared: Prepared, head: Head) -> int:
    """Time to make and encode the answer, as the number of bytes that could be copied in it."""
    items = prepared.batch.items
    # msgpack sends the tensors' own memory; JSON copies it thrice, and a triangle is found and copied
    is_copied = head.answer is wire.Media.JSON or head.triangle is not None
    return items * (_CERTIFICATE_BYTES[head.answer] + (prepared.plan.bytes if is_copied else 0))


def copies_for(head: Head) -> int:
    """How often outputs are copied into the answer to a request."""
    return (_JSON_COPIES if head.answer is wire.Media.JSON else 0) + (head.triangle is not None)


def answer_of(prepared: Prepared, served: Served, device: str, profile: str, head: Head) -> wire.EncodedAnswer:
    """The answer to one call: outputs by their names in the catalogue, one certificate a matrix.

    Args:
        prepared: the call.
        served: the answers of its jobs.
        device: its name.
        profile: name@hash of the profile that chose the method.
        head: of the request.

    Raises:
        Rejection: if a matrix has no answer and the call asked for an error then.
    """
    call, evaluations = prepared.call, served.evaluations
    demand(call, (status for evaluation in evaluations for status in evaluation.statuses))
    queue_ms, device_ms = served.queue_seconds * 1e3, served.device_seconds * 1e3
    columns = zip(*(evaluation.outputs for evaluation in evaluations), strict=True)
    entry = ENTRIES[call.function]
    named = dict(zip(entry.outputs_of(call.inputs, call.parameters), columns, strict=True))
    rows = {name: rows_to_wire(column, call.lead, head.triangle) for name, column in named.items()}
    return wire.EncodedAnswer(
        outputs={name: row for name, row in rows.items() if name not in entry.gradients},
        certificates=[octets for evaluation in evaluations for octets in evaluation.certificates],
        timing=wire.Timing(queue_ms, device_ms, served.batch_size, served.fill, profile),
        device=device,
        request_id=head.request_id,
        gradients={name: row for name, row in rows.items() if name in entry.gradients},
    )
