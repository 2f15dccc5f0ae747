"""Certificates encoded where they were made."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
import torch

from matfn import wire
from matfn_kernels.contract.certificate import Certificate, Outcome, Residual
from matfn_kernels.running.evaluation import Evaluation
from matfn_service.encoding import encode

if TYPE_CHECKING:
    from matfn_service.encoding import Encoded

GOOD = Certificate(Outcome.CONVERGED, Residual("orthogonality", 1e-7), 2e-7, 3.0, "gram", "fp64", 2)
MISSED = Certificate(
    Outcome.APPROXIMATE, None, None, None, "svd", "fp32", 0, 3, 0.5, 0.25, "gram", "not_converged", "no estimate"
)


@pytest.fixture
def encoded() -> Encoded:
    """Three matrices, the second of which missed its tolerance."""
    return encode(Evaluation((torch.arange(3.0),), (GOOD, MISSED, GOOD)))


def test_certificates_say_what_they_said(encoded: Encoded) -> None:
    """Every field arrives under its name."""
    answer = wire.EncodedAnswer({}, encoded.certificates, wire.Timing(0, 0, 1, 1), "cpu", "r")
    body = b"".join(wire.encode_answer(answer, wire.Media.MSGPACK))
    arrived = wire.decode_answer(body, wire.Media.MSGPACK).certificates

    for sent, got in zip((GOOD, MISSED, GOOD), arrived, strict=True):
        for name in Certificate._fields[2:]:
            assert getattr(got, name) == getattr(sent, name)
        assert got.outcome == sent.outcome.value
    assert arrived[0].residual == wire.Residual("orthogonality", 1e-7)
    assert arrived[1].residual is None


def test_rows_keep_statuses_and_certificates(encoded: Encoded) -> None:
    """A part of it has the values, statuses and certificates of its matrices."""
    part = encoded.rows(1, 2)

    assert (part.items, part.statuses[0].code, part.statuses[0].fallback) == (1, "not_converged", "gram")
    assert part.certificates == encoded.certificates[1:2]
    assert part.outputs[0].tolist() == [1.0]


def test_a_fate_is_pickled_once() -> None:
    """A thousand matrices of one status cost a message little more than their certificates."""
    many = encode(Evaluation((torch.zeros(1000),), (GOOD,) * 1000))

    assert len({id(status) for status in pickle.loads(pickle.dumps(many.statuses))}) == 1  # noqa: S301 - our own
