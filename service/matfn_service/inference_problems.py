"""Problems as clients of the Open Inference Protocol see them: one text, with the hint in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from matfn.errors import TABLE
from matfn_service.problems import problem_of

if TYPE_CHECKING:
    from matfn.errors import Problem
    from matfn_service.problems import Refusal

__all__ = ["GRPC_HINT", "HTTP_HINT", "inference_problem", "told"]

HTTP_HINT: Final = (
    "the body is JSON with inputs (name, shape, datatype, and data or a binary_data_size) and at most outputs,"
    " parameters and id; where binary tensors follow it, the header Inference-Header-Content-Length has its length"
)
GRPC_HINT: Final = (
    "the message is a ModelInferRequest; inputs have name, datatype and shape, and their numbers are in"
    " raw_input_contents, one for each input in order"
)


def inference_problem(refusal: Refusal, request_id: str, hint: str) -> Problem:
    """The problem of a refusal; of what cannot be read, the hint is that of the protocol and not of /v1."""
    problem = problem_of(refusal, request_id)
    is_general = problem.code == "malformed" and problem.hint == TABLE["malformed"].hint
    return replace(problem, hint=hint) if is_general else problem


def told(problem: Problem) -> str:
    """A problem in words, for clients that show one text alone."""
    return f"{problem.detail}: {problem.hint}" if problem.hint else problem.detail
